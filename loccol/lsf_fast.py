"""The fast lane of the LSF parser: the records of all provably regular lines of a block at once.

A line is regular if nothing about it needs judgement: it begins with `"JOB_FINISH" "`, its quotes balance and stand at the
borders of fields, one blank lies between fields, what is unquoted is a plain number, the version is not Lava's, every field has
the very kind the table (`loccol.lsf_layout`) says, and it ends where a group of the table ends. Lists that are rare (usage by
host or by GPU, index ranges) must be empty. All else is framed as `LsfFraming` would and left to the careful lane.

The block is an array of bytes. Parity of the quotes tells inside from outside, blanks outside are the borders of fields, and
then everything is arithmetic on the numbers of fields: `positions["queue"][i]` is the number, in the whole block, of line
i's field `queue`. NumPy and Arrow do it without holding Python's lock, so that blocks parse in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from batchacct.model import JOB
from batchacct.parsing import Block, Regular, Source
from loccol.lsf_columns import EXEC_HOSTS, STRING_FIELD, WANTED, Bools, Bytes, Ints, Lexed, Positions, job_batch
from loccol.lsf_framing import unit_spans
from loccol.lsf_layout import BASE, LATER, TAIL, Item, Repeat, Run

RECORD_START = np.frombuffer(b'"JOB_FINISH" "', np.uint8)

NEWLINE, BLANK, QUOTE, MINUS, DOT = b'\n "-.'

INTEGER_FIELD, DECIMAL_FIELD = 0, 2
_FIELD_KINDS = {"i": INTEGER_FIELD, "n": INTEGER_FIELD, "s": STRING_FIELD, "f": DECIMAL_FIELD}

LONGEST_NUMBER = 16
"""Bytes; a longer number is left to the careful lane."""
LONGEST_COUNT = 4
"""Digits of the length of a list; a longer list is left to the careful lane."""
EMPTY_LISTS = frozenset({"hostRusage", "indexRanges", "gpuRusages"})


def fast_lane(block: Block, source: Source, label: str) -> Regular:
    """The regular lines of a block as job records, and the spans of all other units."""
    whole = block.data.rfind(b"\n") + 1
    if whole == 0 or source.cluster is None:
        return Regular(JOB.empty(), list(unit_spans(block.data, 0, len(block.data))))
    lexed = lex(block.data, whole)
    records, taken = job_batch(lexed, walk(lexed), block, source, label)
    return Regular(records, list(_left(lexed, taken)))


def lex(data: bytes, whole: int) -> Lexed:
    """The first `whole` bytes of `data`, complete lines, as lines and fields; lines with any lexical oddity are not regular."""
    array = np.frombuffer(data, np.uint8, whole)
    is_quote, is_newline = array == QUOTE, array == NEWLINE
    inside = _inside_quotes(is_quote)
    odd = None
    if (inside & is_newline).any():
        odd = _lines_of_odd_quotes(is_newline, is_quote)
        is_quote &= ~odd
        inside = _inside_quotes(is_quote)
    special = _special_outside(array, is_quote, inside)
    found = array[special]
    is_border = (found == BLANK) | (found == NEWLINE)
    field_ends = special[is_border]
    field_starts = _starts_after(field_ends)
    stop = np.flatnonzero(found[is_border] == NEWLINE) + 1
    first = _starts_after(stop - 1)
    starts, ends = field_starts[first], field_ends[stop - 1]

    regular = _begins_record(array, starts, ends)
    if odd is not None:
        regular &= ~odd[starts]
    is_string = array[field_starts] == QUOTE
    lengths = field_ends - field_starts
    _mark(regular, stop - 1, np.flatnonzero((lengths == 0) | (~is_string & (lengths > LONGEST_NUMBER))))
    opens, closes = is_quote & inside, is_quote > inside
    _mark(regular, ends, _misplaced_quotes((array == BLANK) | is_newline | is_quote, opens, closes))
    _mark_text(regular, data, array, ends)

    kinds = is_string.astype(np.uint8)
    in_numbers = np.flatnonzero(~is_border)
    field_of = in_numbers - np.arange(len(in_numbers))
    signs, sign_at = found[in_numbers], special[in_numbers]
    _mark(regular, ends, _misplaced_signs(array, signs, sign_at))
    with_dot = field_of[signs == DOT]
    _mark(regular, stop - 1, with_dot[1:][np.diff(with_dot) == 0])
    kinds[with_dot] += DECIMAL_FIELD
    doubled = _doubled_quotes(opens, closes, field_ends)
    return Lexed(data, array, starts, ends, field_starts, field_ends, kinds, doubled, first, stop, regular)


def _starts_after(ends: Ints) -> Ints:
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    return starts


def _lines_of_odd_quotes(is_newline: Bools, is_quote: Bools) -> Bools:
    """Which bytes are in a line with an odd number of quotes."""
    ends = np.flatnonzero(is_newline)
    odd = np.diff(np.searchsorted(np.flatnonzero(is_quote), ends), prepend=0) % 2 == 1
    return np.repeat(odd, ends + 1 - _starts_after(ends))


def _special_outside(array: Bytes, is_quote: Bools, inside: Bools) -> Ints:
    """Positions outside quotes that are neither digit nor quote: the end of a field, or part of a number."""
    plain = _is_digit(array)
    plain |= is_quote
    plain |= inside
    return np.flatnonzero(np.logical_not(plain, out=plain))


def _inside_quotes(is_quote: Bools) -> Bools:
    """Whether the number of quotes up to and with each byte is odd: a running parity, 64 bytes at a time.

    Within a word of 64 bits, six shifts make each bit the parity of those below; a word whose predecessors have odd parity
    together is inverted.
    """
    packed = np.packbits(is_quote, bitorder="little")
    words = np.zeros(-(-len(packed) // 8), np.uint64)
    words.view(np.uint8)[: len(packed)] = packed
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= words << np.uint64(shift)
    parity = np.bitwise_xor.accumulate(words >> np.uint64(63))
    words[1:] ^= np.uint64(0) - parity[:-1]
    inside: Bools = np.unpackbits(words.view(np.uint8), count=len(is_quote), bitorder="little").view(np.bool_)
    return inside


def _begins_record(array: Bytes, starts: Ints, ends: Ints) -> Bools:
    width = len(RECORD_START)
    begins = ends - starts > width
    at = starts[begins]
    same = np.ones(len(at), np.bool_)
    for offset, byte in enumerate(RECORD_START):
        same &= array[at + offset] == byte
    begins[begins] = same
    return begins


def _misplaced_quotes(is_beside: Bools, opens: Bools, closes: Bools) -> Ints:
    """Positions of quotes that open after, or close before, anything but a separator or another quote (`is_beside`)."""
    misplaced = np.zeros(len(opens), np.bool_)
    np.greater(opens[1:], is_beside[:-1], out=misplaced[1:])
    misplaced[:-1] |= closes[:-1] > is_beside[1:]
    return np.flatnonzero(misplaced)


def _doubled_quotes(opens: Bools, closes: Bools, field_ends: Ints) -> Bools:
    """Which fields have a quote that closes beside one that opens: a doubled one."""
    doubled = np.zeros(len(field_ends), np.bool_)
    doubled[np.searchsorted(field_ends, np.flatnonzero(closes[:-1] & opens[1:]))] = True
    return doubled


def _misplaced_signs(array: Bytes, signs: Bytes, at: Ints) -> Ints:
    """Positions of what makes no plain number: other bytes, a minus not before a number, a dot not between digits."""
    is_minus, is_dot = signs == MINUS, signs == DOT
    minus, dots = at[is_minus], at[is_dot]
    before = array[minus - 1]
    minus_good = ((before == BLANK) | (before == NEWLINE)) & _is_digit(array[minus + 1])
    dots_good = _is_digit(array[dots - 1]) & _is_digit(array[dots + 1])
    return np.concatenate((at[~(is_minus | is_dot)], minus[~minus_good], dots[~dots_good]))


def _is_digit(array: Bytes) -> Bools:
    return (array - np.uint8(ord("0"))) < 10


def _mark(regular: Bools, line_ends: Ints, bad: Ints) -> None:
    """Lines with a bad position (of bytes, or of fields; `line_ends` in the same measure) are not regular."""
    if len(bad):
        regular[np.searchsorted(line_ends, bad)] = False


def _mark_text(regular: Bools, data: bytes, array: Bytes, ends: Ints) -> None:
    """Lines with a NUL, or with bytes that may be no valid UTF-8, are not regular."""
    if b"\0" in data:
        _mark(regular, ends, np.flatnonzero(array == 0))
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            _mark(regular, ends, np.flatnonzero(array >= 0x80))


class _Walk:
    """Takes the fields of all regular lines in the order of the table; lines that depart from it are dropped on the way.

    `lines` are the numbers of the lines still walked, `at` the number of the next field of each.
    """

    def __init__(self, lexed: Lexed) -> None:
        self.lexed = lexed
        self.lines = np.flatnonzero(lexed.regular)
        self.at = lexed.first[self.lines]
        self.found = Positions(
            np.zeros(len(lexed.starts), np.bool_),
            {name: np.full(len(lexed.starts), -1, np.int64) for name in WANTED},
            np.zeros(len(lexed.starts), np.int64),
        )
        self.strings_before = np.concatenate(([0], np.cumsum(lexed.kinds == STRING_FIELD, dtype=np.int32)))

    def keep(self, good: Bools) -> None:
        if not good.all():
            self.lines, self.at = self.lines[good], self.at[good]

    def end_here(self) -> None:
        """Lines without a further field are done."""
        done = self.at == self.lexed.stop[self.lines]
        self.found.ended[self.lines[done]] = True
        self.keep(~done)

    def take(self, item: Item) -> None:
        if isinstance(item, Run):
            self.take_run(item)
        else:
            self.take_list(item)

    def take_run(self, run: Run) -> None:
        self.keep(self.at + len(run.kinds) <= self.lexed.stop[self.lines])
        self.keep(self._kinds_are(run.kinds, self.at))
        for offset, name in enumerate(run.names):
            if name in WANTED:
                self.found.fields[name][self.lines] = self.at + offset
        self.at = self.at + len(run.kinds)

    def take_list(self, item: Repeat) -> None:
        self.keep(self.at < self.lexed.stop[self.lines])
        counts, good = self._counts()
        following = self.at + 1 + counts * len(item.kinds)
        good &= (following <= self.lexed.stop[self.lines]) & ((counts == 0) | (item.name not in EMPTY_LISTS))
        self.keep(good)
        counts, following = counts[good], following[good]
        fits = self._list_fits(item.kinds, counts, following)
        if item.name == EXEC_HOSTS:
            self.found.fields[EXEC_HOSTS][self.lines] = self.at + 1
            self.found.host_entries[self.lines] = counts
        self.at = following
        self.keep(fits)

    def _kinds_are(self, kinds: str, at: Ints) -> Bools:
        """Whether the fields from each of `at` on are of these kinds; they are known to be there."""
        due = np.array([_FIELD_KINDS[kind] for kind in kinds], np.uint8)
        if len(self.lexed.kinds) < len(due) or not len(at):
            return np.zeros(len(at), np.bool_)
        windows = np.lib.stride_tricks.sliding_window_view(self.lexed.kinds, len(due))
        same: Bools = (windows[at] == due).all(axis=1)
        return same

    def _list_fits(self, kinds: str, counts: Ints, following: Ints) -> Bools:
        """Whether each line's list, after its count, is of these kinds."""
        if set(kinds) == {"s"}:
            strings = self.strings_before[following] - self.strings_before[self.at + 1]
            whole: Bools = strings == counts * len(kinds)
            return whole
        fits = np.ones(len(counts), np.bool_)
        for count in np.unique(counts[counts > 0]):
            these = counts == count
            fits[these] = self._kinds_are(kinds * int(count), self.at[these] + 1)
        return fits

    def _counts(self) -> tuple[Ints, Bools]:
        """The number at each of `at`, and whether it is a short plain one."""
        starts = self.lexed.field_starts[self.at]
        lengths = self.lexed.field_ends[self.at] - starts
        good = (self.lexed.kinds[self.at] == INTEGER_FIELD) & (lengths <= LONGEST_COUNT)
        counts = np.zeros(len(starts), np.int64)
        for place in range(min(LONGEST_COUNT, int(lengths.max(initial=0)))):
            there = lengths > place
            digits = self.lexed.array[np.where(there, starts + place, starts)] - np.uint8(ord("0"))
            good &= digits < 10
            counts = np.where(there, counts * 10 + digits, counts)
        return np.where(good, counts, 0), good


def walk(lexed: Lexed) -> Positions:
    """Where the fields of each regular line are, by the table."""
    walker = _Walk(lexed)
    for group in (BASE, *TAIL, LATER):
        for item in group.items:
            walker.take(item)
        walker.end_here()
        if not len(walker.lines):
            break
    return walker.found


def _left(lexed: Lexed, taken: Bools) -> Iterator[tuple[int, int]]:
    """The units of all lines that were not taken, as they would be framed among the others.

    A line that was taken begins with an event type, so an unclosed unit before it ends there; runs of other lines can be
    framed each for itself.
    """
    edges = np.flatnonzero(np.diff(taken.astype(np.int8), prepend=1, append=0))
    bounds = np.append(lexed.starts, lexed.ends[-1] + 1)
    runs = [(int(bounds[a]), int(bounds[b])) for a, b in zip(edges[0::2], edges[1::2], strict=False)]
    for start, stop in runs:
        yield from unit_spans(lexed.data, start, stop)
    if len(edges) % 2:
        yield from unit_spans(lexed.data, int(bounds[edges[-1]]), len(lexed.data))
