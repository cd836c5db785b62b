"""`batchacct procs sign` and `batchacct procs show-signature`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import uuid as uuids
from pathlib import Path

import click

from batchacct.cli.common import emit_table
from batchacct.errors import ConfigError, IncompleteError, SourceError
from procacct.elf import ElfError
from procacct.elf_notes import Signature, build_id, notes_of_file, signatures
from procacct.link_record import what_was_made, who_and_when
from procacct.registry import Signed, add, configured_place, records_of
from procacct.signing import sign_file

MOST_STATUS = 125
_records_option = click.option(
    "--records",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Folder or file of the records of signed files.  [default: $BATCHACCT_SIGNATURES, else /var/lib/batchacct/signatures]",
)
_files = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command()
@_files
@click.option("--uuid", "wanted", metavar="UUID", help="Sign with this one.  [default: a random one for each file]")
@_records_option
@_json_option
def sign(files: tuple[Path, ...], wanted: str | None, records: Path | None, *, as_json: bool) -> None:
    """Signs programs and libraries that exist.

    An object file gets a note that everything linked from it bears in memory. A program or shared object gets one in the file
    alone, as it cannot be added to what is loaded: running programs are recognised by their build id, with the help of the
    record. To have the signature in memory, link with batchacct-ld. A file that is signed already is left as it is, and recorded.
    """
    chosen = _uuid(wanted)
    place = records or configured_place(os.environ)
    told = []
    for path in files:
        signature = sign_file(path, chosen or str(uuids.uuid4()))
        record = _recorded(path, signature, place)
        told.append({"file": str(path), "recorded": record is not None, **dataclasses.asdict(signature)})
        if not as_json:
            where = "in memory" if signature.allocatable else "in the file alone"
            click.echo(f"{path}: {signature.uuid}, {where}, {'recorded' if record else 'not recorded'}")
            if not signature.allocatable and record is None:
                _warn(path, "nothing leads from a running program to this signature: name a folder with --records")
            elif not signature.allocatable and "build_id" not in (record or {}):
                _warn(path, "it has no build id, so only its path leads from a running program to the record")
    if as_json:
        click.echo(json.dumps(told))


@click.command("show-signature")
@_files
@click.option("--record", "with_record", is_flag=True, help="Look up who linked it, when, where and how, too.")
@_records_option
@_json_option
@click.option("--ogrt-status", is_flag=True, help="End with the number of signatures, as `ogrt --show-signature` does.")
def show_signature(files: tuple[Path, ...], records: Path | None, *, with_record: bool, as_json: bool, ogrt_status: bool) -> None:
    """Shows signatures of programs and libraries.

    They are of batchacct, OGRT or XALT, and beside them build ids.

    Ends with 13 if a file cannot be read or bears no signature.
    """
    place = records or configured_place(os.environ)
    if with_record and place is None:
        raise ConfigError("No records are kept here: make /var/lib/batchacct/signatures, or name a folder with --records.")
    shown = [_shown(path) for path in files]
    if with_record and place:
        _look_up(shown, place)
    if as_json:
        click.echo(json.dumps(shown))
    else:
        _tell(shown)
    lacking = [one for one in shown if not one["signatures"]]
    for one in lacking:
        if "error" in one:
            click.echo(f"{one['file']}: {one['error']}", err=True)
    if ogrt_status:
        sys.exit(min(MOST_STATUS, sum(len(_list(one, "signatures")) for one in shown)))
    if lacking:
        raise IncompleteError(
            f"{len(lacking)} of {len(files)} files bear no signature; link with batchacct-ld, or use `batchacct procs sign`."
        )


def _uuid(wanted: str | None) -> str | None:
    try:
        return str(uuids.UUID(wanted)) if wanted else None
    except ValueError as error:
        raise ConfigError(f"--uuid {wanted}: it is no UUID, such as {uuids.uuid4()}.") from error


def _recorded(path: Path, signature: Signature, place: Path | None) -> Signed | None:
    if place is None:
        return None
    record: Signed = {"uuid": signature.uuid, **what_was_made(path), **who_and_when(), "made_by": "sign"}
    try:
        add(place, record)
    except OSError as error:
        raise SourceError(f"{path} is signed, and that cannot be recorded in {place} ({error}): run the command again.") from error
    return record


def _warn(path: Path, what: str) -> None:
    click.echo(f"{path}: {what}", err=True)


def _shown(path: Path) -> dict[str, object]:
    try:
        notes = notes_of_file(path)
    except (OSError, ElfError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return {"file": str(path), "build_id": None, "signatures": [], "error": reason}
    found = [dataclasses.asdict(one) for one in signatures(notes)]
    return {"file": str(path), "build_id": build_id(notes), "signatures": found}


def _look_up(shown: list[dict[str, object]], place: Path) -> None:
    """Adds the records of each file's signatures, or of its build id."""
    uuids_of = [{str(found["uuid"]) for found in _list(one, "signatures")} for one in shown]
    build_ids = {str(one["build_id"]) for one in shown if one["build_id"]}
    try:
        known = records_of(place, set().union(*uuids_of), build_ids)
    except OSError as error:
        raise SourceError(f"The records in {place} cannot be read ({error}): name another place with --records.") from error
    for one, own in zip(shown, uuids_of, strict=True):
        one["records"] = [r for r in known if r["uuid"] in own or (one["build_id"] and r.get("build_id") == one["build_id"])]


def _list(one: dict[str, object], key: str) -> list[dict[str, object]]:
    found = one.get(key, [])
    assert isinstance(found, list)
    return found


def _tell(shown: list[dict[str, object]]) -> None:
    columns = ("file", "kind", "uuid", "section", "allocatable", "version", "name", "build id")
    rows = []
    for one in shown:
        for found in _list(one, "signatures") or [{}]:
            yes = {True: "yes", False: "no", None: None}[found.get("allocatable")]  # type: ignore[index]
            version = str(found["version"]) if found else None
            rows.append(
                (
                    one["file"],
                    found.get("kind", "none"),
                    found.get("uuid"),
                    found.get("section"),
                    yes,
                    version,
                    found.get("name"),
                    one["build_id"],
                )
            )
    emit_table("Signatures", columns, rows)
    for one in shown:
        for kept in [*_list(one, "signatures"), *_list(one, "records")]:
            details = kept.get("details", kept if "v" in kept else {})
            assert isinstance(details, dict)
            if details:
                click.echo(f"{one['file']}, {'record' if 'v' in kept else 'note'} {kept['uuid']}:")
            for key, value in details.items():
                click.echo(f"  {key}: {' '.join(value) if isinstance(value, list) else value}")
