"""The same work on an Apache Spark cluster: what is a process on one machine is a task there.

Spark hands out the tasks, on whatever machines it has, and repeats those whose machine is lost; the work itself, its files and the
rules are those of `batchacct.backfill`, so what comes out is the same, row for row. So every worker must see the logs and the
output folder under the same paths (a shared file system), and needs this package and what it imports in its Python.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import pyarrow as pa

from batchacct import memory
from batchacct.backfill.pieces import parser_named
from batchacct.backfill.to_store import is_block_by_block, parse_block
from batchacct.errors import BatchacctError, ConfigError, IncompleteError
from batchacct.parsing import Block, Parsed, Parser, Source

warnings.filterwarnings("ignore", "PySpark does not yet fully support", FutureWarning)
try:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
except ImportError as error:
    raise ConfigError(f"Spark is not installed ({error}): pip install 'batchacct[spark]', and Java 17 or newer") from error

T = TypeVar("T")
R = TypeVar("R")

TASKS_AT_ONCE = 64
"""Of so many tasks for each core the results are waited for together."""
BLOCKS_AT_ONCE = 4
"""So many blocks for each core go to the cluster together, when this process appends what they become."""


@contextlib.contextmanager
def session(master: str, py_files: Iterable[str] = ()) -> Iterator[SparkSession]:
    """A session on a cluster.  Raises: ConfigError if it cannot be had."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = (
        SparkSession.builder.master(master)
        .appName("batchacct backfill")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "1")  # a task of ours is one row, of megabytes perhaps
    )
    if address := os.environ.get("SPARK_LOCAL_IP"):
        builder = builder.config("spark.driver.host", address).config("spark.driver.bindAddress", address)
    try:
        spark = builder.getOrCreate()
    except (PySparkException, Py4JError, RuntimeError, OSError) as error:
        raise ConfigError(f"no session on {master}: {_first_line(error)}. Is the master running, and Java installed?") from error
    try:
        for path in py_files:
            spark.sparkContext.addPyFile(path)
        yield spark
    finally:
        with contextlib.suppress(Py4JError, OSError):
            spark.stop()


class SparkEngine:
    """Runs work as tasks of a Spark job, each a row that goes through `mapInArrow`."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self.workers = max(spark.sparkContext.defaultParallelism, 1)

    def run(self, work: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        for some in _in_groups(tasks, TASKS_AT_ONCE * self.workers):
            yield from self.together(work, some)

    def together(self, work: Callable[[T], R], tasks: Sequence[T]) -> list[R]:
        """The results of some tasks, in their order.  Raises: what a task raised; IncompleteError if Spark itself failed."""
        rows = [(number, bytearray(pickle.dumps((work, task)))) for number, task in enumerate(tasks)]
        try:
            frame = self._spark.sparkContext.parallelize(rows, len(rows)).toDF("number long, task binary")
            done = frame.mapInArrow(_work_on, "number long, result binary").collect()
        except (PySparkException, Py4JError) as error:
            raise IncompleteError(
                f"the Spark cluster failed: {_first_line(error)}. Do its workers have batchacct in their Python, "
                f"{os.environ['PYSPARK_PYTHON']} (PYSPARK_PYTHON names another), or --py-files? Mended, start the same command "
                "again: it goes on where it stopped"
            ) from error
        results: list[R] = []
        for row in sorted(done, key=lambda row: int(row["number"])):
            result = pickle.loads(bytes(row["result"]))  # noqa: S301 - of our own workers
            if isinstance(result, _Failed):
                raise result.error
            results.append(cast("R", result))
        return results


@dataclass(frozen=True, slots=True)
class _Failed:
    """In the place of a result."""

    error: BatchacctError | OSError


def _work_on(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """In a worker: tasks to results."""
    memory.keep_freed()
    for batch in batches:
        numbers, results = batch.column(0), []
        for task in batch.column(1):
            work, what = pickle.loads(cast("bytes", task.as_py()))  # noqa: S301 - of our own driver
            try:
                result = work(what)
            except (BatchacctError, OSError) as error:
                result = _Failed(_as_raised(error))
            results.append(pickle.dumps(result))
        yield pa.RecordBatch.from_arrays([numbers, pa.array(results, pa.binary())], ["number", "result"])


def _as_raised(error: BatchacctError | OSError) -> BatchacctError | OSError:
    """The error as it can be sent: without where it came from."""
    error.__cause__ = error.__traceback__ = None
    return error


@dataclass(frozen=True, slots=True)
class _BlockTask:
    name: str
    block: Block
    source: Source


def _parse(task: _BlockTask) -> Parsed:
    return parse_block(task.name, task.block, task.source)


class OnSpark:
    """Blocks are read here, parsed on the cluster, and appended here: the workers need see no file."""

    def __init__(self, spark: SparkSession) -> None:
        self._engine = SparkEngine(spark)

    def parse(self, parser: Parser, name: str, blocks: Iterable[Block], source: Source) -> Iterator[Parsed]:
        if not is_block_by_block(parser_named(name)):
            yield from parser.parse(blocks, source)
            return
        for some in _in_groups(blocks, BLOCKS_AT_ONCE * self._engine.workers):
            yield from self._engine.together(_parse, [_BlockTask(name, block, source) for block in some])


def _in_groups(some: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(some)
    while group := list(itertools.islice(left, size)):
        yield group


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
