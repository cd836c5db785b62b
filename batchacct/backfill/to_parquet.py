"""Files into Parquet: parse in pieces, complete wholes, merge months bucket by bucket, publish.

Each step is done for everything before the next begins; work that was done before a run was killed is found and not repeated.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from batchacct.archive.months import month_name, named_month
from batchacct.backfill.engines import Engine
from batchacct.backfill.folder import Books, Commit, Folder, told
from batchacct.backfill.keys import MONTH_BITS, WHOLE_BITS, bits_for, month_text, subs_in
from batchacct.backfill.merging import PREFIX, From, Merged, MergeTask, merge_bucket
from batchacct.backfill.pieces import PIECE_BYTES, Plan, Told, groups, key_of, parser_named, plan
from batchacct.backfill.staging import (
    PENDING_BYTES,
    VERSION,
    Batch,
    PieceResult,
    PieceTask,
    Written,
    family_view,
    file_of,
    parse_pieces,
    rejects_of,
    staged_in,
    stored_result,
    type_of_view,
)
from batchacct.backfill.wholes import WholesResult, WholesTask, complete_bucket, stored_wholes
from batchacct.errors import ConfigError, PluginError
from batchacct.model import PART, RECORD_TYPES, RecordType
from batchacct.parsing import Completion, registry
from batchacct.parsing.reading import BLOCK_BYTES

Progress = Callable[[str, int, int], None]
"""Told which step is under way, how much of it is done and how much there is (bytes, then buckets)."""


There = dict[str, dict[str, list[str]]]
"""Files that are in the folder, by record type and month."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is taken at a time: of these, and of nothing else, depends how much memory a worker needs."""

    piece_bytes: int = PIECE_BYTES
    block_bytes: int = BLOCK_BYTES
    pending_bytes: int = PENDING_BYTES
    bucket_rows: int = 300_000
    whole_rows: int = 50_000


def silent(_step: str, _done: int, _total: int) -> None:
    """Tells nobody."""


def backfill_to_parquet(
    paths: Iterable[str], told_: Told, folder: Path, engine: Engine, now_s: float, *, sizes: Sizes | None = None,
    progress: Progress = silent,
) -> Books:  # fmt: skip
    """Everything in the files, each record once, into the folder; what cannot be read is in `problems` and costs nothing else.

    Raises: BusyError, ConfigError, ArchiveError if the folder cannot be written; then the same call goes on where it stopped.
    """
    with Folder(folder) as place, told(folder):
        return _Run(place, told_, engine, sizes or Sizes(), progress).run(paths, now_s)


class _Run:
    def __init__(self, folder: Folder, told_: Told, engine: Engine, sizes: Sizes, progress: Progress) -> None:
        self._folder, self._told, self._engine, self._sizes, self._progress = folder, told_, engine, sizes, progress

    def run(self, paths: Iterable[str], now_s: float) -> Books:
        planned = plan(paths, self._told, now_s, self._sizes.piece_bytes, but=self._folder.written)
        tasks = self._tasks(planned)
        keys = [task.key for task in tasks]
        run = _digest([keys, sorted(p.message for p in planned.problems)])
        decided = self._folder.decided()
        if decided is not None:
            self._folder.publish(decided)
            self._folder.tidy()
            if decided.books.run == run:
                return decided.books
        results = self._parse(tasks)
        there = {t.name: self._folder.ours(t) for t in RECORD_TYPES.values()}
        name = _digest([keys, [r.problems for r in results], there, asdict(self._sizes)])
        made_in = self._folder.generation(name)
        wholes = self._complete(results, there, made_in)
        merged = self._merge(results, wholes, there, made_in, name)
        books = _books((run, int(now_s)), planned, results, wholes, merged)
        commit = self._commit(books, results, merged, there, made_in)
        self._folder.decide(commit)
        self._folder.publish(commit)
        self._folder.tidy()
        return books

    # --- the steps ----------------------------------------------------------------------------------------------------------------

    def _tasks(self, planned: Plan) -> list[PieceTask]:
        sizes, staging = self._sizes, str(self._folder.staging)
        return [
            PieceTask(group, self._told, staging, key_of(group, self._told, VERSION), sizes.block_bytes, sizes.pending_bytes)
            for group in groups(planned.pieces, sizes.piece_bytes // 4)
        ]

    def _parse(self, tasks: Sequence[PieceTask]) -> list[PieceResult]:
        """What came of the pieces, in their order."""
        staging = str(self._folder.staging)
        by_key = {task.key: found for task in tasks if (found := stored_result(staging, task.key)) is not None}
        total = sum(task.size for task in tasks)
        done = sum(result.size for result in by_key.values())
        self._progress("parsing", done, total)
        for result in self._engine.run(parse_pieces, [task for task in tasks if task.key not in by_key]):
            by_key[result.key] = result
            done += result.size
            self._progress("parsing", done, total)
        return [by_key[task.key] for task in tasks]

    def _complete(
        self, results: Sequence[PieceResult], there: dict[str, dict[str, list[str]]], made_in: Path
    ) -> list[WholesResult]:
        """What came of the wholes of each family, in a fixed order."""
        tasks: list[WholesTask] = []
        for rule, parsers in _families(results):
            part_view, record_view = family_view(rule.family, PART), family_view(rule.family, rule.record_type)
            batches = [b for r in results for view in (part_view, record_view) for b in r.views.get(view, ())]
            bits = bits_for(sum(b.rows for b in batches), self._sizes.whole_rows)
            for bucket in range(1 << bits):
                subs = subs_in(bucket, bits, WHOLE_BITS)
                tasks.append(
                    WholesTask(
                        parsers, bucket, bits, self._from(results, part_view, 0, subs), self._from(results, record_view, 0, subs),
                        _all(there["part"]), _all(there[rule.record_type.name]) if rule.amends else (),
                        str(made_in), f"wholes-{rule.family}-{bucket:04x}",
                    )
                )  # fmt: skip
        tasks = [task for task in tasks if task.parts or task.records]
        by_key = {task.key: found for task in tasks if (found := stored_wholes(task.folder, task.key)) is not None}
        self._progress("completing", len(by_key), len(tasks))
        for result in self._engine.run(complete_bucket, [task for task in tasks if task.key not in by_key]):
            by_key[result.key] = result
            self._progress("completing", len(by_key), len(tasks))
        return [by_key[task.key] for task in tasks]

    def _from(self, results: Iterable[PieceResult], view: str, month: int, subs: Iterable[int]) -> tuple[From, ...]:
        staging, wanted = str(self._folder.staging), set(subs)
        files = ((r, file_of(staging, r.key, f"{view}.arrow")) for r in results)
        found = ((r, staged_in(file, r.views.get(view, ()), month, wanted)) for r, file in files)
        return tuple(From(one, tuple(result.paths)) for result, one in found if one is not None)

    def _merge(
        self, results: Sequence[PieceResult], wholes: Sequence[WholesResult], there: There,
        made_in: Path, name: str,
    ) -> list[Merged]:  # fmt: skip
        """What came of each bucket of each month that something new is of."""
        tasks: list[MergeTask] = []
        for record_type in RECORD_TYPES.values():
            rows = _rows_by_month(results, wholes, record_type)
            self._refuse_foreign(record_type, rows)
            for month, count in sorted(rows.items()):
                known = there[record_type.name].get(month_text(month), [])
                bits = bits_for(count + _rows_in(known), self._sizes.bucket_rows)
                for bucket in range(1 << bits):
                    subs = subs_in(bucket, bits, MONTH_BITS)
                    new = self._from(results, record_type.name, month, subs) + _made(wholes, made_in, record_type, month, subs)
                    tasks.append(
                        MergeTask(
                            record_type.name, named_month(month_text(month)), bucket, bits, tuple(known), new, str(made_in),
                            f"{PREFIX}{name[:8]}-{bucket:04x}",
                        )
                    )  # fmt: skip
        by_task = {task: found for task in tasks if (found := _stored_merge(task)) is not None}
        self._progress("merging", len(by_task), len(tasks))
        named = {(task.record_type, task.month, task.name): task for task in tasks}
        for merged in self._engine.run(merge_and_note, [task for task in tasks if task not in by_task]):
            by_task[named[merged.record_type, merged.month, merged.name]] = merged
            self._progress("merging", len(by_task), len(tasks))
        return [by_task[task] for task in tasks]

    def _refuse_foreign(self, record_type: RecordType, rows: Iterable[int]) -> None:
        if both := sorted(self._folder.foreign(record_type) & {month_text(month) for month in rows}):
            raise ConfigError(
                f"{self._folder.path} has records of {', '.join(both)} from a database's archive, and these logs have others of "
                "these months: backfill them into another folder, or into the database (without --to)"
            )

    def _commit(
        self, books: Books, results: Sequence[PieceResult], merged: Sequence[Merged], there: There,
        made_in: Path,
    ) -> Commit:  # fmt: skip
        """What is to be published: the months in which anything is new."""
        root = self._folder.path
        commit = Commit(books)
        changed = {(m.record_type, m.month) for m in merged if m.kept or m.made}
        for one in merged:
            if (one.record_type, one.month) in changed and one.rows:
                target = f"{one.record_type}/month={month_name(one.month)}/{one.name}.parquet"
                commit.moves[str((made_in / target).relative_to(root))] = target
        for record_type, month in sorted(changed):
            commit.away += [str(Path(f).relative_to(root)) for f in there[record_type].get(month_name(month), [])]
        if books.rejected:
            with Written(made_in / "rejects.jsonl") as together:
                for result in results:
                    with rejects_of(str(self._folder.staging), result.key).open("rb") as stream:
                        shutil.copyfileobj(stream, together.stream)
            commit.rejects = str((made_in / "rejects.jsonl").relative_to(root))
        return commit


def merge_and_note(task: MergeTask) -> Merged:
    """Merges a bucket, and notes that it is done."""
    merged = merge_bucket(task)
    with Written(_note_of(task)) as note:
        note.stream.write(json.dumps(asdict(merged)).encode())
    return merged


def _note_of(task: MergeTask) -> Path:
    return file_of(task.folder, f"{task.record_type}-{task.month}-{task.name}", "done")


def _stored_merge(task: MergeTask) -> Merged | None:
    try:
        return Merged(**json.loads(_note_of(task).read_bytes()))
    except (FileNotFoundError, ValueError):
        return None


def _families(results: Iterable[PieceResult]) -> list[tuple[Completion, tuple[str, ...]]]:
    """The rules of the parsers that were used, each with all parsers that are installed and have it."""
    used = {label.rpartition("/")[0]: None for result in results for label in result.parsers}
    rules: dict[str, Completion] = {}
    for name in used:
        rule = parser_named(name).completion
        if rule is not None:
            rules[rule.family] = rule
    return [(rule, _parsers_of(rule, used)) for _, rule in sorted(rules.items())]


def _parsers_of(rule: Completion, used: Iterable[str]) -> tuple[str, ...]:
    """Names of the parsers that have the rule: those used first."""
    names = {*registry.names(registry.PARSERS)}
    have = [name for name in used if parser_named(name).completion is rule]
    return (*have, *sorted(n for n in names - set(have) if _rule_of(n) is rule))


def _rule_of(name: str) -> Completion | None:
    try:
        return parser_named(name).completion
    except PluginError:
        return None


def _made(
    wholes: Iterable[WholesResult], made_in: Path, record_type: RecordType, month: int, subs: Iterable[int]
) -> tuple[From, ...]:
    """The records made of parts."""
    wanted = set(subs)
    of_type = (w for w in wholes if type_of_view(w.view) is record_type)
    found = (staged_in(file_of(str(made_in), w.key, f"{w.view}.arrow"), w.batches, month, wanted) for w in of_type)
    return tuple(From(one, made=True) for one in found if one is not None)


def _rows_by_month(results: Iterable[PieceResult], wholes: Iterable[WholesResult], record_type: RecordType) -> Counter[int]:
    batches: list[Batch] = [b for r in results for b in r.views.get(record_type.name, ())]
    batches += [b for w in wholes if type_of_view(w.view) is record_type for b in w.batches]
    rows: Counter[int] = Counter()
    for batch in batches:
        rows[batch.month] += batch.rows
    return rows


def _rows_in(files: Iterable[str]) -> int:
    return sum(int(json.loads(Path(file).with_suffix(".json").read_text())["rows"]) for file in files)


def _all(by_month: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(file for files in by_month.values() for file in files)


def _books(
    of: tuple[str, int], planned: Plan, results: Sequence[PieceResult], wholes: Sequence[WholesResult], merged: Sequence[Merged]
) -> Books:
    books = Books(*of, files=len(planned.files), again=list(planned.again))
    skipped: Counter[str] = Counter()
    parsers: Counter[str] = Counter()
    for result in results:
        books.units += result.units
        books.rejected += result.rejected
        skipped.update(result.skipped)
        parsers.update(result.parsers)
        books.notes += result.notes
    books.skip_reasons, books.skipped, books.parsers = dict(skipped.most_common()), skipped.total(), dict(parsers)
    for one in merged:
        if one.record_type == PART.name:
            books.merged += one.kept
        else:
            books.recorded += one.kept
        books.known += one.known
        books.revised += one.revised
        books.completed += one.made
    books.waiting = sum(w.waiting for w in wholes)
    books.problems = [p.message for p in planned.problems] + [problem for r in results for problem in r.problems]
    books.problems += [problem for w in wholes for problem in w.problems]
    if not books.balance:
        books.problems.append(f"the books of this run do not balance, which is an error of the program: {books}")
    return books


def _digest(facts: object) -> str:
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()
