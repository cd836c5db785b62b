"""Records made of parts, made again: a rule is a pure function, and its parts are in the store.

Where a rule amends records, it is given those that were read from units, and not what was made of them since: what it makes must be
the same either way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from sqlalchemy import Connection, and_, or_, select

from batchacct.archive.holdings import archived
from batchacct.completing import KEYS_PER_QUERY, is_as, with_origin
from batchacct.model import PART, Record, RecordType, whole_key
from batchacct.parsing import Completion, Row, Whole
from batchacct.parsing.contract import UNFORESEEN
from batchacct.store.tables import RECORD_TABLES, ROWS_PER_LOAD, ROWS_PER_LOAD_BITS, load, part

EARLIER = "an earlier state of a record made of parts"
PARTS_ARCHIVED = "made of parts that are archived"
PARTS_TO_COME = "made of parts, and more came that are not completed yet"
RULE_FAILS = "the rule for its parts fails"
TAKEN_BACK = "made of parts, and taken back since"

_ORIGIN = ("source", "source_offset", "native")
_Key = tuple[str, str]
"""Cluster and part_key of a whole."""


def made_again(
    connection: Connection, record_type: RecordType, rule: Completion, sources: Collection[str], rows: Sequence[Row]
) -> tuple[dict[int, Record | None], dict[int, str]]:
    """What the rule makes now of the wholes that some records were made of, by the records' numbers; why others are not made.

    None: nothing makes it, which should not be. `sources`: those of the rule's family. `rows` are whole rows of a record table.
    """
    made: dict[int, Record | None] = {}
    refused: dict[int, str] = {_number(row): EARLIER for row in rows if row["superseded_by"] is not None}
    in_force = [row for row in rows if row["superseded_by"] is None]
    some_archived = bool(archived(connection, PART))
    for start in range(0, len(in_force), KEYS_PER_QUERY):
        some = in_force[start : start + KEYS_PER_QUERY]
        keys = {_number(row): key for row, key in _wholes_of(connection, rule, some)}
        parts = _parts(connection, rule, set(keys.values()))
        unfinished = _unfinished_loads(connection, parts.values())
        theirs_too = {*sources, *(str(row["source"]) for row in some)}
        read = _records_read(connection, record_type, theirs_too, some) if rule.amends else {}
        for row in some:
            number = _number(row)
            key = keys.get(number)
            theirs = parts.get(key, []) if key else []
            if any(_is_behind(piece, unfinished) for piece in theirs):
                refused[number] = PARTS_TO_COME
                continue
            amended = tuple(read.get(key, ())) if key else ()
            try:
                one = _completed(rule, key, theirs, amended, row)
                standing = _completed(rule, key, theirs, (*amended, row), row) if one is None and rule.amends else None
            except UNFORESEEN as error:
                refused[number] = f"{RULE_FAILS}: {type(error).__name__}: {error}"
                continue
            if one is None and some_archived:
                refused[number] = PARTS_ARCHIVED
            elif standing is not None and is_as(record_type, standing, row):
                refused[number] = TAKEN_BACK
            else:
                made[number] = one
    return made, refused


def _number(row: Row) -> int:
    return int(str(row["id"]))


def _completed(rule: Completion, key: _Key | None, parts: Sequence[Row], records: Sequence[Row], row: Row) -> Record | None:
    """What the rule makes of a whole under the key of a record; if nothing is, what bears its origin."""
    made = [] if key is None else [with_origin(one) for one in rule.complete(Whole(key[1], tuple(parts), tuple(records)))]
    same_key = [one for one in made if one["record_key"] == row["record_key"]]
    same_origin = [one for one in made if all(one[name] == row[name] for name in _ORIGIN)]
    return next(iter(same_key or (same_origin if len(same_origin) == 1 else ())), None)


def _wholes_of(connection: Connection, rule: Completion, rows: Sequence[Row]) -> Iterator[tuple[Row, _Key]]:
    """The whole of each record: by its id where the rule amends, else by the part whose origin it bears."""
    if rule.amends:
        for row in rows:
            index = row["array_index"]
            yield row, (str(row["cluster"]), whole_key(str(row["join_id"]), None if index is None else int(str(index))))
        return
    origins = {(row["source"], row["source_offset"], _bytes(row)): row for row in rows}
    at = or_(*(and_(part.c.source == source, part.c.source_offset == offset) for source, offset, _ in origins))
    columns = (part.c.source, part.c.source_offset, part.c.native, part.c.cluster, part.c.part_key)
    for source, offset, native, cluster, key in connection.execute(select(*columns).where(part.c.family == rule.family, at)):
        bearer = origins.get((source, offset, None if native is None else bytes(native)))
        if bearer is not None:
            yield bearer, (cluster, key)


def _bytes(row: Row) -> bytes | None:
    native = row["native"]
    return bytes(native) if isinstance(native, bytes | memoryview) else None


def _parts(connection: Connection, rule: Completion, keys: Collection[_Key]) -> dict[_Key, list[Row]]:
    """The parts in force of some wholes, oldest first."""
    found: dict[_Key, list[Row]] = {}
    if keys:
        of_keys = and_(part.c.family == rule.family, part.c.part_key.in_({key for _, key in keys}), part.c.superseded_by.is_(None))
        order = (part.c.cluster, part.c.part_key, part.c.logged_at, part.c.record_key)
        for row in connection.execute(select(part).where(of_keys).order_by(*order)).mappings():
            found.setdefault((row["cluster"], row["part_key"]), []).append(dict(row))
    return found


def _unfinished_loads(connection: Connection, parts: Iterable[Sequence[Row]]) -> dict[int, int]:
    """The loads of some parts of which completing has not looked at all rows, and at how many it has."""
    numbers = {_number(piece) >> ROWS_PER_LOAD_BITS for of_whole in parts for piece in of_whole}
    ordered = sorted(numbers)
    found: dict[int, int] = {}
    for start in range(0, len(ordered), KEYS_PER_QUERY):
        some = load.c.id.in_(ordered[start : start + KEYS_PER_QUERY])
        behind = select(load.c.id, load.c.completed_to).where(some, load.c.completed_at.is_(None))
        found |= {row.id: row.completed_to for row in connection.execute(behind)}
    return found


def _is_behind(piece: Row, unfinished: dict[int, int]) -> bool:
    number = _number(piece)
    looked_at = unfinished.get(number >> ROWS_PER_LOAD_BITS)
    return looked_at is not None and number % ROWS_PER_LOAD >= looked_at


def _records_read(
    connection: Connection, record_type: RecordType, sources: Collection[str], rows: Sequence[Row]
) -> dict[_Key, list[Row]]:
    """The records of the same ids as they were last read from a unit, by wholes."""
    table = RECORD_TABLES[record_type.name]
    ids = {str(row["join_id"]) for row in rows}
    joined = table.join(load, load.c.id == table.c.id // ROWS_PER_LOAD)
    theirs = and_(table.c.join_id.in_(ids), table.c.source.in_(sorted(sources)), load.c.completed == 0)
    order = (table.c[record_type.time_column], table.c.record_key, table.c.revision)
    newest: dict[tuple[object, object], Row] = {}
    for row in connection.execute(select(*table.c).select_from(joined).where(theirs).order_by(*order)).mappings():
        newest[row[record_type.time_column], row["record_key"]] = dict(row)
    found: dict[_Key, list[Row]] = {}
    for one in sorted(newest.values(), key=_number):
        index = one["array_index"]
        key = whole_key(str(one["join_id"]), None if index is None else int(str(index)))
        found.setdefault((str(one["cluster"]), key), []).append(one)
    return found
