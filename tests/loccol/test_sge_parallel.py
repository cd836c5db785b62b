"""Jobs in parallel environments: what becomes of the records of masters and tasks, in whatever order and file they come."""

from __future__ import annotations

import json
import random
from itertools import permutations

import pytest

from batchacct.model import JOB
from batchacct.parsing import Completed, Row, Whole
from loccol.sge import PARSER
from loccol.sge_json import PARSER as JSON_PARSER
from loccol.sge_parallel import CLOCK_SKEW_S, COMPLETION, complete
from tests.loccol.sge_samples import lines, parse, rows, wholes

MASTER = lines("safe-tests-sge6.acct")[12]
SLAVE = lines("safe-tests-sge6.acct")[11]
START, END = 1273571650, 1273571651
JSON = lines("ocs90.jsonl")[1]


def record(line: bytes = MASTER, *, host: bytes = b"", start: int = START, end: int = END, task: bytes = b"", cpu: bytes = b"",
           failed: bytes = b"0") -> bytes:  # fmt: skip
    tokens = line.split(b":")
    tokens[9], tokens[10], tokens[11], tokens[13] = b"%d" % start, b"%d" % end, failed, b"%d" % (end - start)
    for number, value in ((1, host), (36, cpu), (41, task)):
        tokens[number] = value or tokens[number]
    return b":".join(tokens)


def jobs(*log: bytes) -> list[Row]:
    return rows(b"\n".join(log))


def test_the_job_of_eddie() -> None:
    [job] = jobs(SLAVE, MASTER)
    assert job["record_key"] == "sge:cell:40:0:1273571643:1273571650:1273571651"
    assert (job["processors"], job["node_count"], job["wall_duration_s"]) == (8, 2, 1)
    assert job["exec_hosts"] == '["eddie243.ecdf.ed.ac.uk","eddie244.ecdf.ed.ac.uk"]'
    assert job["memory_virtual_kib"] == (518365184 + 426389504) // 1024
    assert json.loads(str(job["resources"])) == {"mem": 0.0, "io": 0.001179}
    assert (job["submit_at"], job["start_at"], job["end_at"], job["logged_at"]) == (1273571643, START, END, END)


def test_cpu_is_summed_exactly_and_rounded_once() -> None:
    log = [record(cpu=b"0.2"), *(record(SLAVE, host=b"h%d" % n, task=b"%d.h%d" % (n, n), cpu=b"0.1") for n in range(13))]
    [job] = jobs(*log)
    assert (job["cpu_duration_s"], job["node_count"]) == (2, 14)
    [job] = jobs(*log[:-10])
    assert job["cpu_duration_s"] == 0, "0.5 is rounded half to even"


def test_a_lone_record_does_not_tell_the_number_of_hosts() -> None:
    [job] = jobs(MASTER)
    assert (job["node_count"], job["exec_hosts"], job["processors"]) == (None, '["eddie243.ecdf.ed.ac.uk"]', 8)


def test_tasks_on_the_masters_host_alone() -> None:
    [job] = jobs(MASTER, record(SLAVE, host=b"eddie243.ecdf.ed.ac.uk"))
    assert (job["node_count"], job["exec_hosts"]) == (1, '["8*eddie243.ecdf.ed.ac.uk"]')


def test_a_job_with_one_slot_may_have_tasks_too() -> None:
    slave = lines("pretty-accounting-tests.acct")[0]
    tokens = slave.split(b":")
    tokens[8], tokens[36], tokens[41] = b"1163080980", b"3.0", b"NONE"
    master = b":".join(tokens)
    tokens[36], tokens[41] = b"4.0", b"1.head"
    [job] = jobs(b":".join(tokens), master)
    assert (job["cpu_duration_s"], job["node_count"], job["exec_hosts"]) == (7, 1, '["1*head.liclus.leipzig.ufz.de"]')
    [job] = jobs(master)
    assert (job["cpu_duration_s"], job["node_count"], job["exec_hosts"]) == (3, 1, '["1*head.liclus.leipzig.ufz.de"]')


def test_a_task_without_its_master_waits() -> None:
    assert jobs(SLAVE) == []
    assert jobs(record(SLAVE, start=END + CLOCK_SKEW_S + 1, end=END + CLOCK_SKEW_S + 9)) == []
    [job] = jobs(MASTER, record(SLAVE, start=END + CLOCK_SKEW_S + 1, end=END + CLOCK_SKEW_S + 9))
    assert job["node_count"] is None


def attempts() -> list[bytes]:
    """Three attempts, the second right after the first, the third years later under the same number; each with a task."""
    first = [record(start=1000, end=2000, failed=b"25", cpu=b"1"), record(SLAVE, start=1001, end=2001, cpu=b"10")]
    second = [record(start=2000, end=3000, cpu=b"2"), record(SLAVE, start=2000, end=2900, cpu=b"20")]
    third = [record(start=500_000, end=500_100, cpu=b"3"), record(SLAVE, start=499_970, end=500_100, cpu=b"30")]
    return [*first, *second, *third]


def test_each_attempt_has_the_tasks_that_it_started() -> None:
    found = sorted((row["start_at"], row["cpu_duration_s"], row["state"], row["node_count"]) for row in jobs(*attempts()))
    assert found == [(1000, 11, "requeued", 2), (2000, 22, "completed", 2), (500_000, 33, "completed", 2)]


def columns(completed: list[Completed]) -> list[dict[str, object]]:
    return sorted((dict(one.record) for one in completed), key=lambda record: str(record["record_key"]))


def test_the_order_of_arrival_does_not_matter() -> None:
    [whole] = wholes(parse(b"\n".join(attempts())))
    expected = columns(complete(whole))
    for order in permutations(whole.parts):
        found = complete(Whole(whole.key, order))
        assert columns(found) == expected
        assert {one.record["record_key"] for one in found} == {one.origin["record_key"] for one in found}


def test_given_its_own_result_it_returns_the_same() -> None:
    [whole] = wholes(parse(b"\n".join(attempts())))
    first = complete(whole)
    again = complete(Whole(whole.key, whole.parts, tuple(one.record for one in first)))
    assert columns(again) == columns(first)


def test_a_later_task_revises_and_does_not_double() -> None:
    [whole] = wholes(parse(MASTER))
    [both] = wholes(parse(b"\n".join([MASTER, SLAVE])))
    [before], [after] = complete(whole), complete(both)
    for column in ("record_key", "logged_at"):
        assert before.record[column] == after.record[column] == after.origin[column]
    assert before.origin["record_key"] == after.origin["record_key"]


def test_array_tasks_are_jobs_of_their_own() -> None:
    tokens = MASTER.split(b":")
    tokens[35] = b"7"
    found = jobs(MASTER, b":".join(tokens), SLAVE)
    assert sorted((row["array_index"] or 0, row["node_count"]) for row in found) == [(0, 2), (7, None)]


def test_what_it_makes_fits_the_record_type() -> None:
    made = [one.record for whole in wholes(parse(b"\n".join(attempts()))) for one in complete(whole)]
    origin = {"content_hash": 0, "cluster": "cell", "lrms": "SGE", "source": "s", "source_offset": 0, "parser": "sge/1"}
    assert JOB.batch([origin | record for record in made]).num_rows == 3


def told(start: int, *, task: str | None = None, host: str = "master", cpu: float = 1.5, **changes: object) -> bytes:
    """A record of a parallel job in JSON."""
    found = json.loads(JSON) | {"task_number": 0, "granted_pe": "mpi", "slots": 4, "start_time": start * 1_000_000 + 5}
    found |= {"end_time": (start + 100) * 1_000_000 + 999_999, "hostname": host, **changes}
    if task is not None:
        found["pe_taskid"] = task
    found["usage"]["eusage"] = found["usage"].pop("usage") | {"cpu": cpu}
    return json.dumps(found).encode()


def colon(start: int, *, task: str = "NONE", host: str = "master", cpu: float = 1.5) -> bytes:
    """The same in the classic file."""
    tokens = MASTER.split(b":")
    changes = {0: "all.q", 1: host, 2: "root", 3: "root", 4: "echo", 5: "10", 8: "1730532912", 9: str(start), 10: str(start + 100),
               13: "0", 34: "4", 36: str(cpu), 39: "NONE", 41: task}  # fmt: skip
    return b":".join(changes[n].encode() if n in changes else token for n, token in enumerate(tokens))


def test_both_files_complete_each_other() -> None:
    start = 1730532913
    whole = (
        parse(told(start, task="NONE"), JSON_PARSER),
        parse(colon(start, task="1.node2", host="node2", cpu=3)),
        parse(b"\n".join(told(start, task=f"{n}.node3", host="node3") for n in (1, 2)), JSON_PARSER),
        parse(told(start, task="NONE"), JSON_PARSER),
    )
    for order in permutations(whole):
        [both] = wholes(*order)
        [made] = complete(both)
        assert made.record["cpu_duration_s"] == 8, "1.5 + 3 + 1.5 + 1.5 = 7.5, each record once"
        assert (
            made.record["exec_hosts"] == '["master","node3","node2"]' or made.record["exec_hosts"] == '["master","node2","node3"]'
        )
        assert made.record["node_count"] == 3


@pytest.mark.parametrize("task", [None, "1.node2"])
def test_both_files_name_a_part_alike(task: str | None) -> None:
    [of_json] = parse(told(1730532913, task=task), JSON_PARSER).parts.to_pylist()
    [of_colon] = parse(colon(1730532913, task=task or "NONE")).parts.to_pylist()
    for column in ("record_key", "part_key", "kind", "family", "record_type", "logged_at", "start_at", "end_at", "cluster", "lrms"):
        assert of_json[column] == of_colon[column], column
    assert (of_json["parser"], of_colon["parser"]) == ("sge-json/1", "sge/1")


def test_of_two_files_that_tell_of_the_same_the_finer_is_taken() -> None:
    log = [parse(told(1730532913, cpu=2.5), JSON_PARSER), parse(colon(1730532913, cpu=2.4))]
    for order in permutations(log):
        [whole] = wholes(*order)
        assert len(whole.parts) == 2
        [made] = complete(whole)
        assert made.origin["parser"] == "sge-json/1"
        assert made.record["resources"] is not None


def test_both_parsers_share_the_rule() -> None:
    assert PARSER.completion is JSON_PARSER.completion is COMPLETION
    assert (COMPLETION.family, COMPLETION.record_type, COMPLETION.amends) == ("sge", JOB, False)


def test_many_attempts_with_many_tasks() -> None:
    log = [record(start=n * 1000, end=n * 1000 + 900) for n in range(1, 51)]
    log += [record(SLAVE, start=n * 1000 + 5, end=n * 1000 + 900, task=b"%d.h%d" % (m, m), host=b"h%d" % m)
            for n in range(1, 51) for m in range(40)]  # fmt: skip
    random.Random(1).shuffle(log)
    assert [row["node_count"] for row in jobs(*log)] == [41] * 50
