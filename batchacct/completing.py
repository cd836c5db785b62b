"""Records out of parts: the rule of each family, over the wholes that newly loaded parts (or records they amend) belong to.

A rule (`parsing.Completion`) is a pure function of everything that is stored of a whole, so the order in which its parts came, and
how often collecting was interrupted between them, makes no difference. What a rule makes is stored as a load of its own, beside the
mark that its loads are dealt with, in one transaction; a record that comes out as it is stored already is left alone, one that
comes out otherwise is a revision.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from batchacct.archive.months import month_name, month_of
from batchacct.errors import PluginError, RecordError
from batchacct.model import RECORD_TYPES, Record, RecordType, content_hash, whole_key
from batchacct.parsing import Completed, Completion, Parser, Row, Whole
from batchacct.parsing.contract import UNFORESEEN
from batchacct.store import Store, append_completed
from batchacct.store.columns import ID_BYTES, NAME_BYTES, KeyText
from batchacct.store.horizon import archived_months
from batchacct.store.keys import refuse_strange
from batchacct.store.loads import mark, mark_unlocked, unlocked
from batchacct.store.spans import Span, of_loads
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD, ROWS_PER_LOAD_BITS, load, part

log = logging.getLogger(__name__)

ROWS_PER_STEP = 20_000
"""About how many rows are taken into one transaction: what a step holds in memory are their wholes."""

LOADS_PER_STEP = 1_000
"""Oracle takes no list of more values."""

KEYS_PER_QUERY = 100

_ORIGIN = ("site", "cluster", "lrms", "native", "source", "source_offset", "parser")

_scratch = MetaData()
_touched = Table(
    "touched",
    _scratch,
    Column("cluster", KeyText(NAME_BYTES), nullable=False),
    Column("part_key", KeyText(ID_BYTES), nullable=False),
    Column("join_id", KeyText(ID_BYTES)),
    Column("is_used", SmallInteger, nullable=False),
    Column("first_part", BigInteger, nullable=False),
    UniqueConstraint("part_key", "first_part"),
    prefixes=["TEMPORARY"],
)
"""Cluster and key of each whole there once; its part with the lowest id stands for the cluster in the key, which has no room for
both."""


def scratch_tables() -> list[Table]:
    """The temporary tables that are used here."""
    return _scratch.sorted_tables


@dataclass(frozen=True, slots=True)
class Rule:
    """A family's completion, and the sources that bring its parts or the records they amend."""

    completion: Completion
    sources: tuple[str, ...]


def rules_of(sources: Iterable[tuple[str, Parser]]) -> list[Rule]:
    """The rules for some sources, (name, parser) each.  Raises: PluginError if two parsers have different rules for one family."""
    found: dict[str, tuple[Completion, list[str]]] = {}
    for name, parser in sources:
        rule = getattr(parser, "completion", None)
        if rule is None:
            continue
        known, names = found.setdefault(rule.family, (rule, []))
        if known is not rule:
            raise PluginError(f"two parsers have different rules for the parts of family {rule.family}: uninstall one of them")
        names.append(name)
    return [Rule(completion, tuple(names)) for completion, names in found.values()]


def complete_parts(store: Store, rules: Iterable[Rule], now: int, *, enough: Callable[[], bool] = lambda: False) -> int:
    """Completes what can be by now, in steps until it is `enough`; how many records that made or changed.

    What collectors store meanwhile is for the next time: who wanted to complete that as well might never end.

    Raises: StoreError; then the step is done next time.
    """
    made = 0
    for rule in rules:
        is_left = True
        while is_left and not enough():
            of_step, is_left = store.untangled(functools.partial(_step, store, rule, now))
            made += of_step
    return made


def again(store: Store, rules: Iterable[Rule]) -> None:
    """Has all parts, and the records they amend, looked at anew: what comes out as it stands is left alone."""
    sources = {name for rule in rules for name in rule.sources}
    with store.appending() as connection:
        mark(connection, and_(load.c.source.in_(sources), load.c.units > 0), completed_at=None, completed_to=0)


def _step(store: Store, rule: Rule, now: int) -> tuple[int, bool]:
    """The wholes of the next loads, in one transaction: how many records that made, and whether more loads are left."""
    with store.appending() as connection:
        loads, is_left = _next_loads(connection, rule)
        if not loads:
            return 0, False
        with _scratch_table(connection):
            for number, span in of_loads(connection, loads).items():
                _touch(connection, rule, number, loads[number], span)
            made = _complete(store, connection, rule, now)
        mark(connection, load.c.id.in_(loads), completed_at=now, completed_to=load.c.next_row)
        return made, is_left


def _next_loads(connection: Connection, rule: Rule) -> tuple[dict[int, int], bool]:
    """The oldest loads with rows not dealt with, up to ROWS_PER_STEP of these (one load at least), and whether more are left.

    The first such row by the load's number. Loads of no concern are marked at once.
    """
    is_open = and_(load.c.completed_at.is_(None), load.c.source.in_(rule.sources))
    rows = load.c.merged + load.c.recorded if rule.completion.amends else load.c.merged
    mark_unlocked(connection, and_(is_open, rows == 0), completed_at=load.c.loaded_at, completed_to=load.c.next_row)
    loads: dict[int, int] = {}
    total = 0
    oldest = select(load.c.id, load.c.completed_to, load.c.next_row).where(is_open).order_by(load.c.id).limit(LOADS_PER_STEP)
    is_left = False
    for number, first_row, next_row in connection.execute(oldest):
        total += next_row - first_row
        if loads and total > ROWS_PER_STEP:
            is_left = True
            break
        loads[number] = first_row
    is_left |= len(loads) == LOADS_PER_STEP
    free = connection.scalars(unlocked(select(load.c.id).where(load.c.id.in_(loads)).order_by(load.c.id))).all()
    return {number: loads[number] for number in free}, is_left


@contextmanager
def _scratch_table(connection: Connection) -> Iterator[None]:
    _touched.create(connection)
    yield
    _touched.drop(connection)


def _rows_of(table: Table, load_id: int, first_row: int, span: Span) -> ColumnElement[bool]:
    first_id = load_id << ROWS_PER_LOAD_BITS
    ids = table.c.id.between(first_id + first_row, first_id + ROWS_PER_LOAD - 1)
    return and_(ids, span.has(table.c[RECORD_TYPES[table.name].time_column]))


def _touch(connection: Connection, rule: Rule, load_id: int, first_row: int, span: Span) -> None:
    """Notes the wholes that the newer parts of a load belong to, and, where the rule amends records, those of its newer records."""
    completion = rule.completion
    noted = exists().where(_touched.c.cluster == part.c.cluster, _touched.c.part_key == part.c.part_key)
    of_family = and_(part.c.family == completion.family, ~noted)
    columns = (part.c.cluster, part.c.part_key, func.min(part.c.join_id), cast(0, SmallInteger), func.min(part.c.id))
    group = (part.c.cluster, part.c.part_key)
    names = ["cluster", "part_key", "join_id", "is_used", "first_part"]
    parts = select(*columns).where(_rows_of(part, load_id, first_row, span), of_family).group_by(*group)
    connection.execute(insert(_touched).from_select(names, parts))
    if completion.amends:
        table = RECORD_TABLES[completion.record_type.name]
        key = case(
            (table.c.array_index.is_(None), table.c.join_id),
            else_=table.c.join_id + "[" + cast(table.c.array_index, String) + "]",
        )
        amended = and_(part.c.part_key == key, part.c.cluster == table.c.cluster)
        records = (
            select(*columns).select_from(table.join(part, amended)).where(_rows_of(table, load_id, first_row, span), of_family)
        )
        connection.execute(insert(_touched).from_select(names, records.group_by(*group)))


@dataclass(slots=True)
class _Made:
    """What the rule made of the wholes of a step."""

    completed: list[Completed] = field(default_factory=list)
    used: list[dict[str, str]] = field(default_factory=list)


def _complete(store: Store, connection: Connection, rule: Rule, now: int) -> int:
    completion, made = rule.completion, _Made()
    archived = archived_months(connection, completion.record_type)
    for whole, cluster in _wholes(connection, rule):
        try:
            completed = completion.complete(whole)
        except UNFORESEEN as error:
            where = "; ".join(f"{p['source']}, byte {p['source_offset']}" for p in whole.parts[:3])
            log.error(  # noqa: TRY400 - told to people, who need no traceback
                "rule=%s does not foresee the parts of %s (%s): %s: %s. They are kept: once it is mended, "
                "`batchacct collect --once --complete-again`", completion.family, whole.key, where, type(error).__name__, error,
            )  # fmt: skip
            continue
        if old := _months_among(archived, completion.record_type, completed):
            log.error(
                "rule=%s the whole %s has new parts, but its record is of %s, which is archived. They are kept: "
                "%s, then `batchacct collect --once --complete-again`", completion.family, whole.key, ", ".join(old),
                " and ".join(f"`batchacct db recall {month}`" for month in old),
            )  # fmt: skip
            continue
        made.completed += completed
        if completed or whole.records or completion.settled(whole):
            made.used.append({"of_cluster": cluster, "of_key": whole.key})
    records = _changed(connection, completion.record_type, made.completed)
    count = append_completed(store, connection, completion.record_type, records, now)
    if made.used:
        _mark_used(connection, completion, made.used, now)
    return count


def _months_among(archived: Collection[int], record_type: RecordType, completed: Sequence[Completed]) -> list[str]:
    """The months of records that may be in the archive already, and are not to be stored a second time."""
    times = [one.record[record_type.time_column] for one in completed] if archived else []
    months = {month_of(int(at.timestamp()) if isinstance(at, dt.datetime) else int(str(at))) for at in times}
    return [month_name(month) for month in sorted(months.intersection(archived))]


def _wholes(connection: Connection, rule: Rule) -> Iterator[tuple[Whole, str]]:
    """The touched wholes with everything that is stored of them, and the cluster of each."""
    completion = rule.completion
    records = _records_by_whole(connection, rule) if completion.amends else {}
    keys = select(_touched.c.part_key)
    in_force = and_(part.c.family == completion.family, part.c.superseded_by.is_(None), part.c.part_key.in_(keys))
    order = (part.c.cluster, part.c.part_key, part.c.logged_at, part.c.record_key)
    touched = {(row.cluster, row.part_key) for row in connection.execute(select(_touched.c.cluster, _touched.c.part_key))}
    rows = connection.execute(select(part).where(in_force).order_by(*order)).mappings()
    for whole, parts in itertools.groupby(rows, lambda row: (row["cluster"], row["part_key"])):
        if whole in touched:
            yield Whole(whole[1], tuple(map(dict, parts)), tuple(records.get(whole, ()))), whole[0]


def _records_by_whole(connection: Connection, rule: Rule) -> Mapping[tuple[str, str], list[Row]]:
    """The records in force that the rule's sources brought for the touched wholes."""
    table = RECORD_TABLES[rule.completion.record_type.name]
    ids = select(_touched.c.join_id).where(_touched.c.join_id.is_not(None))
    found: dict[tuple[str, str], list[Row]] = {}
    theirs = and_(table.c.join_id.in_(ids), table.c.source.in_(rule.sources), table.c.superseded_by.is_(None))
    for row in connection.execute(select(table).where(theirs).order_by(table.c.id)).mappings():
        found.setdefault((row["cluster"], whole_key(row["join_id"], row["array_index"])), []).append(dict(row))
    return found


def _changed(connection: Connection, record_type: RecordType, completed: Sequence[Completed]) -> list[tuple[Record, Row]]:
    """Complete records with their origins, without those that stand in the store just so; the hash of each is its own.

    The hash is of the values, and of the record that is replaced: a record may return to what it was before.
    """
    whole = [(with_origin(c), c.origin) for c in completed]
    time = record_type.time_column
    standing = _standing(connection, record_type, [(record[time], record["record_key"]) for record, _ in whole])
    changed = []
    for record, origin in whole:
        old = standing.get((record[time], record["record_key"]))
        if old is not None and is_as(record_type, record, old):
            continue
        made = with_hash(record_type, record, old and old["id"])
        try:
            refuse_strange(record_type, made)
        except RecordError as error:
            log.error("record=%s made of parts does not fit: %s. Its parts are kept", record["record_key"], error.message)  # noqa: TRY400
        else:
            changed.append((made, origin))
    return changed


def with_origin(completed: Completed) -> Record:
    """A complete record with those columns of its origin that it does not have of its own."""
    return {name: completed.origin.get(name) for name in _ORIGIN} | completed.record


def is_as(record_type: RecordType, record: Record, standing: Row) -> bool:
    """Whether a complete record is the one that stands already."""
    return all(standing[name] == value for name, value in _own(record_type, record).items())


def with_hash(record_type: RecordType, record: Record, replaced: object) -> Record:
    """A complete record with the hash of its values and of what it replaces."""
    said = json.dumps([_own(record_type, record), replaced], sort_keys=True, default=str)
    return record | {"content_hash": content_hash(said.encode("utf-8", "backslashreplace"))}


def _own(record_type: RecordType, record: Record) -> Record:
    return {c.name: record.get(c.name) for c in record_type.columns if c.name not in {"native", "content_hash"}}


def _standing(
    connection: Connection, record_type: RecordType, keys: Sequence[tuple[object, object]]
) -> dict[tuple[object, object], Row]:
    """The records in force under some keys, (time, record_key) each. (SQLite reads all there are for a list of pairs.)"""
    table = RECORD_TABLES[record_type.name]
    key = (table.c[record_type.time_column], table.c.record_key)
    found: dict[tuple[object, object], Row] = {}
    for first in range(0, len(keys), KEYS_PER_QUERY):
        some = or_(*(and_(key[0] == at, key[1] == record_key) for at, record_key in keys[first : first + KEYS_PER_QUERY]))
        for row in connection.execute(select(table).where(some, table.c.superseded_by.is_(None))).mappings():
            found[row[record_type.time_column], row["record_key"]] = dict(row)
    return found


def _mark_used(connection: Connection, completion: Completion, used: list[dict[str, str]], now: int) -> None:
    """Marks the parts of the wholes that have a record; the others wait, and `status` counts them."""
    these = and_(_touched.c.cluster == bindparam("of_cluster"), _touched.c.part_key == bindparam("of_key"))
    connection.execute(update(_touched).where(these).values(is_used=1), used)
    keys = select(_touched.c.part_key).where(_touched.c.is_used == 1)
    its_own = exists().where(_touched.c.part_key == part.c.part_key, _touched.c.cluster == part.c.cluster, _touched.c.is_used == 1)
    waiting = and_(part.c.family == completion.family, part.c.used_at.is_(None), part.c.part_key.in_(keys), its_own)
    connection.execute(update(part).where(waiting).values(used_at=now))
