"""A report's figures from a folder of Parquet files (a backfill's, or an archive's), summed on an Apache Spark cluster.

The folder has no VO map and no benchmarks: a job has the VO that the file says, and nothing is normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sql

from batchacct.errors import ConfigError
from batchacct.ledger.whose import NOT_JOINED, UNKNOWN, WAITING
from batchacct.usage.summing import MOST_ENERGY_J, TOTALS
from cpuhours.figures import files_of_jobs
from cpuhours.query import DAY_S, Gaps, How, framed, gaps_between, question

_COLUMNS = {
    **{name: name for name in ("queue", "cluster", "project", "site", "submit_host")},
    "user": "user_name",
    "group": "group_name",
}
_GROUPS = ("vo", "day", *_COLUMNS, "outcome", "state", "exit")


class SparkFigures:
    """Those of the finished files in a folder, which every worker has to see under this path."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        files = [str(file.resolve()) for file, _ in files_of_jobs(folder)]
        jobs = spark.read.option("mergeSchema", "true").parquet(*files)
        for name in ("start_at", "end_at", "logged_at"):
            jobs = jobs.withColumn(name, sql.col(name).cast("long"))
        self._jobs = jobs
        counted = sql.col("superseded_by").isNull() & sql.col("start_at").isNotNull() & sql.col("end_at").isNotNull()
        self._counted = jobs.where(counted)

    def usage_by(self, *, by: str | Sequence[str], **how: Unpack[How]) -> pd.DataFrame:
        """As `query.usage_by`; jobs are counted as wholes, by what is in the files' own columns.  Raises: ConfigError."""
        asked = question(by, **how)
        if asked.normalise is not None:
            raise ConfigError("a folder of Parquet files has no benchmarks: leave out --normalise")
        if asked.counted == "spread":
            raise ConfigError("a Spark cluster does not spread jobs over the time they ran: leave out --master")
        if wrong := [name for name in (*asked.names, *asked.where.dimensions) if name not in _GROUPS]:
            raise ConfigError(
                f"a Spark cluster knows nothing of {', '.join(wrong)}: leave out --master, or use {', '.join(_GROUPS)}"
            )
        instant = sql.col("start_at" if asked.counted == "started" else "end_at")
        chosen = self._counted if asked.begin is None else self._counted.where(instant >= asked.begin)
        chosen = chosen if asked.end is None else chosen.where(instant < asked.end)
        for name in asked.where.dimensions:
            if name not in asked.where.inexact:
                chosen = chosen.where(self._group(name).isin(*asked.where.of[name]))
        unit = sql.lit(0) if asked.bins is None else sql.floor(instant / asked.unit_s)
        measures = _measures()
        sums = chosen.groupBy(*(self._group(name).alias(name) for name in asked.keys), unit.alias("unit")).agg(
            *(sql.sum(measures[name]) for name in TOTALS)
        )
        rows = [tuple(0 if value is None else value for value in row) for row in sums.collect()]
        return framed(pd.DataFrame(rows, columns=[*asked.keys, "unit", *TOTALS]), asked, by)

    def benchmark_types(self) -> list[str]:
        return []

    def ends(self) -> tuple[int, int] | None:
        return _extremes(self._counted, "end_at")

    def first_start(self) -> int | None:
        found = _extremes(self._counted, "start_at")
        return None if found is None else found[0]

    def logged_span(self) -> tuple[int, int] | None:
        return _extremes(self._jobs, "logged_at")

    def collection_gaps(self, begin: int, end: int) -> Gaps:
        first, last = begin // DAY_S, -(-end // DAY_S)
        seen: dict[str, set[int]] = {}
        for name in ("end_at", "logged_at"):
            at = sql.col(name)
            days = self._jobs.where((at >= first * DAY_S) & (at < last * DAY_S)).select("cluster", _day(at).alias("day")).distinct()
            for row in days.collect():
                seen.setdefault(row["cluster"], set()).add(int(row["day"]))
        return gaps_between(seen, first, last)

    def notes(self, period: tuple[int | None, int | None]) -> list[str]:
        return []

    def _group(self, name: str) -> Column:
        has_outcome = "outcome" in self._jobs.columns
        outcome = sql.col("outcome") if has_outcome else sql.lit(None).cast("string")
        if name == "outcome":
            return sql.coalesce(outcome, sql.lit(NOT_JOINED))
        if name == "vo":
            vo = sql.col("vo") if "vo" in self._jobs.columns else sql.lit(None).cast("string")
            known = sql.when(outcome == "waiting", WAITING).otherwise(sql.coalesce(vo, sql.lit(UNKNOWN)))
            return sql.when(outcome.isNull(), NOT_JOINED).otherwise(known)
        if name == "state":
            return sql.col("state")
        if name == "exit":
            signal, code = sql.col("exit_signal"), sql.col("exit_code")
            exited = sql.when(code == 0, "0").otherwise(sql.concat(sql.lit("exit "), code.cast("string")))
            said = sql.when(signal.isNull(), exited).otherwise(sql.concat(sql.lit("signal "), signal.cast("string")))
            return sql.coalesce(said, sql.lit(UNKNOWN))
        return sql.coalesce(sql.col(_COLUMNS[name]), sql.lit(UNKNOWN))


def _measures() -> dict[str, Column]:
    """Of one job what is summed (see `summing`); null where it is unknown."""
    cpu, wall, gpus = sql.col("cpu_duration_s"), sql.col("wall_duration_s"), sql.col("gpu_count")
    core, wait = wall * sql.col("processors"), sql.col("start_at") - sql.col("submit_at").cast("long")
    joules = sql.when(sql.col("energy_j").between(0, MOST_ENERGY_J), sql.floor(sql.col("energy_j")))
    both = cpu.isNotNull() & core.isNotNull()

    def unknown(of: Column) -> Column:
        return of.isNull().cast("long")

    return {
        "jobs": sql.lit(1),
        "cpu_unknown_jobs": unknown(cpu),
        "cpu_s": cpu,
        "wall_s": wall,
        "core_s": core,
        "core_unknown_jobs": unknown(core),
        "wall_unknown_jobs": unknown(wall),
        "wait_s": wait,
        "wait_unknown_jobs": unknown(wait),
        "gpu_s": gpus * wall,
        "gpu_jobs": (gpus > 0).cast("long"),
        "gpu_unknown_jobs": (gpus.isNull() | ((gpus > 0) & wall.isNull())).cast("long"),
        "energy_j": joules,
        "energy_unknown_jobs": unknown(joules),
        "both_cpu_s": sql.when(both, cpu).otherwise(0),
        "both_core_s": sql.when(both, core).otherwise(0),
    }


def _day(at: Column) -> Column:
    return sql.floor(at / DAY_S)


def _extremes(jobs: DataFrame, name: str) -> tuple[int, int] | None:
    row = jobs.agg(sql.min(name), sql.max(name)).collect()[0]
    return None if row[0] is None else (int(row[0]), int(row[1]))
