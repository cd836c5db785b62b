"""The columns of jobs and parts from the fields of many SGE accounting lines at once: the second half of the fast lane.

Each column is what `loccol.sge_runs` makes of the same field of a plain line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from batchacct.model import INSTANT, INTEGER, JOB, LAST_INSTANT, PART, TEXT, RecordType, join_lists, text_of
from batchacct.parsing import Source
from batchacct.parsing.columnar import spans_of
from loccol.sge_category import NO_LIMITS, Request, as_json, colons_restored, gpus_of, pairs, request_of
from loccol.sge_colon import NONE, NOWHERE
from loccol.sge_rows import Ints, Rows, compute, same
from loccol.sge_runs import BY_SIGNAL, DEFAULT_ACCOUNT, ENFORCED, LAST_SIGNAL, LRMS, MASTER, RESCHEDULED, TASK, state_of

if TYPE_CHECKING:
    Column = pa.Array[Any]

TIMES = ("submission_time", "start_time", "end_time")
STATES = ("completed", "failed", "requeued")
_NOWHERE = pa.array(sorted(NOWHERE)).cast(TEXT)


def jobs(rows: Rows, offset: int, source: Source, label: str) -> pa.RecordBatch:
    """The jobs of lines of serial ones."""
    if not len(rows):
        return JOB.empty()
    categories, category = rows.encoded("category")
    requests = [_request(raw) for raw in categories]
    job_id = rows.written("job_number")
    task_number, end = rows.numbers["task_number"], rows.numbers["end_time"]
    columns = _origin(rows, offset, source, label) | _who(rows) | _usage(rows) | _one_host(rows)
    columns |= {
        "record_key": _run_key(rows, source),
        "lrms_job_id": job_id,
        "join_id": job_id,
        "array_index": pa.array(task_number, mask=task_number == 0),
        "submit_at": _instants(rows.numbers["submission_time"]),
        "start_at": _instants(rows.numbers["start_time"]),
        "end_at": _instants(end),
        "logged_at": _instants(end),
        "processors": same(1, len(rows), INTEGER),
    }
    columns |= _resources(rows, requests, category)
    columns |= _ending(rows, requests, category)
    return _batch(JOB, columns, len(rows))


def parts(rows: Rows, offset: int, source: Source, label: str) -> pa.RecordBatch:
    """The parts of lines of parallel jobs."""
    count = len(rows)
    if not count:
        return PART.empty()
    is_master = pa.array(rows.is_none("pe_taskid"))
    key = _run_key(rows, source)
    task, host = (compute.fill_null(column, "") for column in (rows.texts("pe_taskid"), _hosts(rows)))
    task_key = compute.binary_join_element_wise(key, task, host, ":")
    end = _instants(rows.numbers["end_time"])
    columns = _origin(rows, offset, source, label) | {
        "record_key": compute.if_else(is_master, key, task_key),
        "record_type": same(JOB.name, count),
        "family": same("sge", count),
        "part_key": compute.binary_join_element_wise(rows.written("job_number"), rows.written("task_number"), "."),
        "kind": compute.if_else(is_master, MASTER, TASK),
        "logged_at": end,
        "start_at": _instants(rows.numbers["start_time"]),
        "end_at": end,
    }
    return _batch(PART, columns, count)


def _batch(record_type: RecordType, columns: dict[str, Column], count: int) -> pa.RecordBatch:
    arrays = [columns[c.name] if c.name in columns else same(None, count, c.type) for c in record_type.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=record_type.schema)


def _instants(seconds: Ints) -> Column:
    return pa.array(seconds, mask=seconds == 0).view(INSTANT)


def _origin(rows: Rows, offset: int, source: Source, label: str) -> dict[str, Column]:
    count = len(rows)
    units = map(rows.data.__getitem__, map(slice, rows.starts.tolist(), rows.stops.tolist()))
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, units), np.uint64, count)
    return {
        "content_hash": pa.array(hashes.view(np.int64)),
        "site": same(source.site, count),
        "cluster": same(source.cluster, count),
        "lrms": same(LRMS, count),
        "native": spans_of(rows.data, rows.starts, rows.stops, pa.binary()),
        "source": same(source.name, count),
        "source_offset": pa.array(rows.starts + offset),
        "parser": same(label, count),
    }


def _run_key(rows: Rows, source: Source) -> Column:
    """Times in seconds stand in the line as they do in the key; those in milliseconds are longer."""
    spans = [rows.span(name) for name in TIMES]
    if max(int((ends - starts).max()) for starts, ends in spans) <= len(str(LAST_INSTANT)):
        times = [rows.written(TIMES[0], TIMES[-1])]
    else:
        times = [compute.cast(pa.array(rows.numbers[name]), TEXT) for name in TIMES]
    job = rows.written("job_number"), rows.written("task_number")
    key: Column = compute.binary_join_element_wise(f"sge:{source.cluster}", *job, *times, ":")
    return key


def _who(rows: Rows) -> dict[str, Column]:
    queues, queue = rows.encoded("qname")
    return {
        "user_name": rows.texts("owner"),
        "group_name": rows.texts("group"),
        "project": _projects(rows),
        "queue": compute.take(pa.array([_place(raw) for raw in queues], TEXT), queue),
        "submit_host": rows.texts("submit_host"),
        "job_name": rows.texts("job_name"),
        "command": _commands(rows),
    }


def _place(raw: bytes) -> str | None:
    return None if raw in NOWHERE else raw.decode("ascii")


def _projects(rows: Rows) -> Column:
    accounts, account = rows.encoded("account")
    charged = [None if raw in NONE or raw == DEFAULT_ACCOUNT.encode() else raw.decode("ascii") for raw in accounts]
    project: Column = compute.coalesce(rows.texts("project"), compute.take(pa.array(charged, TEXT), account))
    return project


def _commands(rows: Rows) -> Column:
    """submit_cmd, the colons in it restored; the one text that may hold bytes beyond ASCII."""
    commands = rows.texts("submit_cmd")
    beyond = np.flatnonzero(rows.numbers.get("beyond_ascii", 0))
    if not len(beyond):
        return commands
    starts, ends = (side[beyond].tolist() for side in rows.span("submit_cmd"))
    texts = [text_of(colons_restored(rows.data[start:end])) for start, end in zip(starts, ends, strict=True)]
    mask = np.zeros(len(rows), np.bool_)
    mask[beyond] = True
    restored: Column = compute.replace_with_mask(commands, pa.array(mask), pa.array(texts, TEXT))
    return restored


def _request(category: bytes) -> Request:
    return request_of("" if category in NONE else text_of(colons_restored(category)))


def _usage(rows: Rows) -> dict[str, Column]:
    numbers = rows.numbers
    whole, fraction, places = numbers["cpu"], 2 * rows.fractions["cpu"], numbers["cpu_places"]
    real, virtual = numbers["ru_maxrss"], numbers["maxvmem"]
    if "maxrss" in numbers:
        real = np.where(numbers["maxrss"] > 0, numbers["maxrss"] // 1024, real)
    return {
        "cpu_duration_s": pa.array(whole + ((fraction > places) | ((fraction == places) & (whole % 2 == 1)))),
        "wall_duration_s": pa.array(_wall(rows)),
        "memory_real_kib": pa.array(real, mask=real == 0),
        "memory_virtual_kib": pa.array(virtual // 1024, mask=virtual == 0),
    }


def _wall(rows: Rows) -> Ints:
    elapsed, stated = rows.numbers["end_time"] - rows.numbers["start_time"], rows.numbers["ru_wallclock"]
    is_stated = (stated > 0) | (rows.fractions["ru_wallclock"] > 0)
    return np.where(is_stated & (stated <= elapsed + 1), stated, elapsed)


def _hosts(rows: Rows) -> Column:
    """The host of each line; null where it is that of a job that was never dispatched."""
    hosts = rows.texts("hostname")
    nowhere = compute.is_in(hosts, _NOWHERE)
    found: Column = compute.if_else(nowhere, None, hosts) if compute.any(nowhere).as_py() else hosts
    return found


def _one_host(rows: Rows) -> dict[str, Column]:
    """The one host of a serial job."""
    hosts = _hosts(rows)
    if _is_plain(hosts):
        lists = compute.binary_join_element_wise('["1*', hosts, '"]', "")
    else:
        lists = pa.array([host and join_lists([(1, host)]) for host in hosts.to_pylist()], TEXT)
    counts = same(1, len(rows), INTEGER)
    return {"exec_hosts": lists, "node_count": counts if not hosts.null_count else compute.if_else(hosts.is_valid(), counts, None)}


def _is_plain(texts: Column) -> bool:
    """Whether nothing in some ASCII texts, which have a buffer of their own, is written otherwise in JSON."""
    data: Any = texts.buffers()[2]
    array = np.frombuffer(data or b"", np.uint8)
    return not ((array < ord(" ")) | (array == ord('"')) | (array == ord("\\"))).any()


def _resources(rows: Rows, requests: Sequence[Request], category: Column) -> dict[str, Column]:
    """What was asked for, what was granted (in the latest form alone), and the numbers as they are written."""
    asked = compute.take(pa.array([f'{{"request":{r.text},' if r.text else "{" for r in requests], TEXT), category)
    gpus = compute.take(pa.array([request.gpus for request in requests], INTEGER), category)
    pieces = [asked, '"mem":', rows.written("mem"), ',"io":', rows.written("io")]
    if rows.has("granted"):
        text, granted_gpus = _granted(rows)
        pieces.insert(1, text)
        gpus = compute.coalesce(granted_gpus, gpus)
    if rows.has("ioops"):
        late = compute.binary_join_element_wise(',"ioops":', rows.written("ioops"), "")
        pieces.append(compute.if_else(pa.array(rows.absent("ioops")), "", late))
    return {"gpu_count": gpus, "resources": compute.binary_join_element_wise(*pieces, "}", "")}


def _granted(rows: Rows) -> tuple[Column, Column]:
    """The granted resources as a piece of JSON, empty if there are none, and the GPUs among them."""
    grants, grant = rows.encoded("granted")
    granted = [pairs("" if raw in NONE else text_of(raw)) for raw in grants]
    texts = [f'"granted":{as_json(one)},' if one else "" for one in granted]
    gpus = [gpus_of(one) for one in granted]
    return compute.take(pa.array(texts, TEXT), grant), compute.take(pa.array(gpus, INTEGER), grant)


def _ending(rows: Rows, requests: Sequence[Request], category: Column) -> dict[str, Column]:
    failed, status = rows.numbers["failed"], rows.numbers["exit_status"]
    signal = status - 128
    by_signal = np.isin(failed, sorted(BY_SIGNAL)) & (signal > 0) & (signal <= LAST_SIGNAL)
    requeued = np.isin(failed, sorted(RESCHEDULED))
    code = np.where(requeued, STATES.index("requeued"), ((failed != 0) | (status != 0)).astype(np.int64))
    state: Column = compute.take(pa.array(STATES, TEXT), pa.array(code))
    limited = np.array([request.limits != NO_LIMITS for request in requests])[np.asarray(category)]
    judged = (code == STATES.index("failed")) & (np.isin(failed, sorted(ENFORCED)) | limited | ~rows.is_none("qdel_info"))
    if judged.any():
        texts = _judge(rows.at(np.flatnonzero(judged)), requests, np.asarray(category)[judged])
        state = compute.replace_with_mask(state, pa.array(judged), pa.array(texts, TEXT))
    return {
        "exit_code": pa.array(status, mask=status > 0xFF),
        "exit_signal": pa.array(signal, mask=~by_signal),
        "state": state,
    }


def _judge(rows: Rows, requests: Sequence[Request], category: Ints) -> list[str]:
    """How the jobs ended that did so in some unusual way; they are few."""
    numbers = rows.numbers
    cpu = (numbers["cpu"].tolist(), rows.fractions["cpu"].tolist(), numbers["cpu_places"].tolist())
    cpu_s = [(whole * places + fraction) / places for whole, fraction, places in zip(*cpu, strict=True)]
    columns = [numbers["failed"].tolist(), numbers["exit_status"].tolist(), rows.texts("qdel_info").to_pylist()]
    measured = [_wall(rows).tolist(), cpu_s, numbers["maxvmem"].tolist()]
    return [
        state_of(failed, status, deleted_by, requests[request].limits, slots=1, wall_s=wall, cpu_s=cpu, maxvmem=maxvmem)
        for (failed, status, deleted_by), request, (wall, cpu, maxvmem) in zip(
            zip(*columns, strict=True), category.tolist(), zip(*measured, strict=True), strict=True
        )
    ]
