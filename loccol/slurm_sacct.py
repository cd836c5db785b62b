r"""Output of Slurm's `sacct`, parsable text: the row of a job and the rows of its steps are one run of one job.

    JobID|JobIDRaw|User|Account|State|Start|End|ElapsedRaw|NCPUS|AllocTRES|TotalCPU|MaxRSS
    8205048|8205048|alice|hep|COMPLETED|2021-03-01T10:00:00|2021-03-01T10:02:26|146|80|cpu=80,mem=312.50G,node=4|16:01.272|
    8205048.batch|8205048.batch||hep|COMPLETED|2021-03-01T10:00:00|2021-03-01T10:02:26|146|20||16:01.268|1764224K

Suggested, by cron into a file that is collected (or `-n` and no header, or another list with a header):

    TZ=UTC SLURM_TIME_FORMAT=%s sacct -a -D -P -n --noconvert -M CLUSTER -S ... -E ... --format=RECOMMENDED

with the list RECOMMENDED below, which is known without a header line, as APEL's and Open XDMoD's are. Any other list needs its
header line: at the top of the file, or before the rows it holds for. Whatever separates the names in the header (`|`, a tab,
`;`, `\x1f`) separates the fields; `-p`'s trailing one is allowed. Needed are JobID or JobIDRaw, Start and End, and not to lose
the time of suspension, ElapsedRaw or Elapsed. Values by form: `loccol.slurm_values`.

| Column                 | Field, and what is done with it                                                                         |
|------------------------|---------------------------------------------------------------------------------------------------------|
| lrms_job_id, join_id,  | JobID: N for a job, and for each task of array N, whose index is array_index; a component of a          |
| array_index            | heterogeneous job is `N+O`, and joins by N, which is what `sbatch` told the computing element           |
| run_number             | Restarts + 1                                                                                            |
| user_name, user_id     | User, UID;  group_name, project, queue: Group, Account, Partition                                       |
| job_name, command      | JobName, SubmitLine                                                                                     |
| submit_at, eligible_at | Submit, Eligible;  start_at, end_at: Start, End; in the source's zone unless they say theirs            |
| logged_at              | End                                                                                                     |
| wall_duration_s        | ElapsedRaw, else Elapsed: without suspension; End - Start only if that is not known                     |
| cpu_*                  | UserCPU + SystemCPU, else TotalCPU, else cpu of TRESUsageInTot, of the job's row; if all are 0 the sum  |
|                        | of the same over its steps; else null: 0 is shown where nothing was gathered. Never CPUTime             |
| processors, node_count | AllocTRES cpu and node, else AllocCPUS or NCPUS, AllocNodes or NNodes, names in NodeList                |
| exec_hosts             | NodeList written out, up to 16384 nodes; slots are known only of a lone node                            |
| gpu_*, resources       | AllocTRES, or AllocGRES before 20.11; `resources` has QOS too, and CPU time by step where it was summed |
| energy_j               | ConsumedEnergyRaw, else AllocTRES energy                                                                |
| memory_real_kib,       | largest MaxRSS and MaxVMSize of the steps, else of TRESUsageInMax: that of the largest *task*, not the  |
| memory_virtual_kib     | sum over tasks; 0 is null                                                                               |
| memory_requested_kib   | ReqMem, times ReqCPUS or ReqNodes where it is a share of each (up to 20.11); else ReqTRES mem           |
| exit_code, exit_signal | ExitCode;  state: first word of State, without a State `unknown`                                        |

**Runs.** Key: cluster (the configured one; a source is one cluster, Cluster in a row is not looked at), raw id, Start, End. Each
row of a requeued job (`-D`) is a run of its own. Rows that have not ended (PENDING, RUNNING, End Unknown) are skipped; sacct shows
them again. A job that never started (Start None, or in older versions Start = End and nothing allocated) has state
`never_started`, and no start, wallclock, CPU or processors. A row RESIZING with an end is a run with state `unknown`;
the row after it has the job's first Start, and begins here at the resize, which is its Submit.

**Steps** behind their job's row are part of its unit and of `native`. The row of a step without it is a part: `loccol.slurm_steps`
adds it to the run it began in.

**Zone.** Local times repeat an hour a year; that reading is taken which fits Elapsed + Suspended. `TZ=UTC` or `%s` needs none.

Sources: sacct(1); SchedMD/slurm src/sacct/{sacct,print,options}.c; samples with their origins in tests/samples/slurm.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from batchacct.model import JOB, PART
from batchacct.parsing import Block, Parsed, Source, UnitParser
from batchacct.parsing.contract import in_order
from loccol.slurm_sacct_fast import fast_lane
from loccol.slurm_sacct_framing import GroupFraming
from loccol.slurm_sacct_layout import Layout, header_of, headers, known_list_of, known_lists_told
from loccol.slurm_sacct_rows import parse_unit
from loccol.slurm_steps import COMPLETION
from loccol.slurm_values import ENDED, NOT_ENDED

_JOB_ID = re.compile(rb"[0-9]{1,10}(?:_[0-9]{1,10})?(?:\.[0-9a-z]{1,20})?")
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[+-][0-9]{4})?")
_STATES = frozenset(state.encode() for state in (*ENDED, *NOT_ENDED))


@dataclass(frozen=True, slots=True)
class BlockUnder(Block):
    """A block, the header in force where it begins, and those in it that differ from the one before, with where each begins."""

    header: Layout | None = None
    within: tuple[tuple[int, Layout], ...] = ()

    @staticmethod
    def of(block: Block, header: Layout | None) -> BlockUnder:
        within = []
        before = header
        for start, _, layout in headers(block.data):
            if layout != before:
                within.append((start, layout))
            before = layout
        return BlockUnder(block.data, block.offset, block.dropped, header, tuple(within))


@dataclass(frozen=True)
class SacctParser(UnitParser):
    """A `UnitParser` for each stretch of rows under one header; the last header of a block holds on in the next.

    Reading that begins amid a file knows the header by `source.head`, the beginning of that file.
    """

    def parse(self, blocks: Iterable[Block], source: Source, *, workers: int = 1) -> Iterator[Parsed]:
        first = next((layout for start, _, layout in headers(source.head) if start == 0), None)
        return in_order(lambda block: self.parse_block(block, source), _with_headers(blocks, first), workers)

    def parse_block(self, block: Block, source: Source) -> Parsed:
        if block.dropped:
            return super().parse_block(block, source)
        under = block if isinstance(block, BlockUnder) else BlockUnder.of(block, None)
        stretches = []
        at, header = 0, under.header
        for start, layout in under.within:
            stretches.append(self._stretch(block, at, start, header, source))
            at, header = start, layout
        stretches.append(self._stretch(block, at, len(block.data), header, source))
        return _joined(stretches, block)

    def _stretch(self, block: Block, start: int, end: int, header: Layout | None, source: Source) -> Parsed:
        """Rows under one header, which may be the first line of them."""
        part = Block(block.data[start:end] if end - start < len(block.data) else block.data, block.offset + start)
        under = UnitParser(
            self.name,
            self.record_type,
            self.lrms,
            self.version,
            partial(parse_unit, header=header),
            self.doc,
            GroupFraming(header),
            partial(fast_lane, header=header) if self.fast_lane else None,
            completion=self.completion,
        )
        return under.parse_block(part, source)


def _with_headers(blocks: Iterable[Block], header: Layout | None) -> Iterator[Block]:
    for block in blocks:
        under = BlockUnder.of(block, header)
        yield under
        header = under.within[-1][1] if under.within else header


def _joined(stretches: list[Parsed], block: Block) -> Parsed:
    """What was made of consecutive stretches of a block, as one."""
    if len(stretches) == 1:
        return stretches[0]
    skipped: Counter[str] = Counter()
    for stretch in stretches:
        skipped.update(stretch.skipped)
    return Parsed(
        _concatenated([stretch.records for stretch in stretches], JOB.empty()),
        _concatenated([stretch.parts for stretch in stretches], PART.empty()),
        tuple(reject for stretch in stretches for reject in stretch.rejects),
        skipped,
        block.offset,
        block.end_offset,
    )


def _concatenated(batches: list[pa.RecordBatch], empty: pa.RecordBatch) -> pa.RecordBatch:
    return next(iter(pa.Table.from_batches([empty, *batches]).combine_chunks().to_batches()), empty)


def recognise(head: bytes) -> bool:
    """A header of sacct's fields, a first row that is of a known list, or one that has the air of any list's."""
    for line in head.splitlines()[:1]:
        layout = header_of(line)
        if layout:
            return len(layout.names) > 2
        return known_list_of(line) is not None or _looks_like_a_row(line.split(b"|"))
    return False


def _looks_like_a_row(fields: list[bytes]) -> bool:
    """Whether there is a job id, and a state or two times beside it: such a list needs its header line to be read."""
    has_id = any(_JOB_ID.fullmatch(field) for field in fields)
    times = sum(_TIME.fullmatch(field) is not None for field in fields)
    return len(fields) > 3 and has_id and (times > 1 or any(field.partition(b" ")[0] in _STATES for field in fields))


PARSER = SacctParser(
    name="slurm",
    record_type=JOB,
    lrms="Slurm",
    version=1,
    parse_unit=partial(parse_unit, header=None),
    doc=f"{__doc__}\n{known_lists_told()}",
    framing=GroupFraming(),
    fast_lane=fast_lane,
    recognise=recognise,
    completion=COMPLETION,
)
