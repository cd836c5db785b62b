"""What the sections of the configuration are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

File = Annotated[Path, Field(strict=False)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are not converted behind anybody's back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def key(doc: str, default: Any = ..., *, sample: object = None, **limits: Any) -> Any:
    """A key of a section: its doc, its default (required if left out), what the sample configuration shows for it."""
    return Field(default, description=doc, json_schema_extra={"sample": sample}, **limits)  # type: ignore[dict-item]
