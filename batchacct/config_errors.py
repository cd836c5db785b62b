"""What is wrong with a configuration, told as a person can mend it: every key with its place, an unknown one with the nearest."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def told_errors(error: ValidationError, section: type[BaseModel], where: str = "") -> str:
    """Every wrong key of a section, a line each; `where` is where the section itself stands."""
    return "\n".join(f"  {_told(one, section, where)}" for one in error.errors(include_url=False))


def _told(error: Any, root: type[BaseModel], base: str) -> str:
    parts = [*([base] if base else []), *(f"[{part + 1}]" if isinstance(part, int) else str(part) for part in error["loc"])]
    where = ".".join(parts).replace(".[", "[")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), list(_section_at(root, error["loc"][:-1]).model_fields), 1)
        return f"{where}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")
    if error["type"] == "missing":
        return f"{where}: is required"
    if error["type"] == "string_pattern_mismatch":
        such = _example_of(_section_at(root, error["loc"][:-1]), error["loc"][-1])
        return f"{where}: {error['input']!r} has to be written otherwise{such}: it does not match {error['ctx']['pattern']}"
    return f"{where or 'as a whole'}: {error['msg'].removeprefix('Value error, ')}"


def _section_at(root: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The nearest section that has a place in it."""
    section = root
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = section_of(section, part) or section
    return section


def _example_of(section: type[BaseModel], name: object) -> str:
    """A value that a key may have, as its declaration tells."""
    field = section.model_fields.get(str(name))
    extra = field.json_schema_extra if field is not None else None
    sample = extra.get("sample") if isinstance(extra, dict) else None
    example = sample or (field.default if field is not None and not field.is_required() else None)
    return f", such as {example}" if isinstance(example, str) and example else ""


def section_of(section: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section class of a key that is a table or a list of tables; None for a plain key."""
    annotation = section.model_fields[name].annotation
    inner: object = getattr(annotation, "__args__", (annotation,))[0]
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
