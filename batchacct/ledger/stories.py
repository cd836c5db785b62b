"""Stories: one job from byte offset to receipt, or why it is not further; one message or one byte offset, followed either way."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, func, or_, select

from batchacct.clock import shown
from batchacct.ledger import processes
from batchacct.ledger.job_ids import JobId, naming
from batchacct.ledger.more_stories import AskedJob, MoreOfJob, told_more
from batchacct.model import JOB, RECORD_TYPES, whole_key
from batchacct.store import sent
from batchacct.store.spans import IS_OF_JOB, Span
from batchacct.store.tables import (
    RECORD_TABLES,
    ROWS_PER_LOAD_BITS,
    benchmark,
    followed_file,
    identity,
    job,
    kept_back,
    load,
    message,
    part,
    reject,
    source_state,
    usage,
    usage_history,
    vo_mapping,
)
from batchacct.store.vos import IS_GRID_RULE

REJECTS_SEARCHED = 100_000
PIECES_SHOWN = 20
Found = Row[Any]


def why(connection: Connection, job_id: JobId, more: Sequence[MoreOfJob] = ()) -> Iterator[str]:
    """The story of every run of a job, line by line, and what others tell of it; of a job never seen, what was read instead."""
    runs = _runs(connection, job_id)
    for run in runs:
        yield from why_run(connection, run, more)
    identities = connection.execute(
        select(identity).where(identity.c.join_id == job_id.join_id).order_by(identity.c.recorded_at, identity.c.id)
    ).all()
    if not runs:
        for row in identities:
            yield f"identity {row.lrms_job_id}: {_who(row)}, told by {row.ce_id or row.source} at {shown(row.recorded_at)}"
            replaced = "" if row.superseded_by is None else "; a later line replaced it"
            yield f"  read from {_where(connection, row)}{replaced}"
            yield "  no batch record of this job has been read: it has not ended, never ran, or its LRMS source lags"
    parts = parts_of_job(connection, job_id.join_id, job_id.array_index)
    for row in parts:
        yield _part(connection, row)
    rejects = list(_rejects_naming(connection, job_id.join_id))
    for row in rejects:
        yield f"rejected: {row.path}, byte {row.source_offset}: {row.reason}"
        yield f"  {'replayed' if row.replayed_by else 'kept'} as reject {row.id}: see `batchacct rejects show {row.id}`"
    beside = [] if runs else list(told_more(connection, more, AskedJob(job_id.join_id, job_id.array_index, None)))
    yield from beside
    if not (runs or identities or parts or rejects or beside):
        yield from _never_seen(connection, job_id)


def _runs(connection: Connection, job_id: JobId) -> list[Found]:
    """Every run of a job that there is by the first way of `naming` by which there are any."""
    for condition in naming(job_id):
        if found := connection.execute(select(job).where(condition).order_by(job.c.logged_at, job.c.id)).all():
            return list(found)
    return []


def why_run(connection: Connection, run: Found, more: Sequence[MoreOfJob] = (), *, texts: bool = True) -> Iterator[str]:
    """The story of one run, a row of `job`, alone: an id may come again, and be somebody else's job.

    Without `texts` it has none of those that receivers and programs wrote, and no identity that another has replaced.
    """
    yield from _run(connection, run, texts=texts)
    yield from told_more(connection, more, AskedJob(run.join_id, run.array_index, run))


def _run(connection: Connection, run: Found, *, texts: bool = True) -> Iterator[str]:
    yield f"job {_shown_id(run)} on {run.cluster}: {run.state}, user {run.user_name or '-'}, queue {run.queue or '-'}"
    yield f"  submitted {shown(run.submit_at)}, started {shown(run.start_at)}, ended {shown(run.end_at)}"
    cpu = "unknown" if run.cpu_duration_s is None else f"{run.cpu_duration_s} s"
    wall = "-" if run.wall_duration_s is None else f"{run.wall_duration_s} s"
    yield f"  wall {wall}, CPU {cpu}, processors {run.processors or '-'}, nodes {run.node_count or '-'}"
    yield f"  read from {_where(connection, run)}"
    yield from _pieces(connection, run)
    if run.superseded_by is not None:
        yield f"  replaced: the same run was logged again with other content (record {run.superseded_by})"
    messages = sent.messages_of(connection, run.id)
    for old in connection.execute(select(usage_history).where(usage_history.c.job_id == run.id).order_by(usage_history.c.id)):
        of_old = [f"message {one.id}" for one, step in messages if step == old.step]
        where = f" in {', '.join(of_old)}" if of_old else ""
        yield f"  earlier: {old.outcome} ({old.reason}){where}; {old.why}, {shown(old.replaced_at)}"
    now = connection.execute(select(usage).where(usage.c.job_id == run.id)).one_or_none()
    if now is not None:
        yield from _outcome(connection, run, now, [one for one, step in messages if step == now.step], texts=texts)
    elif run.superseded_by is None:
        yield "  not joined yet: the next `batchacct publish` looks at it"


def _pieces(connection: Connection, record: Found) -> Iterator[str]:
    """The lines that a record was made of, where it was made of parts."""
    made = select(load.c.completed).where(load.c.id == record.id >> ROWS_PER_LOAD_BITS)
    if not connection.scalar(made):
        return
    origin = select(part).where(part.c.source == record.source, part.c.source_offset == record.source_offset)
    wholes = {(row.family, row.cluster, row.part_key) for row in connection.execute(origin) if row.native == record.native}
    for family, cluster, key in sorted(wholes):
        same = and_(part.c.part_key == key, part.c.family == family, part.c.cluster == cluster, part.c.superseded_by.is_(None))
        rows = connection.execute(select(part).where(same).order_by(part.c.logged_at, part.c.id).limit(PIECES_SHOWN)).all()
        for row in rows:
            yield f"    made with: {row.kind}, {_where(connection, row)}"


def _outcome(connection: Connection, run: Found, now: Found, messages: Sequence[sent.Sent], *, texts: bool) -> Iterator[str]:
    yield f"  {now.outcome}: {now.reason}"
    who = connection.execute(select(identity).where(_is_identity_of(now))).one_or_none()
    if now.identity_id is not None and who is None:
        yield f"    its identity, record {now.identity_id}, was purged from the archive"
    elif who is not None:
        yield f"    {_who(who)}"
        yield f"    told by {who.ce_id or who.source} at {shown(who.recorded_at)} ({who.time_kind} time)"
        yield f"    read from {_where(connection, who)}"
        same_key = and_(identity.c.join_id == who.join_id, identity.c.superseded_by == who.id)
        for earlier in connection.execute(select(identity).where(same_key).order_by(identity.c.id)):
            of_whom = f"{_who(earlier)}, " if texts else ""  # it may be somebody else's
            yield f"    that line replaced an earlier one: {of_whom}{_where(connection, earlier)}"
        yield from _pieces(connection, who)
        if _is_mapped(connection, now):
            yield f"    VO in place of {who.vo or who.fqan}: {_mapped_vo(connection, now, run)}"
        elif who.vo is not None or who.fqan is not None:
            yield f"    VO {who.vo or who.fqan}, as the computing element told it"
        else:
            yield f"    no VO was told: {_mapped_vo(connection, now, run)}"
    elif now.mapping_id is not None:
        yield f"    {_mapped_vo(connection, now, run)}"
    if now.benchmark_id is not None:
        used = connection.execute(select(benchmark).where(benchmark.c.id == now.benchmark_id)).one()
        times = " x host factor" if used.per_host_factor else ""
        of_hosts = f", of hosts {', '.join(json.loads(used.hosts))}" if used.hosts else ""
        yield f"    benchmark {used.type} {used.value:g}{times}{of_hosts}"
    if now.outcome == "waiting":
        yield from _waits_for(connection)
    if now.outcome in sent.GO_OUT:
        yield from _sending(connection, now, messages, texts=texts)


def _sending(connection: Connection, now: Found, messages: Sequence[sent.Sent], *, texts: bool) -> Iterator[str]:
    """What became of a row of the ledger that goes out, for each destination."""
    places = sent.places(connection)
    if not places:
        yield f"    {_TO_COME}"
    of_row = and_(kept_back.c.job_id == now.job_id, kept_back.c.step == now.step)
    kept = {row.destination: row for row in connection.execute(select(kept_back).where(of_row))}
    for place in places:
        to = f" to {place.name}" if len(places) > 1 else ""
        for one in messages:
            if one.destination == place.name:
                yield from _message(connection, one.id, texts=texts)
        if (row := kept.get(place.name)) is not None:
            reason = f": {row.reason}" if texts and row.kind != sent.NOT_FOR_IT else ""
            yield f"    {_KEPT[row.kind].format(to=to)}{reason}"
        elif not any(one.destination == place.name for one in messages):
            yield f"    {_TO_COME}" if not to else f"    not in a message{to} yet: the next `batchacct publish` builds it"


_TO_COME = "not in a message yet: the next `batchacct publish` builds it"
_KEPT = {
    sent.REFUSED: "refused for publishing{to}",
    sent.NOT_FOR_IT: "not published{to}, by its vos and infrastructure in [[destination]]",
    sent.UNCHANGED: "not sent{to} again",
    sent.NOT_THERE: "not sent{to}",
    sent.ELSEWHERE: "not sent{to}",
}


def _is_identity_of(row: Found) -> ColumnElement[bool]:
    """Which identity a row of the ledger names."""
    return and_(identity.c.id == row.identity_id, identity.c.recorded_at == row.identity_at)


def _is_mapped(connection: Connection, now: Found) -> bool:
    """Whether a rule by FQAN goes before what the computing element told."""
    asked = select(vo_mapping.c.id).where(vo_mapping.c.id == now.mapping_id, vo_mapping.c.asked_fqan.is_not(None), IS_GRID_RULE)
    return connection.scalar(asked) is not None


def _mapped_vo(connection: Connection, now: Found, run: Found) -> str:
    mapping = connection.execute(select(vo_mapping).where(vo_mapping.c.id == now.mapping_id)).one_or_none()
    return "no VO" if mapping is None else f"VO {mapping.vo} by {mapping.rule} (group {run.group_name or '-'})"


def _waits_for(connection: Connection) -> Iterator[str]:
    states = select(source_state).where(source_state.c.record_type == "identity").order_by(source_state.c.name)
    for state in connection.execute(states):
        yield f"    identity source {state.name} was read to its end at {shown(state.read_to_end_at)}"
    yield "    it is looked at again by each `batchacct publish`; grace and max_hold in [join] end the waiting"


def _message(connection: Connection, number: int, *, texts: bool = True) -> Iterator[str]:
    names = ("format", "destination", "created_at", "confirmed_at", "receipt", "last_error", "withdrawn_at")
    row = connection.execute(select(*(message.c[name] for name in names)).where(message.c.id == number)).one()
    yield f"    message {number} to {row.destination} ({row.format}), built {shown(row.created_at)}"
    if row.confirmed_at is not None:
        yield f"    handed over {shown(row.confirmed_at)}{f', receipt {row.receipt}' if texts else ''}"
    elif row.withdrawn_at is not None:
        why_not = f" ({row.last_error})" if texts else ""
        yield f"    was refused, and never leaves: records in it were corrected since{why_not}"
    else:
        yield f"    not handed over yet{': ' + row.last_error if texts and row.last_error else ''}"


def _shown_id(run: Found) -> str:
    return str(run.lrms_job_id) if run.array_index is None else f"{run.lrms_job_id}[{run.array_index}]"


def _who(row: Found) -> str:
    name = row.dn or "/".join(filter(None, (row.token_issuer, row.token_subject))) or "nobody named"
    return f"{name}, {row.fqan or 'no FQAN'}"


def _where(connection: Connection, record: Found) -> str:
    now_at = func.coalesce(followed_file.c.path, load.c.path)
    of_load = load.outerjoin(followed_file, followed_file.c.id == load.c.file_id)
    path = connection.scalar(select(now_at).select_from(of_load).where(load.c.id == record.id >> ROWS_PER_LOAD_BITS))
    return f"{path}, byte {record.source_offset} (source {record.source}, record {record.id})"


def _rejects_naming(connection: Connection, join_id: str) -> Iterator[Found]:
    word = re.compile(rb"(?<![0-9A-Za-z])" + re.escape(join_id.encode()) + rb"(?![0-9A-Za-z])")
    for row in connection.execute(select(reject).order_by(reject.c.id.desc()).limit(REJECTS_SEARCHED)):
        if word.search(row.unit):
            yield row


def _never_seen(connection: Connection, job_id: JobId) -> Iterator[str]:
    index = "" if job_id.array_index is None else f"[{job_id.array_index}]"
    yield f"job {job_id.join_id}{index}: no source has told of it, in no record, no identity, no reject"
    columns = (load.c.source, func.max(load.c.last_record_at), func.max(load.c.loaded_at))
    for source, last, read in connection.execute(select(*columns).group_by(load.c.source).order_by(load.c.source)):
        yield f"  source {source} was last read {shown(read)}; its newest record is of {shown(last)}"
    yield "  it has not ended yet, its log was not read (see `batchacct status`), or the id is another"


def parts_of_job(connection: Connection, join_id: str, array_index: int | None) -> list[Found]:
    """The parts whose whole is a job, or with no index given any element of it, oldest first."""
    key = part.c.part_key
    whole = key == whole_key(join_id, array_index)
    if array_index is None:
        whole = or_(whole, *(and_(key > f"{join_id}{mark}", key < f"{join_id}{chr(ord(mark) + 1)}") for mark in "[."))
    query = select(part).where(whole, part.c.superseded_by.is_(None), part.c.record_type == JOB.name)
    return list(connection.execute(query.order_by(part.c.logged_at, part.c.id)))


def _part(connection: Connection, row: Found) -> str:
    waits = "; it waits for others, there is no record of its whole yet" if row.used_at is None else ""
    return f"part: {row.kind} of {row.part_key}, logged {shown(row.logged_at)}, read from {_where(connection, row)}{waits}"


def trace_message(connection: Connection, number: int) -> Iterator[str]:
    """A message, and every record in it down to file and byte offset; nothing if there is no such message."""
    if connection.scalar(select(message.c.id).where(message.c.id == number)) is None:
        return
    yield from (line.strip() for line in _message(connection, number))
    for row, replaced in usage_in_message(connection, number):
        run = connection.execute(select(job).where(job.c.id == row.job_id, job.c.logged_at == row.logged_at)).one_or_none()
        if run is None:
            yield f"job record {row.job_id}: {row.outcome}; it was purged from the archive"
            continue
        yield f"job {_shown_id(run)}: {row.outcome}{', replaced since' if replaced else ''}"
        yield f"  {_where(connection, run)}"
        yield from _pieces(connection, run)
        if row.identity_id is not None:
            who = connection.execute(select(identity).where(_is_identity_of(row))).one_or_none()
            if who is not None:
                yield f"  {_where(connection, who)}"
                yield from _pieces(connection, who)


def usage_in_message(connection: Connection, number: int) -> Iterator[tuple[Found, bool]]:
    """The rows of the ledger in a message, with whether another has replaced them since, in the order of their jobs."""
    for one in sent.sent(connection, message.c.id == number):
        rows: list[tuple[Found, bool]] = []
        for start in range(0, len(one.jobs), 500):
            some = one.jobs[start : start + 500].tolist()
            wanted = set(zip(one.steps[start : start + 500].tolist(), some, strict=True))
            for table in (usage, usage_history):
                found = connection.execute(select(table).where(table.c.job_id.in_(some))).all()
                rows += [(row, table is usage_history) for row in found if (row.step, row.job_id) in wanted]
        yield from sorted(rows, key=lambda pair: (int(pair[0].job_id), not pair[1]))


def trace_unit(connection: Connection, path: str, offset: int, files: Collection[int] = ()) -> Iterator[str]:
    """What the bytes of a file at an offset became: a record and its job's story, a reject, or a skip or known record.

    `files`: the numbers of the followed files that are at `path` now, by their content; without any, the name at the time counts.
    """
    loads = loads_at(connection, path, offset, files)
    if not loads:
        yield f"{path}, byte {offset}: no load has read it (`batchacct status` shows how far each file was read)"
    for row in loads:
        span = f"bytes {row.start_offset} to {row.end_offset}"
        yield f"load {row.id} of source {row.source} read {span}, the last of them at {shown(row.loaded_at)}"
        yield from _unit_in_load(connection, row, offset)


def loads_at(connection: Connection, path: str, offset: int, files: Collection[int] = ()) -> list[Found]:
    """The loads that have read a byte, as `trace_unit` is asked for it."""
    of_file: ColumnElement[bool] = load.c.file_id.in_(files) if files else load.c.path == path
    covers = and_(of_file, load.c.start_offset <= offset, load.c.end_offset > offset)
    return list(connection.execute(select(load).where(covers).order_by(load.c.id)))


def _unit_in_load(connection: Connection, row: Found, offset: int) -> Iterator[str]:
    record = row_at(connection, RECORD_TABLES[row.record_type], row, offset)
    bad = connection.execute(
        select(reject).where(
            reject.c.source == row.source,
            reject.c.load_id == row.id,
            reject.c.source_offset <= offset,
            reject.c.source_offset + reject.c.length >= offset,
        )
    ).first()
    if bad is not None:
        yield f"  rejected: {bad.reason} (`batchacct rejects show {bad.id}`)"
    elif (piece := row_at(connection, part, row, offset)) is not None:
        yield f"  {_part(connection, piece)}"
        yield from _made_of(connection, piece)
    elif record is None:
        yield f"  no record of this load: skipped, or known already from an earlier load ({row.skip_reasons or 'nothing skipped'})"
    elif row.record_type == "job":
        yield from _run(connection, record)
    elif row.record_type != "identity":
        yield from processes.told(row.record_type, record)
    else:
        yield f"  identity for job {record.lrms_job_id}: {_who(record)} at {shown(record.recorded_at)}"
        joined = select(job).join(usage, IS_OF_JOB)
        for run in connection.execute(joined.where(job.c.join_id == record.join_id, usage.c.identity_id == record.id)):
            yield from _run(connection, run)


def row_at(connection: Connection, table: Table, row: Found, offset: int) -> Found | None:
    """The row of a load whose unit has the byte at `offset`."""
    times = table.c[RECORD_TYPES[table.name].time_column]
    ids = table.c.id.between(row.id << ROWS_PER_LOAD_BITS, ((row.id + 1) << ROWS_PER_LOAD_BITS) - 1)
    of_load = and_(ids, Span(row.first_row_at, row.last_row_at).has(times))
    unit_end = table.c.source_offset + func.length(table.c.native)
    at = select(table).where(of_load, table.c.source_offset <= offset, unit_end >= offset)
    return connection.execute(at.order_by(table.c.source_offset.desc()).limit(1)).one_or_none()


def _made_of(connection: Connection, piece: Found) -> Iterator[str]:
    """The stories of the jobs, or the identities, that bear the origin of a part of the same whole, or that it amends."""
    table = job if piece.record_type == JOB.name else identity
    same_whole = and_(part.c.part_key == piece.part_key, part.c.cluster == piece.cluster, part.c.family == piece.family)
    siblings = connection.execute(select(part.c.source, part.c.source_offset, part.c.native).where(same_whole)).all()
    origin = and_(table.c.source.in_({s.source for s in siblings}), table.c.source_offset.in_({s.source_offset for s in siblings}))
    which = origin if piece.join_id is None else table.c.join_id == piece.join_id
    for record in connection.execute(select(table).where(which, table.c.superseded_by.is_(None)).order_by(table.c.id)):
        if piece.join_id is None and (record.source, record.source_offset, record.native) not in set(map(tuple, siblings)):
            continue  # of another file, which has a unit at the same offset
        if table is job:
            yield from _run(connection, record)
        else:
            yield f"  identity for job {record.lrms_job_id}: {_who(record)} at {shown(record.recorded_at)}"
