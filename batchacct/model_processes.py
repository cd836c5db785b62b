"""The records of what ran inside jobs, and beside them: programs, the shared objects they loaded, groups of processes."""

from __future__ import annotations

from dataclasses import replace

from batchacct.record_type import (
    INSTANT,
    INTEGER,
    KEY,
    MOST_COUNTED,
    MOST_KIB,
    ORIGIN,
    REAL,
    TEXT,
    Column,
    RecordType,
)

JOB_SOURCES = ("cgroup", "parent", "environment")
PROCESS_KINDS = ("program", "fork", "gap")
ENDINGS = ("exit", "signal", "exec", "unknown")

MOST_NS = 4_102_444_800 * 10**9 - 1
"""The last nanosecond of 2099: see `LAST_INSTANT`."""
MOST_S = 10**11
"""Of a row that stands for many: 300 years for each of ten."""
MOST_BYTES = 2**62
MOST_FAULTS = 2**62
MOST_PID = 2**32 - 1
"""As wide as any kernel's process, user and group ids."""
MOST_LOST = 2**53

_KEY = tuple(
    replace(c, required=False, doc="kind of batch system of the host, where it has one")
    if c.name == "lrms"
    else replace(c, doc="cluster of the host, by configuration")
    if c.name == "cluster"
    else c
    for c in KEY
)

PROCESS = RecordType(
    "process",
    "one program run by one process: from its exec (or fork, if it never called exec) to the next exec or its end",
    "logged_at",
    (
        *_KEY,
        Column("lrms_job_id", TEXT, "job id without array index; null outside a batch job"),
        Column("array_index", INTEGER, "index within a job array; null where the job is none"),
        Column("step_id", TEXT, "step of the job, in the words of the batch system"),
        Column("join_id", TEXT, "the job id as the records of jobs spell it; null outside a batch job"),
        Column("job_from", TEXT, "how the job was found: " + ", ".join(JOB_SOURCES)),
        Column("job_claims", TEXT, "what each source said of the job, JSON object, only where they differ"),
        Column("host", TEXT, "host it ran on", required=True),
        Column("boot_id", TEXT, "the host's boot; null where the source has none, as BSD accounting"),
        Column("pid", INTEGER, "process id", required=True, most=MOST_PID),
        Column("parent_pid", INTEGER, "process id of the parent", most=MOST_PID),
        Column("user_id", INTEGER, "numeric uid", most=MOST_PID),
        Column("user_name", TEXT, "local account"),
        Column("group_id", INTEGER, "numeric gid", most=MOST_PID),
        Column(
            "kind",
            TEXT,
            "program: it was exec'ed; fork: it never called exec; gap: nothing of the sort, but that `lost_events` were lost "
            "between `started_at` and `logged_at`",
            required=True,
        ),
        Column("started_at", INSTANT, "when it started", required=True),
        Column("start_ns", INTEGER, "when it started, Unix time", "ns", most=MOST_NS),
        Column("end_ns", INTEGER, "when it ended, Unix time", "ns", most=MOST_NS),
        Column("logged_at", INSTANT, "when it ended; where that is not known, when that was found", required=True),
        Column("elapsed_s", REAL, "from start to end", "s", most=MOST_S),
        Column(
            "cpu_user_s",
            REAL,
            "user CPU time of the whole process, with the last program of a chain of execs",
            "s",
            most=MOST_S,
        ),
        Column("cpu_system_s", REAL, "system CPU time of the whole process, with the last program", "s", most=MOST_S),
        Column("program", TEXT, "path of the program, resolved"),
        Column("command", TEXT, "name the kernel has for it (comm)"),
        Column("arguments", TEXT, "arguments, as far as the site's policy allows, JSON list"),
        Column("ended_by", TEXT, "one of " + ", ".join(ENDINGS), required=True),
        Column("exit_code", INTEGER, "exit code, 0 to 255", most=255),
        Column("exit_signal", INTEGER, "signal that ended it; null if none", most=255),
        Column("core_dumped", INTEGER, "1 if it left a core, 0 if not", most=1),
        Column("memory_real_kib", INTEGER, "peak resident memory", "KiB", most=MOST_KIB),
        Column("memory_virtual_kib", INTEGER, "peak virtual memory", "KiB", most=MOST_KIB),
        Column("minor_faults", INTEGER, "page faults without I/O", "faults", most=MOST_FAULTS),
        Column("major_faults", INTEGER, "page faults with I/O", "faults", most=MOST_FAULTS),
        Column("read_bytes", INTEGER, "read from storage", "bytes", most=MOST_BYTES),
        Column("written_bytes", INTEGER, "written to storage", "bytes", most=MOST_BYTES),
        Column("threads", INTEGER, "threads it had", "threads", most=MOST_COUNTED),
        Column("superuser", INTEGER, "1 if it used the superuser's privileges, 0 if not", most=1),
        Column("terminal", TEXT, "controlling terminal"),
        Column("signature", TEXT, "UUID that was linked into the program"),
        Column("build_id", TEXT, "build id of the program, hexadecimal"),
        Column("object_set", TEXT, "name of the set of shared objects it had loaded: see `object`"),
        Column("modules", TEXT, "environment modules that were loaded, JSON list"),
        Column("environment", TEXT, "allowed environment variables, JSON object"),
        Column("mpi_rank", INTEGER, "rank of an MPI process", most=MOST_COUNTED),
        Column("mpi_size", INTEGER, "processes of its MPI program", "processes", most=MOST_COUNTED),
        Column(
            "processes",
            INTEGER,
            "executions the row stands for: 1; of equal ones added up on the node how many, times, CPU, faults and bytes being "
            "sums, memory the greatest; 0 of a gap",
            "executions",
            required=True,
            most=MOST_LOST,
        ),
        Column("lost_events", INTEGER, "of a gap: events of which nothing is known", "events", most=MOST_LOST),
        Column(
            "seen_by", TEXT, "the sources it is known from, JSON list of acct, connector, sensor, taskstats, proc", required=True
        ),
        *ORIGIN,
    ),
)

OBJECT = RecordType(
    "object",
    "one shared object of a set that programs loaded together; a set is told again each month, and its name says its contents",
    "seen_at",
    (
        *_KEY,
        Column(
            "object_set", TEXT, "name of the set: hexadecimal xxh3-128 of its sorted paths, build ids and signatures", required=True
        ),
        Column("path", TEXT, "path of the object, resolved", required=True),
        Column("build_id", TEXT, "its build id, hexadecimal"),
        Column("signature", TEXT, "UUID that was linked into it"),
        Column("host", TEXT, "host where the set was seen", required=True),
        Column("seen_at", INSTANT, "when the set was seen", required=True),
        *ORIGIN,
    ),
)

PROCESS_GROUP = RecordType(
    "process_group",
    "one process in one group of processes, from when it came to it to when it left it or ended",
    "left_at",
    (
        *_KEY,
        Column("host", TEXT, "host of the group", required=True),
        Column("boot_id", TEXT, "the host's boot"),
        Column("group_id", TEXT, "the group", required=True),
        Column("group_name", TEXT, "name it was given"),
        Column("made_by", TEXT, "what made the group: hand, rule, or `rule:` and the rule's name"),
        Column("owner", TEXT, "account of who made it"),
        Column("pid", INTEGER, "process id", required=True, most=MOST_PID),
        Column("start_ns", INTEGER, "when the process was forked, Unix time", "ns", most=MOST_NS),
        Column("joined_ns", INTEGER, "when it came to the group, Unix time", "ns", most=MOST_NS),
        Column("left_ns", INTEGER, "when it left the group or ended, Unix time", "ns", most=MOST_NS),
        Column("left_at", INSTANT, "when it left the group or ended", required=True),
        Column("inherited", INTEGER, "1 if its parent was in the group when it was forked, 0 if it was added itself", most=1),
        *ORIGIN,
    ),
)
