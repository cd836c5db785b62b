"""The sample configuration and its reference page, both generated from the fields of the configuration."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batchacct.config import EXAMPLE_CLUSTER, Config, is_duration
from batchacct.config_errors import section_of

_LISTS = ("source", "cluster", "benchmark", "capacity", "energy", "person", "application", "destination")
"""Tables that stand more than once: `[[source]]`."""

_INVENTED = {"capacity", "energy", "person", "application", "destination", "receive"}
"""Tables of which the sample shows but an example, commented out."""

_EXAMPLES: tuple[Found, ...] = ({}, {"name": "ce01", "parser": "blah", "paths": ["/var/log/cream/accounting/blahp.log-*"]})
_WITHIN = {"vo": {"rule": "[[vo.rule]]", "issuer": "[[vo.issuer]]"}, "receive": {"tls": "[receive.tls]"}}
"""Tables of tables."""

Found = dict[str, object]
"""Keys of a source, and their values."""


def sample(*, site: str | None = None, database: str | None = None, sources: Sequence[Found] = ()) -> str:
    """A complete configuration, every key with its doc and default; given values and found sources take the place of examples."""
    lines = [
        "# batchacct configuration. A key that is commented out shows its default.",
        '# Durations are seconds or a text such as "36h" (s, m, h, d, w).',
        "",
    ]
    given: dict[str, object] = {"site": site, "url": database}
    clusters = list(dict.fromkeys(str(source["cluster"]) for source in sources if "cluster" in source)) or [EXAMPLE_CLUSTER]
    if len(clusters) > 1:
        given |= {"local_job_id": "{cluster}-{id}", "local_job_id_array": "{cluster}-{id}-{index}"}
    lines += _keys(Config, given)
    for name in (
        "database",
        "source",
        "collect",
        "cluster",
        "ce",
        "benchmark",
        "capacity",
        "energy",
        "join",
        "vo",
        "person",
        "application",
        "publish",
        "destination",
        "serve",
        "portal",
        "receive",
        "archive",
        "retention",
    ):
        section = section_of(Config, name)
        if name == "ce":
            lines += _ce_table(clusters[0])
        elif name == "source":
            for source in sources or _EXAMPLES:
                lines += _table("[[source]]", section, source)
        elif name == "cluster":
            for cluster in clusters:
                lines += _table("[[cluster]]", section, {"name": cluster})
        elif section is not None:
            told = given | {"cluster": clusters[0]} if name == "capacity" else given
            table = _table(f"[[{name}]]" if name in _LISTS else f"[{name}]", section, told)
            # a site's own configuration shall begin with no made-up number, and none with made-up people, programs or receivers
            invented = (name == "benchmark" and site is not None) or name in _INVENTED
            lines += _commented(table) if invented else table
            for inner, title in _WITHIN.get(name, {}).items():
                lines += _commented(_table(title, section_of(section, inner), {}))
    return "\n".join(lines) + "\n"


def _table(title: str, section: type[BaseModel] | None, given: dict[str, object]) -> list[str]:
    assert section is not None
    doc = (section.__doc__ or "").strip().split("\n")[0]
    return ["", f"# {doc}", title, *_keys(section, given)]


def _keys(section: type[BaseModel], given: dict[str, object]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if section_of(section, name) is not None or name == "ce":
            continue
        yield f"# {field.description}"
        value = given.get(name) if given.get(name) is not None else sample_value(field)
        asked = name == "paths" and given.get("feed") is not None
        if field.is_required() or given.get(name) is not None or (_needed_sample(section, name) and not asked):
            yield f"{name} = {_toml(value)}"
        else:
            yield f"# {name} = {_toml(value if field.default is None else shown_default(field))}"


def _needed_sample(section: type[BaseModel], name: str) -> bool:
    """Keys without which a sample would not run: the database, paths and cluster of a source, the queues that wait."""
    return (section.__name__, name) in {
        ("Database", "url"),
        ("SourceKeys", "paths"),
        ("SourceKeys", "cluster"),
        ("Cluster", "grid_queues"),
    }


def _ce_table(cluster: str) -> list[str]:
    field = Config.model_fields["ce"]
    rows = [f"# {_toml(pattern)} = {_toml(cluster)}" for pattern in sample_value(field)]  # type: ignore[attr-defined]
    return ["", f"# {field.description}", "[ce]", *rows]


def _commented(lines: list[str]) -> list[str]:
    return [line if not line or line.startswith("#") else f"# {line}" for line in lines]


def sample_value(field: FieldInfo) -> object:
    """What the sample shows for a key: its own example, else its default."""
    extra = field.json_schema_extra
    shown = extra.get("sample") if isinstance(extra, dict) else None
    return shown if shown is not None else shown_default(field)


def shown_default(field: FieldInfo) -> object:
    if field.is_required() or field.default is None:
        return ""
    return _duration(field.default) if is_duration(field) and field.default >= 3600 else field.default


def _duration(seconds: int) -> object:
    for unit, length in (("d", 86_400), ("h", 3600)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return seconds


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def reference() -> str:
    """`docs/reference/configuration.md`: every table and key with type, default and meaning."""
    lines = ["# Configuration", "", "Generated from the fields in `batchacct/config.py`; a test holds it fresh.", ""]
    lines += ["One TOML file: `--config`, else `$BATCHACCT_CONFIG`, else `/etc/batchacct/batchacct.toml`.", ""]
    lines += _reference_table("top of the file", Config)
    for name in Config.model_fields:
        section = section_of(Config, name)
        if section is not None:
            lines += _reference_table(f"[[{name}]]" if name in _LISTS else f"[{name}]", section)
            for inner, title in _WITHIN.get(name, {}).items():
                lines += _reference_table(title, section_of(section, inner) or section)
    return "\n".join(lines)


def _reference_table(title: str, section: type[BaseModel]) -> list[str]:
    return [f"## `{title}`", "", (section.__doc__ or "").strip().split("\n")[0], "", *keys_table(section), ""]


def keys_table(section: type[BaseModel]) -> list[str]:
    """The keys of a section as a table of Markdown, but for those that are tables themselves."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in section.model_fields.items():
        if section_of(section, name) is None:
            default = "required" if field.is_required() else "" if field.default is None else f"`{_toml(shown_default(field))}`"
            meaning = re.sub(r"docs/reference/([a-z-]+)\.md", r"[\1](\1.md)", field.description or "")
            rows.append(f"| `{name}` | {default} | {meaning} |")
    return rows


def sections_within(section: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """Those keys that are tables, and their sections."""
    return [(name, within) for name in section.model_fields if (within := section_of(section, name)) is not None]
