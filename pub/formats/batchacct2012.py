"""The message of the 2012 batchacct: header v1.1, its own order of fields, and which of them are written is configured.

apel/apel 2.5.0 takes such a message only without the field Infrastructure. The checks are those of `pub.formats.apel`.

The layout has no field for the VO: a job of which the VO is known and no FQAN has that of every member, `/vo`.

Source: jeromebelleman/batchacct, pub/batchacct/join.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchacct.errors import ConfigError
from pub.formats.apel import FIELDS as APEL_FIELDS
from pub.formats.apel import Field, checked, message_of, text, with_fqan
from pub.formats.text import Sheet

if TYPE_CHECKING:
    import pyarrow as pa

    from pub.formats.contract import Rendered
    from pub.formats.text import Values

_APEL = {field.label: field for field in APEL_FIELDS}
_ORDER = (
    "Site",
    "SubmitHost",
    "LocalJobId",
    "FQAN",
    "WallDuration",
    "CpuDuration",
    "Processors",
    "NodeCount",
    "StartTime",
    "EndTime",
    "MemoryReal",
    "MemoryVirtual",
    "ServiceLevelType",
    "ServiceLevel",
)

FIELDS = (*(_APEL[label] for label in _ORDER), Field("Infrastructure", "infrastructure_type", text, 20))
"""Every field of the layout, in the order in which they are written."""

WITHHELD = ("LocalUserId", "GlobalUserName")
"""Named in the settings of 2012, and never written."""

REQUIRED = (
    "Site",
    "LocalJobId",
    "WallDuration",
    "CpuDuration",
    "StartTime",
    "EndTime",
    "ServiceLevelType",
    "ServiceLevel",
)
"""Without one of these the receiver refuses the whole message."""


class Batchacct2012:
    """The 2012 layout; `fields` selects what is written, in the layout's order whatever its own; None is all of them.

    Raises: ConfigError for a field the layout does not have, or without one that every record needs.
    """

    name = "batchacct-2012"
    doc = "the 2012 batchacct's messages, v1.1: selected fields"
    header = "APEL-individual-job-message: v1.1"
    wants: frozenset[str] = frozenset()

    def __init__(self, fields: tuple[str, ...] | None = None) -> None:
        labels = {field.label for field in FIELDS}
        chosen = labels if fields is None else set(fields)
        if unknown := sorted(chosen - labels - set(WITHHELD)):
            raise ConfigError(f"fields: {', '.join(unknown)} is not in the 2012 message. Use {', '.join(sorted(labels))}.")
        if missing := [label for label in REQUIRED if label not in chosen]:
            raise ConfigError(f"fields: the receiver refuses records without {', '.join(missing)}. Add it to the list.")
        self.fields = tuple(field for field in FIELDS if field.label in chosen)

    def render(self, records: pa.RecordBatch, now: int) -> Rendered:
        """`USAGE_RECORD` rows to text, each checked against the loader's rules; `now` is Unix time."""
        sheet = Sheet(records.num_rows)
        return sheet.rendered(checked(sheet, self.fields, with_fqan(records), now).items())

    def message(self, records: Values) -> bytes:
        """One message of these record texts (at least one, none of them null)."""
        return message_of(self.header, records)


BATCHACCT_2012 = Batchacct2012()
