"""`procacctd`: the node daemon, in the foreground; `--check` and `--sample-config` only tell, and end."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from socket import SOCK_DGRAM, SOCK_STREAM

import click

from batchacct import __version__
from batchacct.errors import BatchacctError, IncompleteError
from batchacct.notify import Notifier
from batchacct.signals import Signals
from procacct.node.config import DEFAULT_PATH, NodeConfig, load_node_config, sample
from procacct.node.daemon import Daemon
from procacct.node.installation import checks


@click.command()
@click.version_option(__version__, message="%(version)s")
@click.option("--config", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True, help="Its configuration.")
@click.option("--check", is_flag=True, help="Tell what is wrong with the configuration and on this host, and end.")
@click.option("--sample-config", is_flag=True, help="Print a complete configuration, and end.")
@click.option("--verbose", is_flag=True, help="Tell more.")
def procacctd(config: Path, check: bool, sample_config: bool, verbose: bool) -> None:
    """Account for the processes of this node, until SIGTERM."""
    if sample_config:
        click.echo(sample(), nl=False)
        return
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    keys = load_node_config(config)
    if check:
        tell_checks(keys)
        return
    path = config.absolute()
    with Signals() as signals:
        daemon = Daemon(keys, lambda: load_node_config(path))
        try:
            daemon.begin()
            daemon.run(signals, Notifier.from_environment())
        finally:
            daemon.end()


def tell_checks(keys: NodeConfig) -> None:
    """Tries everything, and prints what came of it.

    Raises: IncompleteError if something that is needed does not work.
    """
    click.echo(f"rows are of host {keys.host_name}")
    folders = (keys.spool.path, keys.state, keys.sensor.policy.parent)
    found = checks(folders, {keys.sensor.socket: SOCK_DGRAM, keys.control.socket: SOCK_STREAM})
    for one in found:
        click.echo(f"{'ok     ' if one.works else 'MISSING' if one.needed else 'without'} {one.name}: {one.told}")
    is_needed = {"process events": keys.events.use == "yes", "taskstats": keys.taskstats.use == "yes"}
    missing = [one.name for one in found if not one.works and is_needed.get(one.name, one.needed)]
    if missing:
        raise IncompleteError(f"{', '.join(missing)}: see above; without it procacctd does not start, or is of little use")


def main() -> None:
    """Ends with the status of the error, if there is one."""
    try:
        procacctd.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BatchacctError as error:
        click.echo(f"procacctd: {error.message}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
