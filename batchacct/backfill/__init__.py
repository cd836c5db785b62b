"""Backfilling: any pile of old logs, on all cores of a machine or on a cluster, into Parquet or the store."""
