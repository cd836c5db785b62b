"""Processes out of files of BSD accounting, without a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchacct.cli.common import byte_progress
from batchacct.errors import IncompleteError, PluginError
from batchacct.following.opened import HEAD_BYTES
from batchacct.parsing import Parsed, Source
from batchacct.parsing.contract import printable
from batchacct.parsing.reading import STANDARD_INPUT, UpToError, expand, open_stream, read_blocks
from procacct.asking.accounting_question import NO_GROUP, UNKNOWN, Groups, Question, like_any
from procacct.asking.accounting_sums import Totals
from procacct.pacct import PARSER
from procacct.pacct_fast import compressed
from procacct.pacct_layout import RECORD_BYTES, VERSION_BITS

DAY_S = 86_400

compute: Any = pc
"""Its stubs know neither Python's values nor masks."""

_SWAPS_AT, _SWAPS_AT_V3 = 28, 46
_PIECE_BYTES = 1 << 20


@dataclass
class Files:
    """Files of accounting, read one after the other, oldest first; what was not read is counted in `rejected` and `skipped`."""

    paths: Sequence[str]
    host: str
    rejected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def batches(self, question: Question) -> Iterator[pa.RecordBatch]:
        """The processes asked for.  Raises: SourceError, PluginError for a file that is none of accounting."""
        for path in _each_content_once(expand(self.paths)):
            with open_stream(path) as stream, byte_progress(path, None) as progress:
                source = Source(path, host=self.host)
                blocks, units = UpToError(read_blocks(stream, PARSER.framing)), 0
                for number, parsed in enumerate(PARSER.parse(blocks, source)):
                    self._count(parsed, path, is_first=not number)
                    units += parsed.units
                    yield asked_for(parsed.records, question)
                    progress(parsed.end_offset - parsed.start_offset)
                blocks.check()
            if not units:
                click.echo(f"{path} holds no record of a process", err=True)

    def _count(self, parsed: Parsed, path: str, *, is_first: bool) -> None:
        if is_first and len(parsed.rejects) == parsed.units:
            raise PluginError(
                f"{path} is no file of BSD process accounting (pacct): none of its first {parsed.units:,} records is one. It "
                f"begins: {printable(parsed.rejects[0].unit, 60)}"
            )
        self.rejected += len(parsed.rejects)
        self.skipped.update(parsed.skipped)
        for reject in parsed.rejects:
            click.echo(f"{path}:{reject.offset}: rejected: {reject.reason}", err=True)

    def check(self) -> None:
        """Raises: IncompleteError if there were records that could not be read."""
        if self.rejected:
            raise IncompleteError(f"{self.rejected:,} records could not be read, see above; they are in none of the figures")


def _each_content_once(paths: Sequence[str]) -> list[str]:
    """The files without those whose content is in another one, as while one is compressed, or was copied; they are told of.

    A file is known by how it begins, uncompressed.  Raises: SourceError.
    """
    heads: dict[str, bytes] = {}
    for path in paths:
        if path == STANDARD_INPUT or len(paths) == 1:
            heads[path] = b""
            continue
        with open_stream(path) as stream:
            head = stream.read(HEAD_BYTES)
        same = next((other for other, begins in heads.items() if _is_same(head, begins)), None)
        shorter = path if same is None or _length(path) <= _length(same) else same
        heads[path] = head
        if same is not None:
            longer = same if shorter == path else path
            click.echo(f"{shorter}: left out, as what is in it is in {longer}, too", err=True)
            del heads[shorter]
    return [path for path in paths if path in heads]


def _is_same(one: bytes, other: bytes) -> bool:
    length = min(len(one), len(other))
    return length >= RECORD_BYTES and one[:length] == other[:length]


def _length(path: str) -> int:
    """Bytes, uncompressed."""
    length = 0
    with open_stream(path) as stream:
        while piece := stream.read(_PIECE_BYTES):
            length += len(piece)
    return length


def asked_for(batch: pa.RecordBatch, question: Question) -> pa.RecordBatch:
    """The processes of a batch that a question is about."""
    seconds = batch.column("logged_at").cast(pa.int64())
    wanted: list[Any] = []
    if question.begin is not None:
        wanted.append(compute.greater_equal(seconds, question.begin))
    if question.end is not None:
        wanted.append(compute.less(seconds, question.end))
    if question.users:
        wanted.append(compute.is_in(batch.column("user_id"), pa.array(question.user_ids, pa.int64())))
    if question.terminals:
        wanted.append(compute.is_in(batch.column("terminal"), pa.array(question.terminals, pa.string())))
    if question.commands:
        names = batch.column("command").unique()
        alike = [name for name in names.to_pylist() if like_any(name, question.commands)]
        wanted.append(compute.is_in(batch.column("command"), pa.array(alike, pa.string())))
    for mask in wanted[1:]:
        wanted[0] = compute.and_(wanted[0], mask)
    return batch.filter(wanted[0]) if wanted else batch


def sums_of_files(files: Files, question: Question, by: str, groups: Groups | None) -> Totals:
    """What the processes of files come to by one of `SUMMED_BY`; keys are as the records have them (user ids, ...)."""
    totals = Totals()
    for batch in files.batches(question):
        table = _facts(batch)
        key, rows = _in_groups(batch, groups) if groups is not None and by == "group" else (_key(batch, by), None)
        table = (table if rows is None else table.take(rows)).append_column("key", key)
        added = table.group_by("key", use_threads=False).aggregate(_AGGREGATED)
        columns = [added.column(f"{name}_{how}").to_pylist() for name, how in _HOW.items()]
        for value, *numbers in zip(added.column("key").to_pylist(), *columns, strict=True):
            totals.add((value,), numbers)
    return totals


_HOW = {
    **dict.fromkeys(
        ("processes", "forks", "elapsed_s", "cpu_user_s", "cpu_system_s", "minor_faults", "major_faults", "swaps", "killed"), "sum"
    ),
    **dict.fromkeys(("memory_real_kib", "memory_virtual_kib"), "max"),
}
_AGGREGATED: list[Any] = list(_HOW.items())


def _facts(batch: pa.RecordBatch) -> pa.Table:
    """The columns that are added up, in the order of `COLUMNS`."""
    made = {
        "forks": compute.equal(batch.column("kind"), "fork").cast(pa.int64()),
        "swaps": pa.array(swaps(batch)),
        "killed": compute.equal(batch.column("ended_by"), "signal").cast(pa.int64()),
    }
    return pa.table({name: made[name] if name in made else batch.column(name) for name in _HOW})


def swaps(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """ac_swaps of the records, which is no column of a process: today's kernels leave it at 0."""
    units = cast("list[bytes]", batch.column("native").to_pylist())
    raw = np.frombuffer(b"".join(units), np.uint8).reshape(-1, RECORD_BYTES)
    version, is_big = raw[:, 1] & VERSION_BITS, raw[:, 1] & 0x80 != 0
    at = np.where(version == 3, _SWAPS_AT_V3, _SWAPS_AT)
    rows = np.arange(len(raw))
    first, second = raw[rows, at].astype(np.int64), raw[rows, at + 1].astype(np.int64)
    return compressed(np.where(is_big, first << 8 | second, second << 8 | first))


def _key(batch: pa.RecordBatch, by: str) -> Any:
    if by == "command":
        star = compute.if_else(compute.equal(batch.column("kind"), "fork"), "*", "")
        return compute.binary_join_element_wise(compute.fill_null(batch.column("command"), UNKNOWN), star, "")
    if by == "day":
        return compute.divide(batch.column("logged_at").cast(pa.int64()), DAY_S)
    return batch.column({"user": "user_id", "unix-group": "group_id"}.get(by, by))


def _in_groups(batch: pa.RecordBatch, groups: Groups) -> tuple[Any, Any]:
    """The group of each process in each of its groups, and the rows of these processes, one of several groups several times."""
    names: list[str] = []
    rows: list[int] = []
    times = (batch.column(name).cast(pa.int64()).to_pylist() for name in ("started_at", "logged_at"))
    for row, (pid, began, ended) in enumerate(zip(batch.column("pid").to_pylist(), *times, strict=True)):
        of_it = sorted(groups.of(pid, began, ended)) if pid in groups.by_pid else None
        for group in of_it or (NO_GROUP,):
            names.append(group)
            rows.append(row)
    return pa.array(names, pa.string()), pa.array(rows, pa.int64())
