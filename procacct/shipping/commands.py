"""`procacct`: the ways of process records from the nodes to a central host."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import click

from batchacct import __version__
from batchacct.brokers.keys import Receive
from batchacct.cli.common import config_option, config_path, emit_table, open_store
from batchacct.config import Config, load_config
from batchacct.errors import BatchacctError, ConfigError, IncompleteError, PluginError
from batchacct.notify import Notifier
from batchacct.reload import tell_for_the_start
from batchacct.scripts import start_logging
from batchacct.signals import Signals
from procacct.node.config import DEFAULT_PATH, NodeConfig, load_node_config
from procacct.shipping.config import Ship
from procacct.shipping.locking import held
from procacct.shipping.ranges import SpoolName
from procacct.shipping.spool import Spool, boot8

IDLE_S = 5.0
DAY_S = 86_400


def spool_file(text: str) -> SpoolName:
    """What an argument names.  Raises: BadParameter."""
    if (found := SpoolName.of(text)) is None:
        raise click.BadParameter(f"{text} is no name of a spool file, such as processes-1a2b3c4d-000001.jsonl")
    return found


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def group() -> None:
    """Process records on their way from the nodes to a central host: each node ships, the central host receives."""


@group.command()
@click.option("--config", "path", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True, help="The node's.")
@click.option("--once", is_flag=True, help="Send what is there and end, rather than follow the spool.")
@click.option("--check", is_flag=True, help="Tell what is wrong with the configuration, and end.")
@click.option("--again", "files", type=spool_file, multiple=True, metavar="FILE", help="Send this one from its beginning first.")
def ship(path: Path, once: bool, check: bool, files: tuple[SpoolName, ...]) -> None:
    """Sends the spool of this node to a broker, as [ship] says; in the foreground until SIGTERM."""
    from procacct.shipping.shipper import Shipper, broker_links, ship_until_told  # noqa: PLC0415 - needs stomp.py

    path = path.absolute()
    keys = _ship_keys(load_node_config(path), path)
    if check:
        broker_links(keys).close()
        click.echo(f"{path} can be used")
        return
    start_logging("procacct ship")
    state = keys.state

    def made() -> Shipper:
        config = load_node_config(path)
        keys = _ship_keys(config, path)
        tell_for_the_start(["[ship] state"] if keys.state != state else [])
        keys = keys.model_copy(update={"state": state})
        return Shipper(keys, config.host_name, Spool(config.spool.path, boot8()), broker_links(keys))

    with held(state, "procacct ship"):
        if files:
            with closing(made()) as shipper:
                for file in files:
                    shipper.send_again(file)
        if once:
            with closing(made()) as shipper:
                refused = shipper.round(everything=True).refused
            if refused:
                raise IncompleteError(f"the broker does not take {refused} of the messages: the log says why")
            return
        with Signals() as signals:
            ship_until_told(made, signals, Notifier.from_environment())


@group.command()
@click.option("--once", is_flag=True, help="Take what is there and end, once nothing more has come for some seconds.")
@config_option
def receive(config: Config, once: bool) -> None:
    """Takes what the nodes sent, as [receive] says, and mirrors their spools; in the foreground until SIGTERM."""
    from procacct.shipping.receiver import Receiver  # noqa: PLC0415 - needs stomp.py

    start_logging("procacct receive")
    keys = _receive_keys(config)
    path = config_path().absolute()

    def read_again() -> Receive:
        changed = _receive_keys(load_config(path))
        tell_for_the_start(["[receive] folder"] if changed.folder != keys.folder else [])
        return changed.model_copy(update={"folder": keys.folder})

    with held(keys.folder / ".lock", "procacct receive"), Signals() as signals:
        receiver = Receiver(keys, read_again)
        receiver.run(signals, Notifier.from_environment(), idle_s=IDLE_S if once else None)
    if once and receiver.counts["refused"]:
        raise IncompleteError(
            f"{receiver.counts['refused']} messages are refused: {keys.folder}/.refused has them, the log says why"
        )


@group.command()
@click.option("--give-up", "given_up", type=(str, spool_file), metavar="HOST FILE", help="Go on without them; a gap row tells.")
@config_option
def missing(config: Config, given_up: tuple[str, SpoolName] | None) -> None:
    """Tells which bytes of the nodes' files have not come, though later ones have.

    They may be at a broker that is away, or the node may send them once more (`procacct ship --again FILE` there).
    """
    from procacct.shipping.mirror import Mirror  # noqa: PLC0415 - as `ship`
    from procacct.shipping.missing import give_up, missing  # noqa: PLC0415

    keys = _receive_keys(config)
    if given_up is None:
        found = missing(Mirror(keys.folder, keys.ahead_bytes, is_to_look=True))
        rows = [(one.host, str(one.file), one.begin, one.end, one.waiting) for one in found]
        emit_table("Bytes that have not come", ("host", "file", "from", "to", "bytes that wait"), rows)
        return
    with held(keys.folder / ".lock", "procacct receive"):
        done = give_up(Mirror(keys.folder, keys.ahead_bytes), given_up[0], given_up[1])
    click.echo(f"{done.file} of host {done.host} goes on without the {done.end - done.begin} bytes from {done.begin} to {done.end}")


@group.command()
@click.option("--days", type=click.IntRange(min=1), default=14, show_default=True, help="Not written to for so long.")
@click.option("--dry-run", is_flag=True, help="Show what would be taken away.")
@config_option
def tidy(config: Config, days: int, dry_run: bool) -> None:
    """Takes files of nodes away that are in the database to their end, and old."""
    from procacct.shipping.tidy import old_files, take_away  # noqa: PLC0415 - needs the store

    keys = _receive_keys(config)
    with open_store(config) as store:
        found = list(old_files(keys.folder, store, days * DAY_S))
    done = [one for one in found if one.is_collected]
    if not dry_run:
        done = [one for one in done if take_away(one)]
    rows = [
        ("would be taken away" if dry_run else "taken away", len(done), sum(one.size for one in done)),
        ("stay: not in the database to their end", len(found) - len(done), sum(one.size for one in found if not one.is_collected)),
    ]
    emit_table(f"Files older than {days} days", ("what", "files", "bytes"), rows)


def _ship_keys(config: NodeConfig, path: Path) -> Ship:
    if config.ship is None:
        raise ConfigError(f"configuration {path} has no table [ship]: it says which broker lines are sent to")
    return config.ship


def _receive_keys(config: Config) -> Receive:
    if config.receive is None:
        raise ConfigError(f"configuration {config.file} has no table [receive]: it says where nodes' records come from")
    return config.receive


def main() -> None:
    """Entry point of `procacct`: 0 only if all of it worked; else the error's own status, and the error on standard error."""
    try:
        group.main(prog_name="procacct", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except ModuleNotFoundError as error:
        click.echo(f"procacct: {error}", err=True)
        sys.exit(PluginError.exit_code)
    except BatchacctError as error:
        click.echo(f"procacct: {error.message}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
