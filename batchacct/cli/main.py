"""The command group: built-in commands, those of the rooms by entry point, errors to exit statuses."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from importlib import import_module

import click

from batchacct import __version__, memory
from batchacct.errors import BatchacctError, PluginError
from batchacct.parsing import registry

_BUILT_IN = {
    "init": "batchacct.cli.setting_up:init",
    "demo": "batchacct.cli.demonstration:demo",
    "parse": "batchacct.cli.parsing:parse",
    "collect": "batchacct.cli.collecting:collect",
    "backfill": "batchacct.cli.backfilling:backfill",
    "import": "batchacct.cli.importing:import_",
    "rejects": "batchacct.cli.rejecting:rejects",
    "status": "batchacct.cli.status:status",
    "metrics": "batchacct.cli.status:metrics",
    "audit": "batchacct.cli.auditing:audit",
    "doctor": "batchacct.cli.doctor:doctor",
    "why": "batchacct.cli.telling:why",
    "trace": "batchacct.cli.telling:trace",
    "db": "batchacct.cli.database:db",
    "config": "batchacct.cli.setting_up:config",
}


class Commands(click.Group):
    """Imports a command only when it is asked for: `batchacct status` needs no plotting library."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_BUILT_IN, *registry.names(registry.COMMANDS)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            if cmd_name in _BUILT_IN:
                module, name = _BUILT_IN[cmd_name].split(":")
                found = getattr(import_module(module), name)
            elif cmd_name in registry.names(registry.COMMANDS):
                found = registry.load(registry.COMMANDS, cmd_name)
            else:
                return None
        except PluginError as error:
            return _broken(cmd_name, error)
        return found if isinstance(found, click.Command) else _broken(cmd_name, PluginError(f"{cmd_name} is no click command"))


def _broken(name: str, error: PluginError) -> click.Command:
    """Stands in for a command that cannot be loaded: it is listed, and tells why when it is called."""

    @click.command(name, help=f"(broken: {error.message})", context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1)
    def tell(rest: tuple[str, ...]) -> None:
        del rest
        raise error

    return tell


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
@click.option("-v", "--verbose", count=True, help="More of what happens, on standard error; twice for every detail.")
def group(verbose: int) -> None:
    """Accounting for batch farms: LRMS and CE logs in, usage records, reports and plots out."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


def main() -> None:
    """Entry point of `batchacct`: 0 only if all of it worked; else the error's own status, and the error on standard error."""
    memory.keep_freed()
    try:
        group.main(prog_name="batchacct", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted; what was stored before stays stored", err=True)
        sys.exit(130)
    except BrokenPipeError:
        _forget_output()
        sys.exit(141)
    except BatchacctError as error:
        click.echo(f"batchacct: {error.message}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        _forget_output()
        click.echo(f"batchacct: {error.filename or 'standard output'}: {error.strerror or error}", err=True)
        sys.exit(1)


def _forget_output() -> None:
    """Lets what standard output still buffers go nowhere: flushing it at the end would fail once more."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
