"""`procacctd`: the node daemon, in the foreground; `--check` and `--sample-config` only tell, and end."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from batchacct import __version__
from batchacct.errors import BatchacctError
from batchacct.notify import Notifier
from batchacct.signals import Signals
from procacct.node.config import DEFAULT_PATH, NodeConfig, load_node_config, sample
from procacct.node.daemon import Daemon
from procacct.node.sources import demand_initial_namespaces


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
        for line in told_of(keys):
            click.echo(line)
        return
    with Signals() as signals:
        daemon = Daemon(keys)
        try:
            daemon.begin()
            daemon.run(signals, Notifier.from_environment())
        finally:
            daemon.end()


def told_of(keys: NodeConfig) -> list[str]:
    """What `--check` says of a configuration that can be read.  Raises: ConfigError for a policy that cannot be written down."""
    keys.sensor_policy.text()
    told = [f"rows of host {keys.host_name} go to {keys.spool.path}"]
    try:
        demand_initial_namespaces()
    except OSError as error:
        told.append(f"the kernel's events and taskstats cannot be had here: {error.strerror or error}")
    else:
        told.append("the kernel's events and taskstats can be asked for here")
    folders = (keys.spool.path, keys.state, keys.sensor.socket.parent, keys.sensor.policy.parent, keys.control.socket.parent)
    for folder in dict.fromkeys(folders):
        there = next(one for one in (folder, *folder.parents) if one.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            told.append(f"{folder} cannot be written by this user")
    return told


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
