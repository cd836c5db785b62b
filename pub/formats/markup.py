"""Usage records as XML elements, whole columns at a time: what may stand in a value, and what elements a column becomes.

The text is ASCII: another character is written as a reference (`&#233;`), and so are tab, line feed and carriage return, which a
receiver would otherwise be free to change. The control characters and U+FFFE, U+FFFF, which XML 1.0 cannot hold at all, are
written as the four characters `\\xNN`, one for each byte of UTF-8. This comes before every length.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pub.formats.text import assembled, blanked, content_of, holds, joined, valid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from pub.formats.apel import Field
    from pub.formats.text import Mask, Part, Sheet, Values

UNLIMITED = 2**31 - 1
"""The limit of a text that no receiver is known to cut or refuse."""

_LAST_INSTANT = 253_402_300_799
"""9999-12-31T23:59:59Z: a dateTime of more digits is legal, and nobody reads it."""

_DOMAIN_LABEL = "[A-Za-z0-9][A-Za-z0-9'-]*[A-Za-z0-9]"
_DOMAIN_NAME = rf"(?:{_DOMAIN_LABEL}\.)*(?:{_DOMAIN_LABEL})?"
_LONGEST_DOMAIN_NAME = 255

_WHITE = "\t\n\r"
_UNHOLDABLE = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x{FFFE}\x{FFFF}]"
_LEAD_OF_FFFE = 0xEF
_HOLDABLE_BYTES = np.array([(byte >= 0x20 or chr(byte) in _WHITE) and byte != _LEAD_OF_FFFE for byte in range(256)])
_AS_BYTES = {
    code: "".join(f"\\x{byte:02X}" for byte in chr(code).encode())
    for code in (*range(0x20), 0xFFFE, 0xFFFF)
    if chr(code) not in _WHITE
}
_SPECIAL = r"""[^ -~]|[&<>"]"""
_PLAIN_BYTES = np.array([0x20 <= byte <= 0x7E and byte not in b'&<>"' for byte in range(256)])
_REFERENCES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", **{c: f"&#{ord(c)};" for c in f"{_WHITE}\x7f"}})

STATUS = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "aborted",
    "timeout": "aborted",
    "out_of_memory": "aborted",
    "node_fail": "failed",
    "preempted": "aborted",
    "requeued": "aborted",
    "never_started": "aborted",
    "unknown": "completed",
}
"""How a job ended in the words of GFD.98: aborted is what a person or a rule of the site ended, failed what broke by itself."""
_STATES, _STATUSES = pa.array(list(STATUS.keys())), pa.array(list(STATUS.values()))


def held(values: Values) -> Values:
    """The texts with what XML cannot hold written as `\\xNN`."""
    return _mended(values, _HOLDABLE_BYTES, _UNHOLDABLE, lambda text: text.translate(_AS_BYTES))


def written(values: Values) -> Values:
    """Texts that XML can hold, as they stand in an element or between double quotes."""
    return _mended(values, _PLAIN_BYTES, _SPECIAL, _written)


def _written(text: str) -> str:
    return text.translate(_REFERENCES).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _mended(values: Values, fit_bytes: Mask, unfit: str, mend: Callable[[str], str]) -> Values:
    """The column with those texts mended that match `unfit`; that none does is seen on its bytes as a whole."""
    if fit_bytes[np.asarray(content_of(values))].all():
        return values
    found = cast("pa.BooleanArray", pc.match_substring_regex(values, unfit).fill_null(False))
    texts = pa.array([mend(value) for value in cast("list[str]", values.filter(found).to_pylist())], pa.string())
    return cast("Values", pc.replace_with_mask(values, found, texts))


def moments(values: Values) -> Values:
    """Unix seconds as `2026-11-27T01:02:03Z`; null outside the years 1970 to 9999."""
    inside = holds(pc.greater_equal(values, pa.scalar(0))) & holds(pc.less_equal(values, pa.scalar(_LAST_INSTANT)))
    texts = blanked(values, ~inside).cast(pa.timestamp("s")).cast(pa.string())
    return joined(pc.binary_replace_slice(texts, start=10, stop=11, replacement="T"), "Z")


def element(name: str, values: Values, attributes: str = "") -> Part:
    """An element with these values as its content, on a line of its own; none where there is no value."""
    return f"<urf:{name}{attributes and ' '}{attributes}>", values, f"</urf:{name}>\n"


def resource(description: str, values: Values) -> Part:
    """What the schema has no element for."""
    return element("Resource", values, f'urf:description="{description}"')


def group(name: str, parts: Iterable[Part | str], rows: int) -> Part:
    """An element with the parts as its content; none where all of them are absent."""
    inner = assembled(parts, rows)
    return element(name, blanked(inner, holds(pc.equal(inner, pa.scalar("")))))


def document(namespaces: str, records: Values) -> bytes:
    """A message: one document of these records.

    It names no encoding, so that a reader may decode it first, and nothing stands before its root: APEL's would refuse it.
    """
    return b'<?xml version="1.0"?>\n<urf:UsageRecords %s>\n%s</urf:UsageRecords>\n' % (
        namespaces.encode("ascii"),
        content_of(records),
    )


def text(sheet: Sheet, field: Field, values: Values) -> Values:
    """An optional text, as it is; left out where it is empty or too long."""
    texts = held(values)
    lengths = _lengths(texts)
    sheet.note_left_out(lengths == 0, f"{field.label}: empty")
    sheet.note_left_out(lengths > field.limit, f"{field.label}: longer than {field.limit} characters")
    return written(blanked(texts, (lengths == 0) | (lengths > field.limit)))


def key(sheet: Sheet, field: Field, values: Values) -> Values:
    """A text that is part of the record's id: what does not fit refuses."""
    texts = held(values)
    lengths = _lengths(texts)
    sheet.refuse(lengths <= 0, f"{field.label} is missing")
    sheet.refuse(lengths > field.limit, f"{field.label} is longer than {field.limit} characters")
    refuse_collapsing(sheet, field, texts)
    return written(texts)


def refuse_collapsing(sheet: Sheet, field: Field, values: Values) -> None:
    """Refuses texts of which a recordId would not keep all white space: it is a token, in which a row of blanks is one."""
    collapsing = holds(pc.match_substring_regex(values, r"^ | $|  |[\t\n\r]"))
    sheet.refuse(collapsing, f"{field.label} has white space that a recordId does not keep")


def machine_name(sheet: Sheet, field: Field, values: Values) -> Values:
    """The host of the batch system's server: required, and part of the record's id."""
    sheet.refuse(~valid(values), f"{field.label} is missing: set machine_name of the cluster")
    unfit = ~is_domain_name(values, field.limit) & valid(values)
    sheet.refuse(unfit, f"{field.label} is no domain name of at most {field.limit} characters: set machine_name of the cluster")
    return blanked(values, unfit)


def is_domain_name(values: Values, limit: int) -> Mask:
    """Where the text is a domain name as the schemas have it: labels of two characters or more, of letters, digits, `-` and `'`."""
    lengths = _lengths(values)
    return holds(pc.match_substring_regex(values, f"^{_DOMAIN_NAME}$")) & (lengths > 0) & (lengths <= limit)


def positive(sheet: Sheet, field: Field, values: Values) -> Values:
    """An optional number, which the schemas want above 0; left out where it is not, or unknown."""
    sheet.note_left_out(~valid(values), f"{field.label}: not known")
    unfit = holds(pc.less_equal(values, pa.scalar(0)))
    sheet.note_left_out(unfit, f"{field.label}: not above 0")
    return blanked(values, unfit).cast(pa.string())


def count(sheet: Sheet, field: Field, values: Values) -> Values:
    """As `positive`, of what the receiver keeps in 32 bits: outside them it refuses the row."""
    texts = sheet.integer(field.label, values, required=False)
    zero = holds(pc.equal(values, pa.scalar(0)))
    sheet.note_left_out(zero, f"{field.label}: not above 0")
    return blanked(texts, zero)


def moment(sheet: Sheet, field: Field, values: Values) -> Values:
    """An optional time."""
    texts = moments(values)
    sheet.note_left_out(valid(values) & ~valid(texts), f"{field.label}: not within the years 1970 to 9999")
    return texts


def statuses(states: Values) -> Values:
    """How the jobs ended; they have ended, so where nothing else is known that is `completed`."""
    known = _STATUSES.take(pc.index_in(states, value_set=_STATES))
    return known.fill_null("completed")


def gpus(sheet: Sheet, field: Field, values: Values) -> Values:
    """A number of GPUs."""
    unfit = holds(pc.less(values, pa.scalar(0)))
    sheet.note_left_out(unfit, f"{field.label}: negative")
    return blanked(values, unfit).cast(pa.string())


def hosts(sheet: Sheet, field: Field, values: Values) -> Values:
    """The execution hosts, of a JSON list of `slots*host`, as elements, the first one marked as primary."""
    encoded = values.dictionary_encode()
    named = [_host_names(text) for text in cast("list[str]", encoded.dictionary.to_pylist())]
    long = [sum(map(len, names)) + len(names) - 1 > field.limit for names in named]
    odd = [not names or not all(map(_is_domain_name, names)) for names in named]
    texts = [None if too_long else _host_elements(names) for names, too_long in zip(named, long, strict=True)]
    for flags, what in ((long, f"longer than {field.limit} characters in all"), (odd, "no domain name")):
        sheet.note_left_out(holds(pa.array(flags, pa.bool_()).take(encoded.indices)), f"{field.label}: {what}")
    return pa.array(texts, pa.string()).take(encoded.indices)


def _host_names(text: str) -> list[str]:
    """The names in the list, without slots; none if it is no list of texts."""
    try:
        entries = json.loads(text)
    except ValueError:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        return []
    return [entry.partition("*")[2] or entry for entry in entries]


def _is_domain_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_DOMAIN_NAME and re.fullmatch(_DOMAIN_NAME, name) is not None


def _host_elements(names: list[str]) -> str | None:
    attributes = [' urf:primary="true"', *([""] * (len(names) - 1))]
    fit = ((name, attribute) for name, attribute in zip(names, attributes, strict=False) if _is_domain_name(name))
    return "".join(f"<urf:Host{attribute}>{name}</urf:Host>\n" for name, attribute in fit) or None


def _lengths(values: Values) -> npt.NDArray[np.int32]:
    """The number of characters of each text, -1 for null."""
    lengths = pc.utf8_length(cast("pa.StringArray", values)).fill_null(-1)
    return cast("npt.NDArray[np.int32]", lengths.to_numpy(zero_copy_only=False))
