"""By what rows are put where: the month of their time, and 128-bit hashes of their keys, which stand for the keys.

(Of 10^9 keys two have the same hash with a chance of 10^-21.)
"""

from __future__ import annotations

import datetime as dt
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from batchacct.model import PART, RecordType, whole_key

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

MONTH_BITS, WHOLE_BITS = 4, 6
"""Staged rows are apart by so many bits of their hash already: by those of the key within a month, or by those of the whole."""


def times_of(record_type: RecordType, batch: pa.RecordBatch) -> Ints:
    """The time column, in Unix seconds."""
    column = batch.column(record_type.time_column).cast(pa.int64())
    return cast("Ints", column.to_numpy(zero_copy_only=False))


def months_of(times: Ints) -> Ints:
    """The UTC month of each, counted from January 1970."""
    return times.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)


def month_text(month: int) -> str:
    """`2026-11` of a month counted from January 1970."""
    return f"{dt.date(1970 + month // 12, month % 12 + 1, 1):%Y-%m}"


def key_hashes(record_type: RecordType, batch: pa.RecordBatch) -> Hashes:
    """Of each row the hash of its time and record key, as two numbers: shape (rows, 2)."""
    digest = xxhash.xxh3_128_digest
    times = (times_of(record_type, batch) & 0x7FFF_FFFF_FFFF_FFFF).tolist()
    keys = cast("list[bytes]", batch.column("record_key").cast(pa.binary()).to_pylist())
    return _numbers([digest(key, at) for key, at in zip(keys, times, strict=True)])


def whole_hashes(batch: pa.RecordBatch, record_type: RecordType) -> Hashes:
    """Of each row the hash of the whole it belongs to (cluster and part key), or would amend: shape (rows,)."""
    clusters = _texts(batch, "cluster")
    if record_type is PART:
        keys = _texts(batch, "part_key")
    else:
        indices = batch.column("array_index").to_pylist()
        keys = [whole_key(join_id, index) for join_id, index in zip(_texts(batch, "join_id"), indices, strict=True)]
    return np.array([whole_hash(cluster, key) for cluster, key in zip(clusters, keys, strict=True)], np.uint64)


def _texts(batch: pa.RecordBatch, name: str) -> list[str]:
    return cast("list[str]", batch.column(name).to_pylist())


def whole_hash(cluster: str, part_key: str) -> int:
    """The hash of a whole."""
    number: int = xxhash.xxh3_64_intdigest(f"{cluster}\0{part_key}".encode())
    return number


def _numbers(digests: list[bytes]) -> Hashes:
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64).reshape(-1, 2)


def subs_of(high: Hashes, sub_bits: int) -> Ints:
    """Which of the ranges each hash is in, by its highest bits."""
    return (high >> np.uint64(64 - sub_bits)).astype(np.int64)


def in_bucket(high: Hashes, bucket: int, bits: int) -> npt.NDArray[np.bool_]:
    """Whether the highest `bits` of each hash are `bucket`."""
    if bits == 0:
        return np.ones(len(high), np.bool_)
    return cast("npt.NDArray[np.bool_]", (high >> np.uint64(64 - bits)) == np.uint64(bucket))


def bits_for(rows: int, most: int) -> int:
    """How many bits part `rows` rows into buckets of about `most` at the most."""
    return max(0, (-(-rows // most) - 1).bit_length())


def subs_in(bucket: int, bits: int, sub_bits: int) -> range:
    """The ranges that rows of a bucket are in."""
    if bits >= sub_bits:
        sub = bucket >> (bits - sub_bits)
        return range(sub, sub + 1)
    width = 1 << (sub_bits - bits)
    return range(bucket * width, (bucket + 1) * width)
