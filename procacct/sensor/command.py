"""`batchacct procs sensor`: where the preload library is; builds it."""

from __future__ import annotations

from pathlib import Path

import click

from procacct.sensor.building import build, library, preload_path


@click.command()
@click.option("--build", "folder", type=click.Path(file_okay=False, path_type=Path), help="Build the library into this folder.")
@click.option(
    "--bits", type=click.Choice(["32", "64"]), help="Build for programs of so many bits; those of the compiler by default."
)
@click.option("--policy", type=click.Path(dir_okay=False, path_type=Path), help="Build with another file for the policy.")
@click.option(
    "--socket", type=click.Path(dir_okay=False, path_type=Path), help="Build with another socket for the built-in policy."
)
def sensor(folder: Path | None, bits: str | None, policy: Path | None, socket: Path | None) -> None:
    """Prints what LD_PRELOAD is to name.

    With it, programs are recorded.

    The library is of one ABI. Where programs of both 32 and 64 bits run, build one for each, put them into the folders that $LIB
    stands for (ld.so(8)), and give LD_PRELOAD one path with $LIB in it.
    """
    path = library() if folder is None else build(folder, bits=int(bits) if bits else None, policy=policy, socket=socket)
    click.echo(preload_path(path.resolve()))
    if folder is not None:
        click.echo(f"For programs of 32 and 64 bits: /usr/$LIB/batchacct/{preload_path(path).relative_to(folder)}", err=True)
