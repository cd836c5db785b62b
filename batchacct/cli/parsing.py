"""`batchacct parse`: files through a parser, without a database."""

from __future__ import annotations

import base64
import errno
import json
import os
import sys
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from batchacct.cli.common import byte_progress
from batchacct.cli.wholes import Wholes
from batchacct.errors import BatchacctError, ConfigError, IncompleteError
from batchacct.model import RecordType
from batchacct.parsing import Parsed, Parser, Source, registry
from batchacct.parsing.contract import printable
from batchacct.parsing.hosts import this_host
from batchacct.parsing.reading import STANDARD_INPUT, Readable, UpToError, expand, open_stream, read_blocks
from batchacct.store.keys import with_strange_rejected

Writer = Callable[[pa.RecordBatch], None]


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--parser", "parser_name", help="Parser to use; guessed from each file's content when left out.")
@click.option("--output", type=click.Choice(["csv", "jsonl", "parquet"]), default="jsonl", show_default=True)
@click.option("--to", type=click.Path(path_type=Path), help="File to write to.  [default: standard output]")
@click.option("--site", help="Site the records get.")
@click.option("--cluster", default="default", show_default=True, help="Cluster the records get.")
@click.option("--zone", default="UTC", show_default=True, help="Time zone of the host that wrote it, for formats that do not say.")
@click.option("--header", help="Header line of files that have none, as their program would write it.")
@click.option("--host", help="Host that wrote it, for formats that do not say.  [default: this one]")
def parse(files: tuple[str, ...], *, parser_name: str | None, output: str, to: Path | None, **told: str | None) -> None:
    """Parses files without a database.

    FILES may be compressed (.gz .bz2 .xz .zst), patterns, or - for standard input. Writes the records, those made of several
    lines after the others; rejects go to standard error.
    """
    paths = expand(files)
    if not paths:
        raise ConfigError(f"no file matches {' '.join(files)}")
    if output == "parquet" and to is None and sys.stdout.isatty():
        raise ConfigError("parquet is no text: name a file with --to, or redirect standard output")
    if to is not None and to.exists() and any(to.samefile(path) for path in paths if Path(path).exists()):
        raise ConfigError(f"--to {to} is one of the files to parse, and would be overwritten: name another")
    run = _Run(parser_name, output, _source(**told))
    try:
        with _output(to) as sink:
            errors = run.files(paths, sink)
    except (_UnwritableError, OSError) as error:
        raise _unwritable(to, error) from error
    alone = errors[0] if len(paths) == len(errors) == 1 else None
    if alone is not None and run.record_type is None:
        raise alone
    for reason, count in run.skipped.most_common():
        click.echo(f"skipped: {reason} ({count})", err=True)
    click.echo(", ".join(f"{run.counts[name]} {name}" for name in ("records", "parts", "skipped", "rejected")), err=True)
    if run.counts["waiting"]:
        click.echo(f"{run.counts['waiting']} parts wait for others of their whole, which are not in these files", err=True)
    if alone is not None:
        raise alone
    if errors:
        raise IncompleteError(f"{len(errors)} of {len(paths)} files could not be parsed, see above; the others were")
    if run.counts["rejected"]:
        units = "1 unit was" if run.counts["rejected"] == 1 else f"{run.counts['rejected']} units were"
        raise IncompleteError(f"{units} rejected, see above; every other one was parsed")


def _source(*, site: str | None, cluster: str | None, zone: str | None, header: str | None, host: str | None) -> Source:
    """What the options say of the source of the files; its name is each file's.  Raises: ConfigError for an unknown zone."""
    head = b"" if header is None else header.encode() + b"\n"
    return Source("", site, cluster, checked_zone(zone), head=head, host=host or this_host())


def checked_zone(zone: str | None) -> zoneinfo.ZoneInfo:
    """The time zone of this name, or UTC.  Raises: ConfigError if there is none."""
    try:
        return zoneinfo.ZoneInfo(zone or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"--zone {zone}: no such time zone; names are those of the IANA database, such as Europe/Zurich"
        ) from error


class _Run:
    """The state of one call: the writer (made at the first file, when the record type is known) and the counts."""

    def __init__(self, parser_name: str | None, output: str, source: Source) -> None:
        self.parser_name, self.output, self.source = parser_name, output, source
        self.counts: Counter[str] = Counter()
        self.record_type: RecordType | None = None
        self.write: Writer = lambda batch: None
        self.close: Callable[[], None] = lambda: None
        self.skipped: Counter[str] = Counter()
        self.wholes: Wholes | None = None

    def files(self, paths: list[str], sink: IO[bytes]) -> list[BatchacctError]:
        """Parses them all; the errors of those that could not be, told already if there are several files.

        Raises: OSError if output fails.
        """
        errors: list[BatchacctError] = []
        try:
            for path in paths:
                try:
                    self.file(path, sink)
                except BatchacctError as error:
                    if len(paths) > 1:
                        click.echo(f"batchacct: {error.message}", err=True)
                    errors.append(error)
            if self.wholes is not None:
                self._write_completed(self.wholes)
        finally:
            self.close()
            if self.wholes is not None:
                self.wholes.close()
        return errors

    def _write_completed(self, wholes: Wholes) -> None:
        for batch in wholes.records():
            self._write(batch)
        self.counts["waiting"] = wholes.waiting

    def file(self, path: str, sink: IO[bytes]) -> None:
        with open_stream(path) as raw:
            stream, parser = self._parser_for(path, raw)
            if self.record_type is None:
                self.record_type = parser.record_type
                self.write, self.close = _writer(self.output, parser.record_type, sink)
            elif parser.record_type is not self.record_type:
                raise ConfigError(f"{path} holds {parser.record_type.name} records, the files before it others: parse them apart")
            size = Path(path).stat().st_size if path != STANDARD_INPUT else None
            blocks = UpToError(read_blocks(stream, parser.framing))
            with byte_progress(path, size) as progress:
                for parsed in parser.parse(blocks, replace(self.source, name=_shown(path)), workers=2):
                    self._take(with_strange_rejected(parser.record_type, parsed), parser, path)
                    progress(parsed.end_offset - parsed.start_offset)
            blocks.check()

    def _parser_for(self, path: str, raw: Readable) -> tuple[Readable, Parser]:
        if self.parser_name:
            return raw, registry.parser(self.parser_name)
        head = raw.read(registry.HEAD_BYTES)
        if not head.strip():
            raise ConfigError(f"{path} is empty: nothing to guess the parser from, say which with --parser")
        return _Replayed(head, raw), registry.guess_parser(head, path)

    def _take(self, parsed: Parsed, parser: Parser, path: str) -> None:
        if parser.completion is None:
            self._write(parsed.records)
        else:
            if self.wholes is None:
                self.wholes = Wholes(parser.record_type)
            self.wholes.add(parser, parsed, _shown(path))
        self.counts.update(parts=parsed.parts.num_rows, rejected=len(parsed.rejects))
        self.counts["skipped"] += sum(parsed.skipped.values())
        self.skipped.update(parsed.skipped)
        for reject in parsed.rejects:
            click.echo(f"{_shown(path)}:{reject.offset}: rejected: {reject.reason}: {printable(reject.unit)}", err=True)

    def _write(self, batch: pa.RecordBatch) -> None:
        try:
            self.write(batch)
        except OSError as error:
            raise _UnwritableError(error) from error
        self.counts["records"] += batch.num_rows


class _UnwritableError(Exception):
    """The output failed: no OSError, so that it is not taken for one of the file that is being read."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _unwritable(to: Path | None, error: _UnwritableError | OSError) -> Exception:
    """What to raise for it: a pipe whose reader has left is no error to be told."""
    reason = error.reason if isinstance(error, _UnwritableError) else error
    if isinstance(reason, BrokenPipeError) or reason.errno == errno.EPIPE:
        return BrokenPipeError()
    why = reason.strerror or str(reason)
    if to is None:
        return IncompleteError(f"standard output cannot be written: {why}; the output is not complete")
    return IncompleteError(f"{to} cannot be written: {why}; its content is not complete")


def _shown(path: str) -> str:
    """A path as valid text, whatever bytes it consists of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Replayed:
    """A stream whose first bytes were read already to look at them."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            piece, self._head = self._head, b""
            return piece
        return self._rest.read(size)


def _output(to: Path | None) -> IO[bytes]:
    """The file to write to, else standard output, which closing leaves open."""
    try:
        return to.open("wb") if to else open(sys.stdout.buffer.fileno(), "wb", closefd=False)
    except OSError as error:
        raise ConfigError(f"--to {to} cannot be written: {error.strerror}") from error


def _writer(output: str, record_type: RecordType, sink: IO[bytes]) -> tuple[Writer, Callable[[], None]]:
    """(write a batch, finish) for one of the output formats."""
    if output == "parquet":
        parquet = pyarrow.parquet.ParquetWriter(sink, record_type.schema, compression="zstd")
        return parquet.write_batch, parquet.close
    if output == "csv":
        text = pa.schema([(f.name, pa.string() if _is_text(f.type) else f.type) for f in record_type.schema])
        csv = pyarrow.csv.CSVWriter(sink, text)
        return lambda batch: csv.write_batch(_as_text(batch, text)), csv.close
    return lambda batch: sink.writelines(_json_lines(batch)), lambda: None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_timestamp(kind))


def _as_text(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Instants as ISO 8601 with Z, raw units as text or, where they are none, as base64."""
    columns: list[pa.Array[Any]] = []
    for column, kind in zip(batch.columns, (f.type for f in batch.schema), strict=True):
        if pa.types.is_timestamp(kind):
            columns.append(pa.compute.strftime(column, format="%Y-%m-%dT%H:%M:%SZ"))
        elif pa.types.is_binary(kind):
            columns.append(pa.array([None if v is None else raw_text(v) for v in column.to_pylist()], pa.string()))
        else:
            columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _json_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    text = pa.schema([(f.name, pa.string() if _is_text(f.type) else f.type) for f in batch.schema])
    for row in _as_text(batch, text).to_pylist():
        known = {name: value for name, value in row.items() if value is not None}
        yield json.dumps(known, ensure_ascii=False).encode() + b"\n"


def raw_text(raw: bytes) -> str:
    """A raw unit as text; one that is no UTF-8 as `base64:...`, so that no byte of it is lost."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(raw).decode()
