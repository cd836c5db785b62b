"""A report's figures from a folder of Parquet files (a backfill's, or an archive's), summed on an Apache Spark cluster.

The folder has no VO map and no benchmarks: a job has the VO that the file says, and nothing is normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sql

from batchacct.errors import ConfigError
from batchacct.ledger.whose import NOT_JOINED, UNKNOWN, WAITING
from cpuhours.figures import files_of_jobs
from cpuhours.query import DAY_S, GROUPS, Gaps, framed, gaps_between

_COLUMNS = {"queue": "queue", "user": "user_name", "cluster": "cluster", "group": "group_name", "project": "project"}


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

    def usage_by(
        self, *, by: Sequence[str], begin: int, end: int, vo: Sequence[str] = (), normalise: str | None = None
    ) -> pd.DataFrame:
        if normalise is not None:
            raise ConfigError("a folder of Parquet files has no benchmarks: leave out --normalise")
        if wrong := [name for name in by if name not in GROUPS]:
            raise ConfigError(f"usage cannot be grouped by {', '.join(wrong)}: use one of {', '.join(GROUPS)}")
        core = sql.col("wall_duration_s") * sql.col("processors")
        cpu = sql.col("cpu_duration_s")
        both = cpu.isNotNull() & core.isNotNull()
        chosen = self._counted.where((sql.col("end_at") >= begin) & (sql.col("end_at") < end))
        chosen = chosen.where(self._group("vo").isin(*vo)) if vo else chosen
        sums = chosen.groupBy(*(self._group(name).alias(name) for name in by)).agg(
            sql.count(sql.lit(1)),
            sql.sum(cpu.isNull().cast("long")),
            sql.sum(cpu),
            sql.sum("wall_duration_s"),
            sql.sum(core),
            sql.sum(core.isNull().cast("long")),
            sql.sum(sql.when(both, cpu).otherwise(0)),
            sql.sum(sql.when(both, core).otherwise(0)),
        )
        rows = [tuple(0 if value is None else value for value in row) for row in sums.collect()]
        return framed(rows, list(by), None)

    def benchmark_types(self) -> list[str]:
        return []

    def ends(self) -> tuple[int, int] | None:
        return _extremes(self._counted, "end_at")

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
        if name == "day":
            return _day(sql.col("end_at"))
        if name == "outcome":
            return sql.coalesce(outcome, sql.lit(NOT_JOINED))
        if name == "vo":
            vo = sql.col("vo") if "vo" in self._jobs.columns else sql.lit(None).cast("string")
            known = sql.when(outcome == "waiting", WAITING).otherwise(sql.coalesce(vo, sql.lit(UNKNOWN)))
            return sql.when(outcome.isNull(), NOT_JOINED).otherwise(known)
        return sql.coalesce(sql.col(_COLUMNS[name]), sql.lit(UNKNOWN))


def _day(at: Column) -> Column:
    return sql.floor(at / DAY_S)


def _extremes(jobs: DataFrame, name: str) -> tuple[int, int] | None:
    row = jobs.agg(sql.min(name), sql.max(name)).collect()[0]
    return None if row[0] is None else (int(row[0]), int(row[1]))
