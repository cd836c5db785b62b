"""What `batchacct doctor` looks at of publishing: receivers, certificates, the schedule, benchmarks and VOs of recent jobs."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import and_, func, select

from batchacct.addresses import host_and_port
from batchacct.brokers.keys import BrokerKeys
from batchacct.clock import shown
from batchacct.config import Destination, Section
from batchacct.doctor import Examined, Finding, error, not_applicable, ok, warning
from batchacct.doctor.certificates import certificate_findings
from batchacct.errors import BatchacctError
from batchacct.options import transport_options
from batchacct.store.tables import setting, usage, vo_mapping
from batchacct.store.vos import IS_UNMAPPED
from batchacct.tls import Tls, TlsFiles, complaint, greet
from pub.joining import NO_BENCHMARK
from pub.schedule import BEGAN, LATE_S, Schedule
from pub.signing import SigningOptions

LIMIT_S = 5.0
"""So long a receiver has time to answer."""
RECENT_S = 30 * 86_400
_TODO = (
    "is the address right, does the receiver run, and does a firewall let this host through? What is built waits, and is not lost"
)
_HTTPS = 443


def receivers(examined: Examined) -> Iterator[Finding]:
    """Each receiver's address, TLS and, of a broker, its login; nothing is sent. The certificates that are used for it."""
    for destination in examined.config.destinations:
        subject = f"receiver of {destination.name}"
        try:
            _, options = transport_options(examined.config, destination)
        except BatchacctError:
            yield not_applicable(subject, "its options are wrong, see `configuration`")
            continue
        yield from _certificates(destination, options)
        yield from _reached(subject, options)


def _certificates(destination: Destination, options: Section) -> Iterator[Finding]:
    of, tls = f"of {destination.name}", getattr(options, "tls", None)
    if isinstance(tls, Tls) and tls.certificate is not None:
        yield from certificate_findings(f"certificate {of}", tls.certificate, tls.key)
    if isinstance(options, SigningOptions):
        if options.sign is not None:
            yield from certificate_findings(f"certificate that signs, {of}", options.sign.certificate, options.sign.key)
        if options.encrypt_to is not None:
            yield from certificate_findings(f"certificate that is encrypted for, {of}", options.encrypt_to)


def _reached(subject: str, options: Section) -> Iterator[Finding]:
    url, host = getattr(options, "url", None), getattr(options, "host", None)
    if isinstance(options, BrokerKeys):
        yield from _brokers(subject, options)
    elif isinstance(url, str):
        parts = urlsplit(url)
        port = parts.port or (_HTTPS if parts.scheme == "https" else 80)
        yield _server(subject, parts.hostname or "", port, options, is_tls=parts.scheme == "https")
    elif isinstance(host, str):
        name, _, told = host.partition(":")
        yield _server(subject, name, int(told or _HTTPS), options, is_tls=True)
    elif isinstance(getattr(options, "path", None), Path):
        yield not_applicable(subject, "messages are put into a folder, see `folders`")
    else:
        yield not_applicable(subject, "how this transport reaches it is not known")


def _brokers(subject: str, keys: BrokerKeys) -> Iterator[Finding]:
    """CONNECT, with the login, and DISCONNECT. Of several brokers one is enough, and each that is away is told."""
    from batchacct.brokers.links import login_of  # noqa: PLC0415 - a library of an extra
    from batchacct.brokers.pipeline import Ended  # noqa: PLC0415
    from batchacct.brokers.stomp_session import Session  # noqa: PLC0415

    login = replace(login_of(keys), timeout_s=min(keys.timeout, int(LIMIT_S)))
    answered: list[str] = []
    away: list[str] = []
    for address in keys.brokers:
        try:
            session = Session(*host_and_port(address), login)
        except Ended as end:
            away.append(end.why)
        else:
            session.close()
            answered.append(address)
    if answered:
        yield ok(subject, f"{', '.join(answered)}: connected and logged in")
    for why in away:
        yield (warning if answered else error)(subject, why, _TODO)


def _server(subject: str, host: str, port: int, options: Section, *, is_tls: bool) -> Finding:
    """A connection, by TLS with our certificate where there is one; nothing is asked."""
    where = f"{host}:{port}"
    try:
        if is_tls:
            tls = getattr(options, "tls", None)
            greet((host, port), TlsFiles(tls if isinstance(tls, Tls) else Tls()), LIMIT_S)
        else:
            socket.create_connection((host, port), LIMIT_S).close()
    except ssl.SSLError as failed:
        return error(subject, f"{where}: {complaint(failed)}", "correct `tls` of its options, or its address")
    except TimeoutError as silent:
        if not _answers(host, port):
            return error(subject, f"{where}: {silent or 'no answer'}", _TODO)
    except OSError as failed:
        return error(subject, f"{where}: {failed.strerror or failed}", _TODO)
    return ok(subject, f"{where}: " + ("connected by TLS, its certificate is accepted" if is_tls else "connected"))


def _answers(host: str, port: int) -> bool:
    """Whether there is one: a server that waits for us to speak first is as silent as one that is away."""
    try:
        socket.create_connection((host, port), LIMIT_S).close()
    except OSError:
        return False
    return True


def schedule(examined: Examined) -> Iterator[Finding]:
    """Whether the runs of the schedule are done, where there is a publisher that goes by it."""
    with examined.store.reading() as connection:
        value = connection.scalar(select(setting.c.value).where(setting.c.name == BEGAN))
    if value is None:
        yield not_applicable("schedule", "no publisher has gone by it yet: `batchacct publish` runs from cron, or not at all")
        return
    last = int(value)
    due = Schedule(examined.config).first_after(last)
    told = f"the last run began {shown(last)}, the next is due {shown(due)}"
    if due is not None and examined.now - due > max(LATE_S, examined.config.publish.schedule_jitter):
        todo = "start batchacct-publish, and see its log; if cron publishes now by `batchacct publish --once`, this is no concern"
        yield warning("schedule", told, todo)
    else:
        yield ok("schedule", told)


def publishing(examined: Examined) -> Iterator[Finding]:
    """Jobs of a month that are left out for want of a benchmark, or whose VO no rule tells."""
    recent = usage.c.logged_at >= examined.now - RECENT_S
    without = and_(recent, usage.c.outcome == "excluded", usage.c.reason == NO_BENCHMARK)
    by_default = and_(recent, IS_UNMAPPED)
    of_group = select(vo_mapping.c.group_name, func.count()).select_from(
        usage.join(vo_mapping, vo_mapping.c.id == usage.c.mapping_id)
    )
    with examined.store.reading() as connection:
        excluded = connection.scalar(select(func.count()).select_from(usage).where(without)) or 0
        unmapped = connection.execute(of_group.where(by_default).group_by(vo_mapping.c.group_name)).all()
    if excluded:
        told = f"{excluded:,} jobs of the last 30 days are not published, as no benchmark was valid for them"
        yield error(
            "benchmarks", told, "add a [[benchmark]] with their cluster and an earlier valid_from: the next run publishes them"
        )
    else:
        yield ok("benchmarks", "no job of the last 30 days lacks one")
    if unmapped:
        groups = sorted(unmapped, key=lambda row: -row[1])
        jobs = sum(row[1] for row in groups)
        names = ", ".join(row[0] or "(none)" for row in groups[:5])
        told = f"{jobs:,} local jobs of the last 30 days have the default VO, of the groups {names}" + (
            " ..." if len(groups) > 5 else ""
        )
        yield warning(
            "VOs", told, "name their groups in [vo] file or a [[vo.rule]]; if the default is meant, nothing is to be done"
        )
    else:
        yield ok("VOs", "a rule tells that of each local job of the last 30 days")
