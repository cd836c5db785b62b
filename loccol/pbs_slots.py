"""exec_host and exec_vnode of many E lines at once, for the fast lane: what `loccol.pbs_hosts` makes of each.

    h1/0+h1/1+h2/0*13+h2/1        entries; those of one host that follow each other are a run: 2*h1, 14*h2

Every entry must be `host/number` or `host/number*slots`, with slots, and every run of a list another host. Other lists (ranges
of slots, chunks `*0`, hosts without a slot, a host that comes again after another) are not regular.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from batchacct.parsing.columnar import spans_of
from loccol.pbs_lex import BACKSLASH, QUOTE, Bools, Bytes, Ints, after, compute, integers, past_digits, words_of

WORD = 8
MARGIN = 16
"""Bytes of nothing before and behind the texts, so that a word or a number may be read anywhere."""
LONGEST_HOST = 64
LONGEST_COUNT = 9
"""Digits of the number of a slot, or of slots."""

_COLON, _PLUS, _SLASH, _STAR = b":+/*"
_NCPUS = int.from_bytes(b":ncpus=", "little")
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Values:
    """Texts end to end in `array`, each with one byte behind it: text i ends at `ends[i]`. `rows`: of which row each is."""

    array: Bytes
    ends: Ints
    rows: Ints


@dataclass(frozen=True, slots=True)
class Allocations:
    """By list: the JSON text of the column, slots, distinct hosts, and whether these are to be trusted."""

    texts: pa.Array[Any]
    slots: Ints
    nodes: Ints
    regular: Bools


def allocations(lists: Values) -> Allocations:
    """Of each list, none of which is empty, what `loccol.pbs_hosts.exec_hosts` makes of it."""
    array = lists.array
    marks = array == _PLUS
    marks[lists.ends] = True
    ends = np.flatnonzero(marks)
    first = after(np.flatnonzero(array[ends] != _PLUS))
    starts = after(ends)
    starts[:1] = MARGIN
    slashes, good = _slashes(array, starts, ends)
    counts = _counts(lists, slashes, ends, good)
    is_first = np.zeros(len(ends), np.bool_)
    is_first[first] = True
    runs = np.flatnonzero(is_first | ~_as_before(lists, starts, slashes, good))
    slots = np.add.reduceat(counts, runs) if len(runs) else counts
    begins = np.flatnonzero(is_first[runs])
    nodes = np.diff(begins, append=len(runs))
    hosts = spans_of(array, starts[runs], np.maximum(slashes, starts)[runs], pa.string())
    regular = np.logical_and.reduceat(good, first) if len(first) else good
    odd = np.flatnonzero((array == QUOTE) | (array == BACKSLASH))
    regular[np.searchsorted(lists.ends, odd)] = False
    _reject_returning(hosts, nodes, regular)
    shown = compute.binary_join_element_wise(pa.array(slots).cast(pa.string()), hosts, "*")
    offsets: Any = pa.array(np.append(begins, len(runs)).astype(np.int32))
    texts = compute.binary_join(pa.ListArray.from_arrays(offsets, shown), '","')
    texts = compute.binary_join_element_wise('["', texts, '"]', "")
    return Allocations(texts, np.add.reduceat(slots, begins) if len(begins) else slots, nodes, regular)


def _slashes(array: Bytes, starts: Ints, ends: Ints) -> tuple[Ints, Bools]:
    """The slash of each entry, and which entries have one, behind a host."""
    slashes = np.flatnonzero(array == _SLASH)
    if len(slashes) == len(ends):
        good = (starts < slashes) & (slashes < ends)
        if good.all():
            return slashes, good
    before = np.searchsorted(slashes, ends)
    good = np.diff(before, prepend=0) == 1
    slashes = np.append(slashes, 0)[np.maximum(before - 1, 0)]
    slashes = np.where(good, slashes, starts)
    return slashes, good & (slashes > starts)


def _counts(lists: Values, slashes: Ints, ends: Ints, good: Bools) -> Ints:
    """The slots of each entry; an entry that does not say them plainly is not good."""
    array = lists.array
    stars = np.flatnonzero(array == _STAR)
    counts = np.ones(len(ends), np.int64)
    stops = ends
    if len(stars):
        which = np.searchsorted(ends, stars)
        stops = ends.copy()
        stops[which] = stars
        counts[which], readable = integers(array, stars + 1, ends[which])
        good[which] &= readable & (ends[which] - stars - 1 <= LONGEST_COUNT) & (counts[which] > 0)
    others = np.cumsum(array - np.uint8(ord("0")) > 9, dtype=np.int32)
    digits = stops - slashes - 1
    good &= (digits > 0) & (digits <= LONGEST_COUNT) & (others[stops - 1] == others[slashes])
    return counts


def _as_before(lists: Values, starts: Ints, slashes: Ints, good: Bools) -> Bools:
    """Whether an entry has the same host as the one before; entries with hosts too long to tell are not good."""
    words = words_of(lists.array)
    lengths = slashes - starts
    longest = int(lengths.max(initial=0))
    if longest > LONGEST_HOST:
        good &= lengths <= LONGEST_HOST
        longest = LONGEST_HOST
    same: Bools = np.ones(len(starts), np.bool_)
    same[1:] = lengths[1:] == lengths[:-1]
    for at in range(0, longest, WORD):
        rest = np.clip(lengths - at, 0, WORD)
        mask = ~(_ALL << (8 * np.minimum(rest, WORD - 1)).astype(np.uint64))
        mask[rest == WORD] = _ALL
        part = words[np.minimum(starts + at, len(words) - 1)] & mask
        same[1:] &= part[1:] == part[:-1]
    return same


def _reject_returning(hosts: pa.Array[Any], nodes: Ints, regular: Bools) -> None:
    """Lists in which a host comes again after another are not regular."""
    if not (nodes > 2).any():
        return
    which = np.repeat(np.arange(len(nodes)), nodes)
    chosen = np.flatnonzero((nodes > 2)[which])
    codes: Ints = compute.take(hosts, pa.array(chosen)).dictionary_encode().indices.to_numpy().astype(np.int64)
    keys = np.sort(which[chosen] * len(hosts) + codes)
    again = keys[1:][keys[1:] == keys[:-1]]
    regular[again // len(hosts)] = False


def vnode_cpus_of(values: Values) -> Ints:
    """The sum of all `:ncpus=` of each exec_vnode; 0 if there are none. As `loccol.pbs_hosts.vnode_cpus`."""
    colons = np.flatnonzero(values.array == _COLON)
    found = colons[words_of(values.array)[colons] << np.uint64(8) == np.uint64(_NCPUS << 8)]
    starts = found + len(":ncpus=")
    ends, good = past_digits(values.array, starts, LONGEST_COUNT)
    counts, _ = integers(values.array, starts[good], ends[good])
    sums = np.zeros(len(values.ends), np.int64)
    np.add.at(sums, np.searchsorted(values.ends, found[good]), counts)
    return sums
