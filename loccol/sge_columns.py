"""The columns of jobs and parts from the fields of many SGE accounting lines at once: the second half of the fast lane.

Each column is what `loccol.sge_runs` makes of the same field of a plain line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import xxhash

from batchacct.model import INSTANT, INTEGER, JOB, PART, TEXT, RecordType, join_lists, text_of
from batchacct.parsing import Source
from loccol.sge_category import NO_LIMITS, Request, as_json, colons_restored, gpus_of, pairs, request_of
from loccol.sge_colon import NONE, NOWHERE
from loccol.sge_runs import BY_SIGNAL, DEFAULT_ACCOUNT, ENFORCED, LAST_SIGNAL, LRMS, MASTER, RESCHEDULED, TASK, state_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

if TYPE_CHECKING:
    Column = pa.Array[Any]

compute: Any = pyarrow.compute
"""Untyped: the stubs know fewer kinds of arguments than the kernels take."""

STATES = ("completed", "failed", "requeued")
_NONE_WORD = int.from_bytes(b"NONE", "little")


@dataclass(slots=True)
class Rows:
    """Some lines of a block: their numbers in it, their bounds, how many fields each has.

    By name of field: its span, the number in it, rounded down, and the digits behind the point as a number.
    """

    data: bytes
    lines: Ints
    starts: Ints
    stops: Ints
    fields: Ints
    spans: dict[str, tuple[Ints, Ints]]
    numbers: dict[str, Ints]
    fractions: dict[str, Ints]

    def of(self, good: Bools) -> Rows:
        if good.all():
            return self
        return Rows(
            self.data, self.lines[good], self.starts[good], self.stops[good], self.fields[good],
            {name: (starts[good], ends[good]) for name, (starts, ends) in self.spans.items()},
            {name: numbers[good] for name, numbers in self.numbers.items()},
            {name: digits[good] for name, digits in self.fractions.items()},
        )  # fmt: skip

    def is_none(self, name: str) -> Bools:
        """Whether a field is empty, absent, or `NONE`."""
        starts, ends = self.spans[name]
        words = np.ndarray(len(self.data) - 3, "<u4", self.data, strides=(1,))
        none: Bools = (starts == ends) | ((ends - starts == 4) & (words[np.minimum(starts, len(words) - 1)] == _NONE_WORD))
        return none

    def texts(self, name: str) -> Column:
        """The texts of a field; null where it says nothing."""
        return _spans(self.data, *self.spans[name], ~self.is_none(name), TEXT)

    def encoded(self, name: str) -> tuple[list[bytes], Column]:
        """The different values of a field, and which of them each line has."""
        found: Any = _spans(self.data, *self.spans[name], np.ones(len(self.lines), np.bool_), pa.binary()).dictionary_encode()
        return found.dictionary.to_pylist(), found.indices


def _spans(data: bytes, starts: Ints, ends: Ints, there: Bools, kind: pa.DataType) -> Column:
    """The spans, which ascend and do not overlap, as texts or bytes; null where nothing is there.

    They are every second element of an array that lies over `data` itself.
    """
    count = len(starts)
    if there.all():
        which = pa.array(np.arange(0, 2 * count, 2))
    else:
        starts, ends = starts[there], ends[there]
        which = pa.array(2 * np.cumsum(there) - 2, mask=~there)
    offsets = np.zeros(2 * count + 1, np.int32)
    offsets[0 : 2 * len(starts) : 2] = starts
    offsets[1 : 2 * len(starts) : 2] = ends
    offsets[2 * len(starts) :] = ends[-1] if len(ends) else 0
    over = pa.Array.from_buffers(kind, 2 * count, [None, pa.py_buffer(offsets.data), pa.py_buffer(data)])
    taken: Column = compute.take(over, which)
    return taken


def jobs(rows: Rows, offset: int, source: Source, label: str) -> pa.RecordBatch:
    """The jobs of lines of serial ones."""
    if not len(rows.lines):
        return JOB.empty()
    categories, category = rows.encoded("category")
    requests = [_request(raw) for raw in categories]
    job_id = _text_of(rows.numbers["job_number"])
    task_number, end = rows.numbers["task_number"], rows.numbers["end_time"]
    columns = _origin(rows, offset, source, label) | _who(rows) | _usage(rows) | _hosts(rows)
    columns |= {
        "record_key": _run_key(rows, source),
        "lrms_job_id": job_id,
        "join_id": job_id,
        "array_index": pa.array(task_number, mask=task_number == 0),
        "submit_at": _instants(rows.numbers["submission_time"]),
        "start_at": _instants(rows.numbers["start_time"]),
        "end_at": _instants(end),
        "logged_at": _instants(end),
        "processors": _same(1, len(rows.lines), INTEGER),
    }
    columns |= _resources(rows, requests, category)
    columns |= _ending(rows, requests, category)
    return _batch(JOB, columns, len(rows.lines))


def parts(rows: Rows, offset: int, source: Source, label: str) -> pa.RecordBatch:
    """The parts of lines of parallel jobs."""
    count = len(rows.lines)
    if not count:
        return PART.empty()
    is_master = pa.array(rows.is_none("pe_taskid"))
    key = _run_key(rows, source)
    hosts, host = rows.encoded("hostname")
    task_key = compute.binary_join_element_wise(
        key, compute.coalesce(rows.texts("pe_taskid"), ""), compute.take(pa.array([_place(raw) or "" for raw in hosts]), host), ":"
    )
    end = _instants(rows.numbers["end_time"])
    columns = _origin(rows, offset, source, label) | {
        "record_key": compute.if_else(is_master, key, task_key),
        "record_type": _same(JOB.name, count),
        "family": _same("sge", count),
        "part_key": compute.binary_join_element_wise(
            _text_of(rows.numbers["job_number"]), _text_of(rows.numbers["task_number"]), "."
        ),
        "kind": compute.if_else(is_master, MASTER, TASK),
        "logged_at": end,
        "start_at": _instants(rows.numbers["start_time"]),
        "end_at": end,
    }
    return _batch(PART, columns, count)


def _batch(record_type: RecordType, columns: dict[str, Column], count: int) -> pa.RecordBatch:
    arrays = [columns[c.name] if c.name in columns else _same(None, count, c.type) for c in record_type.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=record_type.schema)


def _same(value: object, count: int, kind: pa.DataType = TEXT) -> Column:
    scalar: Any = pa.scalar(value, kind)
    column: Column = pa.repeat(scalar, count)
    return column


def _text_of(numbers: Ints) -> Column:
    text: Column = compute.cast(pa.array(numbers), TEXT)
    return text


def _instants(seconds: Ints) -> Column:
    return pa.array(seconds, mask=seconds == 0).view(INSTANT)


def _origin(rows: Rows, offset: int, source: Source, label: str) -> dict[str, Column]:
    count = len(rows.lines)
    units = map(rows.data.__getitem__, map(slice, rows.starts.tolist(), rows.stops.tolist()))
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, units), np.uint64, count)
    return {
        "content_hash": pa.array(hashes.view(np.int64)),
        "site": _same(source.site, count),
        "cluster": _same(source.cluster, count),
        "lrms": _same(LRMS, count),
        "native": _spans(rows.data, rows.starts, rows.stops, np.ones(count, np.bool_), pa.binary()),
        "source": _same(source.name, count),
        "source_offset": pa.array(rows.starts + offset),
        "parser": _same(label, count),
    }


def _run_key(rows: Rows, source: Source) -> Column:
    names = ("job_number", "task_number", "submission_time", "start_time", "end_time")
    key: Column = compute.binary_join_element_wise(f"sge:{source.cluster}", *(_text_of(rows.numbers[n]) for n in names), ":")
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
    starts, ends = (side[beyond].tolist() for side in rows.spans["submit_cmd"])
    texts = [text_of(colons_restored(rows.data[start:end])) for start, end in zip(starts, ends, strict=True)]
    mask = np.zeros(len(rows.lines), np.bool_)
    mask[beyond] = True
    restored: Column = compute.replace_with_mask(commands, pa.array(mask), pa.array(texts, TEXT))
    return restored


def _request(category: bytes) -> Request:
    return request_of("" if category in NONE else text_of(colons_restored(category)))


def _usage(rows: Rows) -> dict[str, Column]:
    numbers = rows.numbers
    whole, fraction, places = numbers["cpu"], 2 * rows.fractions["cpu"], numbers["cpu_places"]
    maxrss, virtual = numbers["maxrss"], numbers["maxvmem"]
    real = np.where(maxrss > 0, maxrss // 1024, numbers["ru_maxrss"])
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


def _hosts(rows: Rows) -> dict[str, Column]:
    """The one host of a serial job."""
    found, host = rows.encoded("hostname")
    lists = [_alone(raw) for raw in found]
    counts = pa.array([1 if known else None for known in lists], INTEGER)
    return {"exec_hosts": compute.take(pa.array(lists, TEXT), host), "node_count": compute.take(counts, host)}


@lru_cache(maxsize=1 << 14)
def _alone(host: bytes) -> str | None:
    place = _place(host)
    return place and join_lists([(1, place)])


def _resources(rows: Rows, requests: Sequence[Request], category: Column) -> dict[str, Column]:
    """What was asked for, what was granted (in the latest form alone), and the numbers as they are written."""
    grants, grant = rows.encoded("granted")
    granted = [pairs("" if raw in NONE else text_of(raw)) for raw in grants]
    granted_text = compute.take(pa.array([f'"granted":{as_json(one)},' if one else "" for one in granted], TEXT), grant)
    request_text = compute.take(pa.array([f'"request":{r.text},' if r.text else "" for r in requests], TEXT), category)
    gpus = compute.take(pa.array([gpus_of(one) for one in granted], INTEGER), grant)
    gpus_asked = compute.take(pa.array([request.gpus for request in requests], INTEGER), category)
    mem, io, ioops = (_spans(rows.data, *rows.spans[n], np.ones(len(rows.lines), np.bool_), TEXT) for n in ("mem", "io", "ioops"))
    late = compute.binary_join_element_wise(',"ioops":', ioops, "")
    late = compute.if_else(pa.array(rows.spans["ioops"][0] < rows.spans["ioops"][1]), late, "")
    pieces = ("{", request_text, granted_text, '"mem":', mem, ',"io":', io, late, "}")
    return {"gpu_count": compute.coalesce(gpus, gpus_asked), "resources": compute.binary_join_element_wise(*pieces, "")}


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
        texts = _judge(rows.of(judged), requests, np.asarray(category)[judged])
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
