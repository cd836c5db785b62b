"""`join` of 2012: jobs and identities become messages, in an SSM folder or at a broker. Run it as `python -m pub.join`, from cron.

It is `batchacct publish --once` with the settings of 2012: their message layout, a job of a `grid_*` queue held until its identity
comes, local jobs by the `vos` file and else as `/local-nonlcg`, LocalJobId `jobId-idx` (idx 0 for what is no array element).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from batchacct.addresses import host_and_port
from batchacct.clock import unix_now
from batchacct.config import Cluster, Config, Database, Join, Publish
from batchacct.config_mapping import Benchmark, Vo
from batchacct.errors import ConfigError
from batchacct.scripts import absolute_url, open_store, run, start_logging
from batchacct.store import Store
from batchacct.store.spans import of_loads
from batchacct.store.tables import ROWS_PER_LOAD_BITS, job, load
from pub.command import Done, Joined, publish_once
from pub.formats.batchacct2012 import Batchacct2012
from pub.settings2012 import Settings2012, read_settings
from pub.vo_map import read_vos

log = logging.getLogger(__name__)

BUNCH, LARGEST_BUNCH = 1000, 5000
DEFAULT_CLUSTER = "default"
GRID_QUEUES = ["grid_*"]
BROKER_PORT, BROKER_QUEUE = 61613, "/queue/apel"


def parser() -> argparse.ArgumentParser:
    """The options of 2012."""
    made = argparse.ArgumentParser("join", description="Join jobs with identities and publish them as APEL messages.")
    add = made.add_argument
    add("-a", "--acctdbfile", type=Path, required=True, help="connection file")
    add("-b", "--bunch", type=_bunch, default=BUNCH, metavar="N", help=f"records a message (default {BUNCH})")
    add("-c", "--conf", type=Path, required=True, help="settings file, with lines: key, blanks, value")
    add("-v", "--vofile", type=Path, help="file of groups and VOs, with lines: group, blanks, VO")
    add("-s", "--ssm", type=Path, metavar="FOLDER", help="folder of the SSM sender's outgoing messages")
    add("-l", "--logfile", type=Path, help="log file (default: standard error)")
    broker_help = f"STOMP broker to send to, in place of --ssm (default port {BROKER_PORT}; the queue is {BROKER_QUEUE})"
    add("-m", "--msgbroker", type=_broker, metavar="HOST[:PORT]", help=broker_help)
    return made


def _bunch(text: str) -> int:
    number = int(text)
    if not 1 <= number <= LARGEST_BUNCH:
        raise argparse.ArgumentTypeError(f"a message holds 1 to {LARGEST_BUNCH} records, not {number}")
    return number


def _broker(text: str) -> str:
    address = text if ":" in text else f"{text}:{BROKER_PORT}"
    try:
        host_and_port(address)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return address


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    options = parser().parse_args(arguments)
    return run(lambda: _join(options))


def _join(options: argparse.Namespace) -> None:
    start_logging("join", options.logfile)
    if (options.ssm is None) == (options.msgbroker is None):
        raise ConfigError("give --ssm, the folder of the SSM sender's outgoing messages, or --msgbroker, one of them")
    settings = read_settings(options.conf)
    message_format = Batchacct2012(settings.fields)
    if options.vofile:
        read_vos(options.vofile)
    with open_store(options.acctdbfile) as store:
        config = config_of(settings, options, _cluster(store))
        joined, done = publish_once(store, config, unix_now, message_format)
    _tell(joined, done)


def config_of(settings: Settings2012, options: argparse.Namespace, cluster: str) -> Config:
    """What 2012 did, as a configuration of this program; the format's fields are not in it."""
    benchmark = Benchmark(type=settings.unit, value=settings.factor_constant, per_host_factor=True)
    return Config(
        site=settings.site,
        database=Database(url=absolute_url(options.acctdbfile)),
        cluster=[Cluster(name=cluster, submit_host=settings.cluster, grid_queues=GRID_QUEUES)],
        benchmark=[benchmark],
        join=Join(then="hold"),
        vo=Vo(file=options.vofile),
        publish=Publish(
            format=Batchacct2012.name,
            **_way_out(options),
            bunch=options.bunch,
            local_job_id="{id}-0",
            local_job_id_array="{id}-{index}",
            personal="none",
        ),
    )


def _way_out(options: argparse.Namespace) -> dict[str, Any]:
    if options.msgbroker:
        return {"transport": "stomp", "options": {"brokers": [options.msgbroker], "destination": BROKER_QUEUE}}
    return {"path": options.ssm.absolute()}


def _cluster(store: Store) -> str:
    """The cluster of the jobs there are: 2012 knew of one only.  Raises: ConfigError if they are of several."""
    with store.reading() as connection:
        names = _clusters(connection)
    if len(names) > 1:
        raise ConfigError(
            f"the database holds jobs of several clusters ({', '.join(sorted(names))}), whose job ids would be mixed up: "
            "publish them with `batchacct publish`"
        )
    return names.pop() if names else DEFAULT_CLUSTER


def _clusters(connection: Connection) -> set[str]:
    """The clusters in the newest load of each source: a source is of one, and the table need not be read."""
    newest = select(func.max(load.c.id)).where(load.c.record_type == "job", load.c.recorded > 0).group_by(load.c.source)
    names: set[str] = set()
    for number, span in of_loads(connection, connection.scalars(newest).all()).items():
        rows = job.c.id.between(number << ROWS_PER_LOAD_BITS, ((number + 1) << ROWS_PER_LOAD_BITS) - 1)
        names |= set(connection.scalars(select(job.c.cluster).where(rows, span.has(job.c.logged_at)).distinct()))
    return names


def _tell(joined: Joined, done: Done) -> None:
    for (outcome, reason), jobs in sorted(joined.items()):
        log.info("%d jobs %s: %s", jobs, outcome, reason)
    for one in done.values():
        for reason, records in sorted(one.refused.items()):
            log.warning("%d records refused: %s", records, reason)
        for what, records in sorted(one.left_out.items()):
            log.info("%d records without %s", records, what)
        log.info("Published %d records in %d messages, %d handed over", one.records, one.messages, one.confirmed)


if __name__ == "__main__":
    sys.exit(main())
