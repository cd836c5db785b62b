"""Text of `Field: value` lines, whole columns at a time: what may stand in a value, what refuses a record, the joining.

A value is printable ASCII. What is not (a control character, each byte of a UTF-8 sequence) is written as the four
characters `\\xNN`, and of two percent signs in a row, which would end the record, the second one as `\\x25`. This comes
before every length.

Masks are NumPy arrays of booleans, one a row. Whether a column needs escaping is seen on its bytes as a whole, so that
ordinary columns cost next to nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pub.formats.contract import Rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Values = pa.Array[Any]
    Part = tuple[str, Values, str]
    """A column of texts, and what stands before and after each of them; a row without a value has none of the three."""

Mask = npt.NDArray[np.bool_]

LARGEST_INTEGER = 2**31 - 1

_BLANK = 0x20
_TILDE = 0x7E
_NULL_WORDS = pa.array(["none", "null"])
_NULL_WORD_BYTES = 4
_UNSAFE = r"[^ -~]|%%"
_ESCAPED = [chr(byte) if _BLANK <= byte <= _TILDE else f"\\x{byte:02X}" for byte in range(256)]
_DECIMALS = pa.array([f".{thousandths:03d}".rstrip("0").rstrip(".") for thousandths in range(1000)])
_LARGEST_THOUSANDTHS = 9_999_999_999


def escaped(values: Values) -> Values:
    """The texts as they may be written, see the module; nulls stay null."""
    if all_printable(values, b"%"):
        return values
    raw = values.cast(pa.binary())
    unsafe = cast("pa.BooleanArray", pc.match_substring_regex(raw, _UNSAFE).fill_null(False))
    texts = pa.array([_escape(unit.as_py()) for unit in raw.filter(unsafe)], pa.string())
    return cast("Values", pc.replace_with_mask(values, unsafe, texts))


def all_printable(values: Values, but: bytes) -> bool:
    """Whether the texts are of printable ASCII alone, and of none of the bytes `but`."""
    _, codes = _offsets_and_bytes(values)
    within = not codes.size or bool(codes.min() >= _BLANK and codes.max() <= _TILDE)
    return within and not any((codes == byte).any() for byte in but)


def _escape(raw: bytes) -> str:
    return "".join(map(_ESCAPED.__getitem__, raw)).replace("%%", "%\\x25")


def decimals(thousandths: npt.NDArray[np.int64]) -> Values:
    """Non-negative thousandths as plain decimal numbers without trailing zeros: 12500 is `12.5`, 2500000 is `2500`."""
    whole = pa.array(thousandths // 1000).cast(pa.string())
    return joined(whole, _DECIMALS.take(pa.array(thousandths % 1000, pa.int64())))


def decimal_text(figure: float) -> str | None:
    """A number as `Sheet.decimal` writes it; None for one that the receiver cannot hold."""
    thousandths = round(min(figure, 1e7) * 1000)
    if not 0 < thousandths <= _LARGEST_THOUSANDTHS:
        return None
    return cast("str", decimals(np.array([thousandths], dtype=np.int64))[0].as_py())


def joined(*pieces: Values | str) -> Values:
    """Columns and literal texts put together row by row; null where one of the columns is."""
    return cast("Values", pc.binary_join_element_wise(*pieces, ""))  # type: ignore[call-overload]


def by_distinct(values: Values, function: Callable[[str], str | None]) -> Values:
    """`function` of each value, called once for each distinct one; null stays null."""
    encoded = values.dictionary_encode()
    results = pa.array([function(value) for value in cast("list[str]", encoded.dictionary.to_pylist())], pa.string())
    return results.take(encoded.indices)


def content_of(values: Values) -> memoryview:
    """The bytes of all texts, one after the other, where they are; a null has none."""
    return _offsets_and_bytes(values)[1].data


def stripped(values: Values) -> tuple[Values, npt.NDArray[np.int32]]:
    """The texts escaped and without blanks at either end, and their lengths (-1 for null)."""
    texts = escaped(values)
    lengths, at_edge = _lengths_and_blanks(texts)
    if at_edge.any():
        texts = pc.ascii_trim(texts, characters=" ")
        lengths, _ = _lengths_and_blanks(texts)
    return texts, lengths


def valid(values: Values) -> Mask:
    """Where the column has a value."""
    if not values.null_count:
        return np.ones(len(values), dtype=np.bool_)
    return np.asarray(values.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def blanked(values: Values, mask: Mask) -> Values:
    """The column with null where the mask is set."""
    return pc.if_else(pa.array(mask), pa.scalar(None, values.type), values) if mask.any() else values


def holds(condition: Values) -> Mask:
    """Where the condition holds; null does not."""
    return np.asarray(condition.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)


class Sheet:
    """The rows of one batch on their way out: which are refused and why, and which optional values are left out.

    `jobs`: for how many jobs a row stands, where it stands for several; they are what is counted.
    """

    def __init__(self, rows: int, jobs: npt.NDArray[np.int64] | None = None) -> None:
        self._rows = rows
        self._jobs = jobs
        self._reasons: list[str] = []
        self._reason_of_row = np.full(rows, -1, dtype=np.int32)
        self._left_out: list[tuple[Mask, str]] = []

    def refuse(self, mask: Mask, reason: str) -> None:
        """Refuses the rows of the mask; a row keeps the first reason given for it."""
        if mask.any():
            self._reason_of_row[mask & (self._reason_of_row < 0)] = len(self._reasons)
            self._reasons.append(reason)

    def note_left_out(self, mask: Mask, what: str) -> None:
        """Counts the rows of the mask under `field: reason`, unless the whole row is refused in the end."""
        if mask.any():
            self._left_out.append((mask, what))

    def key(self, label: str, values: Values, limit: int) -> Values:
        """A text of the receiver's key: any change to it would make another job, so what does not fit refuses."""
        texts = escaped(values)
        lengths, at_edge = _lengths_and_blanks(texts)
        self.refuse(lengths <= 0, f"{label} is missing")
        self.refuse(at_edge, f"{label} begins or ends with a blank, which the receiver would strip")
        self.refuse(_null_words(texts, lengths), f"{label} is `none` or `null`, which the receiver reads as no value")
        self.refuse(lengths > limit, f"{label} is longer than {limit} characters")
        return texts

    def text(self, label: str, values: Values, limit: int, *, keep_null_words: bool = False) -> Values:
        """An optional text: stripped as the receiver does, and left out where it is nothing then, or too long."""
        texts, lengths = stripped(values)
        self.note_left_out(lengths == 0, f"{label}: empty")
        self.note_left_out(lengths > limit, f"{label}: longer than {limit} characters")
        unfit = (lengths == 0) | (lengths > limit)
        if not keep_null_words:
            null_words = _null_words(texts, lengths)
            self.note_left_out(null_words, f"{label}: `none` or `null`, which the receiver reads as no value")
            unfit |= null_words
        return blanked(texts, unfit)

    def integer(self, label: str, values: Values, *, required: bool, most: int = LARGEST_INTEGER) -> Values:
        """A number the receiver keeps in 32 bits, or as stated; else it refuses the row, as does its absence if required."""
        absent = ~valid(values)
        if required:
            self.refuse(absent, f"{label} is missing")
        self.refuse(_out_of_range(values, most) & ~absent, f"{label} is negative or over {most}")
        return values.cast(pa.string())

    def size(self, label: str, values: Values, *, most: int = LARGEST_INTEGER) -> Values:
        """As `optional`, of a number that nearly every job has: its absence is counted, too."""
        self.note_left_out(~valid(values), f"{label}: not known")
        return self.optional(label, values, most=most)

    def optional(self, label: str, values: Values, *, most: int = LARGEST_INTEGER) -> Values:
        """An optional number that is left out, and counted, where the receiver could not keep it."""
        unfit = _out_of_range(values, most) & valid(values)
        self.note_left_out(unfit, f"{label}: negative or over {most}")
        return blanked(values, unfit).cast(pa.string())

    def decimal(self, label: str, values: Values) -> Values:
        """A required number above 0, to three decimals, that the receiver's DECIMAL(10,3) can hold."""
        encoded = values.dictionary_encode()
        figures = np.nan_to_num(encoded.dictionary.to_numpy(zero_copy_only=False), nan=0.0)
        thousandths = np.rint(np.clip(figures, 0.0, 1e7) * 1000).astype(np.int64)
        fits = (thousandths > 0) & (thousandths <= _LARGEST_THOUSANDTHS)
        texts = blanked(decimals(thousandths), ~fits).take(encoded.indices)
        absent = ~valid(values)
        self.refuse(absent, f"{label} is missing")
        self.refuse(~valid(texts) & ~absent, f"{label} is not a number from 0.001 to 9999999.999")
        return texts

    def rendered(self, lines: Iterable[tuple[str, Values]]) -> Rendered:
        """The rows as records: the lines in the order given, without those that are null, each record ended by `%%`."""
        return self.finished([*((f"{label}: ", values, "\n") for label, values in lines), "%%\n"])

    def finished(self, parts: Iterable[Part | str]) -> Rendered:
        """The rows as records put together of these parts, and what was refused and left out on the way."""
        return self.told_of(assembled(parts, self._rows))

    def told_of(self, records: Values) -> Rendered:
        """These records, one a row, and what was refused and left out on the way."""
        refused = self._reason_of_row >= 0
        reasons = pa.array(self._reasons, pa.string()).take(pa.array(self._reason_of_row, pa.int32(), mask=~refused))
        counts: Counter[str] = Counter()
        for mask, what in self._left_out:
            counts[what] += self._count(mask & ~refused)
        left_out = {what: n for what, n in counts.items() if n}
        return Rendered(blanked(records, refused), reasons, left_out)

    def _count(self, mask: Mask) -> int:
        return int(np.count_nonzero(mask) if self._jobs is None else self._jobs[mask].sum())


def assembled(parts: Iterable[Part | str], rows: int) -> Values:
    """One text a row: literal texts, and columns with what is around each value; nothing where a column is null.

    A column that some rows lack is joined by itself, so that what is around it goes with its value.
    """
    pieces: list[Values | str] = []
    literal = ""
    for part in parts:
        if isinstance(part, str):
            literal += part
            continue
        before, values, after = part
        if values.null_count == rows:
            continue
        if (common := _common_value(values)) is not None:
            literal += f"{before}{common}{after}"
        elif values.null_count:
            pieces += [literal, joined(before, values, after)]
            literal = ""
        else:
            pieces += [f"{literal}{before}", values]
            literal = after
    if not pieces:
        return pa.repeat(literal, rows)
    texts = pc.binary_join_element_wise(*pieces, literal, "", null_handling="replace", null_replacement="")  # type: ignore[call-overload]
    return cast("Values", texts)


def _common_value(values: Values) -> str | None:
    """The one text that all rows have, as a site's name is; None where they differ: mostly the first and last do."""
    first = values[0]
    if values.null_count or first != values[-1] or not pc.all(pc.equal(values, first)).as_py():
        return None
    return str(first)


def _offsets_and_bytes(values: Values) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Where each text begins and the last one ends, counted from the first, and the bytes of all of them."""
    _, offsets, characters = values.buffers()
    if not len(values) or offsets is None or characters is None:
        return np.zeros(len(values) + 1, dtype=np.int32), np.zeros(0, dtype=np.uint8)
    bounds = np.frombuffer(memoryview(offsets), dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    codes = np.frombuffer(memoryview(characters), dtype=np.uint8)[bounds[0] : bounds[-1]]
    return bounds - bounds[0], codes


def _lengths_and_blanks(values: Values) -> tuple[npt.NDArray[np.int32], Mask]:
    """Length in bytes of each text, -1 for null, and which of them begin or end with a blank."""
    bounds, codes = _offsets_and_bytes(values)
    lengths = np.diff(bounds)
    at_edge = np.zeros(len(values), dtype=np.bool_)
    if codes.size:
        first = codes[np.minimum(bounds[:-1], codes.size - 1)]
        last = codes[np.maximum(bounds[1:] - 1, 0)]
        at_edge = ((first == _BLANK) | (last == _BLANK)) & (lengths > 0)
    if values.null_count:
        present = valid(values)
        lengths = np.where(present, lengths, np.int32(-1))
        at_edge &= present
    return lengths, at_edge


def _null_words(values: Values, lengths: npt.NDArray[np.int32]) -> Mask:
    found = np.zeros(len(values), dtype=np.bool_)
    candidates = np.flatnonzero(lengths == _NULL_WORD_BYTES)
    if candidates.size:
        words = pc.ascii_lower(values.take(pa.array(candidates, pa.int64())))
        found[candidates] = pc.is_in(words, value_set=_NULL_WORDS).to_numpy(zero_copy_only=False)
    return found


def outside(values: Values, least: int, most: int) -> Mask:
    """Where a number is less, or more; null is neither."""
    numbers = values.fill_null(least).to_numpy(zero_copy_only=False)
    return np.asarray((numbers < least) | (numbers > most))


def _out_of_range(values: Values, most: int) -> Mask:
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(numbers.view(np.uint64) > most)
