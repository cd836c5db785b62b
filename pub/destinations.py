"""What a destination gets: its filter, as a mask over usage records."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.config import Destination
from pub.formats.text import by_distinct

if TYPE_CHECKING:
    from pub.formats.text import Values

Mask = npt.NDArray[np.bool_]


def is_for(destination: Destination, records: pa.RecordBatch) -> Mask | None:
    """Which records of a batch the destination gets; None: all of them. A record without any VO is matched as ''."""
    masks = []
    if destination.vos != ["*"]:
        of_fqan = by_distinct(records.column("fqan"), vo_of_fqan)
        vos = cast("Values", pc.coalesce(records.column("vo"), of_fqan).fill_null(""))
        masks.append(_where(vos, lambda vo: any(fnmatchcase(vo, one) for one in destination.vos)))
    if destination.infrastructure != "all":
        masks.append(_where(records.column("infrastructure_type"), lambda kind: kind == destination.infrastructure))
    return np.logical_and.reduce(masks) if masks else None


def _where(values: Values, is_so: Callable[[str], bool]) -> Mask:
    """Where it is so of a text, asked once for each distinct one."""
    return by_distinct(values, lambda text: "" if is_so(text) else None).is_valid().to_numpy(zero_copy_only=False)


def vo_of_fqan(fqans: str) -> str:
    """The VO of the primary FQAN, as APEL reads it: its first component."""
    primary = fqans.split(";", maxsplit=1)[0]
    return primary.split("/")[1] if primary.startswith("/") else primary
