"""The packages, installed into clean roots without network: they run, are upgraded with their data, removed and purged.

It takes packages of now and of a version before, and minutes: `make packages-check` builds both and runs this; nothing else does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchacct.demo.farm import VO_MAP, write_logs
from batchacct.errors import SchemaError
from tests.links import dead
from tests.packaging.roots import STAND_IN, Daemon, Root, base, run
from tests.packaging.units import DAEMONS, ENABLED
from tools.packages.layout import PACKAGES, SOURCE, schema, version
from tools.packages.previous import VERSION as PREVIOUS
from tools.packages.stage import MANUAL

BUILT = os.environ.get("BATCHACCT_PACKAGES")
pytestmark = [
    pytest.mark.skipif(BUILT is None, reason="takes built packages: `make packages-check`"),
    pytest.mark.timeout(1800),
]
BUILD = SOURCE / "build/packages"
LOGS, OUTGOING = "/var/log/farm", "/var/spool/apel/outgoing"
JOBS = 600
OLD_SCHEMA = "0006"
ASK = """
import sys, urllib.request
address, *headers = sys.argv[1:]
request = urllib.request.Request(address, headers=dict(zip(headers[::2], headers[1::2])))
print(urllib.request.urlopen(request).read())
"""
"""Python that prints what an address answers; names and values of headers may follow."""
PORTAL_SECRET = "0123456789abcdef0123456789abcdef"
NODE_JOB = "4711"


class Rpm:
    """RPM: no purge; what is left after removal is for a person to delete."""

    kind, keeps = "rpm", ".rpmsave"

    def __init__(self, root: Root) -> None:
        self.root = root
        top = root.path.parent / "stand-in"
        spec = top / "distribution.spec"
        spec.parent.mkdir(exist_ok=True)
        spec.write_text(STAND_IN)
        run(["rpmbuild", "-bb", "--define", f"_topdir {top}", str(spec)])
        self._rpm("-i", *map(str, top.glob("RPMS/noarch/*.rpm")))

    def _rpm(self, *arguments: str, status: int = 0) -> str:
        # rpm itself changes the root; its scripts find /proc there
        mounted = 'mount -t proc proc "$0/proc" && exec rpm --root "$0" "$@"'
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", mounted, str(self.root.path)]
        return run([*command, *arguments], status=status)

    def install(self, *files: Path, status: int = 0) -> str:
        return self._rpm("-U", "--oldpackage", *map(str, files), status=status)

    def remove(self) -> None:
        self._rpm("-e", *PACKAGES.values())

    def purge(self) -> None:
        """As docs/how-to/install.md says."""
        self.root.run("rm", "-rf", *["/var/lib/batchacct", "/var/log/batchacct", "/var/spool/batchacct", "/etc/batchacct"])


class Deb:
    """DEB, by dpkg: there is no archive to ask."""

    kind, keeps = "deb", ""

    def __init__(self, root: Root) -> None:
        self.root = root

    def install(self, *files: Path, status: int = 0) -> str:
        folder = self.root / "/root/packages"
        folder.mkdir(exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / file.name)
        done = self.root.run("dpkg", "--force-confold", "-i", *(f"/root/packages/{file.name}" for file in files), status=status)
        shutil.rmtree(folder)
        return done

    def remove(self) -> None:
        self.root.run("dpkg", "--remove", *PACKAGES.values())

    def purge(self) -> None:
        self.root.run("dpkg", "--purge", *PACKAGES.values())


Manager = Rpm | Deb


def built(kind: str, of: str) -> list[Path]:
    assert BUILT is not None
    found = sorted(path for path in Path(BUILT).rglob(f"*.{kind}") if re.search(rf"[-_]{re.escape(of)}-", path.name))
    assert len(found) == len(PACKAGES), f"{len(found)} packages of {of} in {BUILT}, not {len(PACKAGES)}"
    return found


@pytest.fixture(params=[Rpm, Deb], ids=["rpm", "deb"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    root = Root(tmp_path / "root", base(BUILD / "base.tar"))
    yield request.param(root)
    root.remove()


def configure(root: Root, farm: Path) -> None:
    """The demo's farm, as the configuration of a site, which an administrator writes over the sample."""
    shutil.copytree(farm, root / LOGS)
    (root / OUTGOING).mkdir(parents=True)
    root.run("chown", "batchacct:batchacct", OUTGOING)
    rules = "\n".join(f'[[vo.rule]]\nvo = "{vo}"\ngroup = "{group}"' for group, vo in sorted(VO_MAP.items()))
    path = root / "/etc/batchacct/batchacct.toml"
    assert 'site = "EXAMPLE-SITE"' in path.read_text()
    path.write_text(
        f'site = "CLEAN-ROOT"\n[database]\nurl = "sqlite:////var/lib/batchacct/batchacct.db"\n'
        f'[[source]]\nname = "lsf"\nparser = "lsf"\npaths = ["{LOGS}/lsb.acct*"]\ncluster = "lsf1"\n'
        f'[[source]]\nname = "blah"\nparser = "blah"\npaths = ["{LOGS}/blahp.log-*"]\n'
        '[ce]\n"*.example.org:8443/cream-lsf-*" = "lsf1"\n[[cluster]]\nname = "lsf1"\ngrid_queues = ["grid_*"]\n'
        f'[[benchmark]]\ntype = "HEPscore23"\nvalue = 12.5\n{rules}\n'
        f'[publish]\npath = "{OUTGOING}"\nschedule = "*/5 * * * * *"\nschedule_jitter = 0\n'
    )


def books(root: Root) -> dict[str, int]:
    """Units of each source that were recorded, by the program's own account, which has to balance."""
    told = json.loads(root.run("batchacct", "status", "--json", user="batchacct"))
    assert told["balanced"] is True
    return {source["name"]: source["recorded"] for source in told["sources"]}


def messages(root: Root) -> int:
    return sum(path.is_file() for path in (root / OUTGOING).rglob("*"))


def test_installed_upgraded_removed_purged(manager: Manager, tmp_path: Path) -> None:
    farm = tmp_path / "farm"
    farm.mkdir()
    write_logs(farm, jobs=JOBS, seed=1, end_at=1_793_500_000)
    before = _first_version(manager, farm)
    sent = messages(manager.root)
    _upgraded(manager, before)
    _daemons_run(manager.root, sent)
    _node_daemon_runs(manager.root)
    _programs_run(manager.root)
    _manual_can_be_read(manager.root)
    _downgrade_is_refused(manager)
    _removed_and_purged(manager)


def _first_version(manager: Manager, farm: Path) -> dict[str, int]:
    """The version before collects and publishes; what it has recorded."""
    root = manager.root
    manager.install(*built(manager.kind, PREVIOUS))
    assert set().union(*root.asked_of_systemd()) <= {"--system", "daemon-reload"}, "nothing is started that was not enabled"
    modes = root.run("stat", "-c", "%a %U:%G", "/etc/batchacct", "/etc/batchacct/batchacct.toml")
    assert modes == "750 root:batchacct\n640 root:batchacct\n", "for root and the daemons alone"
    assert root.run("batchacct", "--version").split()[-1] == PREVIOUS
    configure(root, farm)
    root.run("batchacct", "db", "create", user="batchacct")
    root.run("batchacct", "config", "check", user="batchacct")
    with root.daemon("batchacct-collect") as collector:
        collector.wait_for("WATCHDOG=1")
        wait_until(lambda: books(root).get("lsf", 0) >= JOBS - 50 and books(root).get("blah", 0) > 100)
    root.start_once("batchacct-publish-once")
    assert messages(root) > 0
    return books(root)


def _upgraded(manager: Manager, before: dict[str, int]) -> None:
    root = manager.root
    manager.install(*built(manager.kind, version()))
    _runs_anew(root.asked_of_systemd())
    assert root.run("batchacct", "--version").split()[-1] == version()
    assert 'site = "CLEAN-ROOT"' in (root / "/etc/batchacct/batchacct.toml").read_text(), "what a site wrote stays"
    assert "db migrate" in root.run("batchacct", "status", user="batchacct", status=SchemaError.exit_code)
    assert f"migrated from {OLD_SCHEMA} to {schema()}" in root.start_once("batchacct-migrate")
    assert "nothing to do" in root.start_once("batchacct-migrate")
    root.start_once("batchacct-partition")
    assert books(root) == before, "nothing is lost, nothing is read again"


def _runs_anew(asked: list[set[str]]) -> None:
    """Of the daemons, what runs, and by its new unit."""
    assert not set().union(*asked) & {"stop", "disable", "start", "restart", "enable"}
    read = next(number for number, words in enumerate(asked) if "daemon-reload" in words)
    assert set().union(*(words for words in asked[read:] if "try-restart" in words)) - {"try-restart"} == DAEMONS


def _daemons_run(root: Root, sent: int) -> None:
    """New jobs come in, messages go out, and who asks is answered, by what the units start."""
    (root / LOGS / "more").mkdir()
    write_logs(root / LOGS / "more", jobs=500, seed=2, end_at=1_793_900_000)
    path = root / "/etc/batchacct/batchacct.toml"
    more = f'[[source]]\nname = "more"\nparser = "lsf"\npaths = ["{LOGS}/more/lsb.acct*"]\ncluster = "lsf1"\n'
    path.write_text(path.read_text() + more)
    _portal_is_set_up(root)
    with root.daemon("batchacct-collect") as collector, root.daemon("batchacct-publish") as publisher:
        for line in root.unit("batchacct-collect")["ExecReload"][:-1]:
            root.run(*line.split(), user="batchacct")
        collector.wait_for("WATCHDOG=1")
        publisher.wait_for("WATCHDOG=1")
        wait_until(lambda: books(root).get("more", 0) > 400)
        wait_until(lambda: messages(root) > sent)
        with root.daemon("batchacct-serve") as pulled, root.daemon("batchacct-portal") as portal:
            _answers(pulled, portal)


def _portal_is_set_up(root: Root) -> None:
    """A proxy says who somebody is; the files are those of the portal's user."""
    folder = root / "/etc/batchacct"
    secret = folder / "portal.secret"
    secret.write_text(f"{PORTAL_SECRET}\n")
    secret.chmod(0o600)
    path = folder / "batchacct.toml"
    path.write_text(f'{path.read_text()}[portal]\nlogin = "proxy"\nsecret_file = "/etc/batchacct/portal.secret"\n')
    root.run("batchacct", "portal", "passwd", "ada", "--role", "administrator", "--no-password")
    root.run("chown", "batchacct-portal", "/etc/batchacct/portal.accounts", "/etc/batchacct/portal.secret")


def _answers(pulled: Daemon, portal: Daemon) -> None:
    pulled.wait_for("WATCHDOG=1")
    assert pulled.run("python3.11", "-c", ASK, "http://127.0.0.1:9106/v1/records?limit=5").count("local_job_id") == 5
    portal.wait_for("WATCHDOG=1")
    headers = ("X-Remote-User", "ada", "X-Portal-Secret", PORTAL_SECRET)
    for address, told in (("/", "CLEAN-ROOT"), ("/health", "more")):
        assert told in portal.run("python3.11", "-c", ASK, f"http://127.0.0.1:9107{address}", *headers)
    for daemon in (pulled, portal):
        writes = daemon.root.run("sh", "-c", "echo >> /var/lib/batchacct/batchacct.db", user=daemon.user, status=2)
        assert "Permission denied" in writes


def _node_daemon_runs(root: Root) -> None:
    """What a job ran comes by the sensor to the daemon, by its spool into the database. (The kernel's events are the host's.)"""
    path = root / "/etc/batchacct/batchacct.toml"
    spool = "/var/spool/batchacct/procacct"
    more = f'[[source]]\nname = "node"\nparser = "procs"\npaths = ["{spool}/processes-*.jsonl"]\ncluster = "lsf1"\n'
    path.write_text(path.read_text() + more)
    with root.daemon("procacctd") as node:
        node.wait_for("WATCHDOG=1")
        node.run("env", f"LSB_JOBID={NODE_JOB}", "acc_run", "sh", "-c", "/bin/true; /bin/uname")
    root.run("batchacct", "collect", "--once", "node", user="batchacct")
    told = root.run("batchacct", "procs", "programs", NODE_JOB)
    assert "/bin/uname" in told
    assert books(root)["node"] >= 2


def _programs_run(root: Root) -> None:
    root.run("batchacct", "report", "--by", "vo", "--plot", "/tmp/hours.png")
    assert (root / "/tmp/hours.png").read_bytes()[1:4] == b"PNG"
    assert root.run("/usr/libexec/batchacct/join.py", "--help").startswith("usage: join")
    preloaded = root.run("acc_run", "sh", "-c", "echo $LD_PRELOAD").strip()
    assert preloaded == "/usr/lib/batchacct/libasan.so/libbatchacct_sensor.so"
    assert (root / preloaded).is_file()


def _manual_can_be_read(root: Root) -> None:
    """Neither a link of it nor what is told of by name leads to what is not there, or is compressed."""
    folder = root / MANUAL
    assert (folder / "docs/how-to/install.md").is_file()
    assert dead(folder) == []
    assert json.loads((folder / "batchacct.cdx.json").read_text())["bomFormat"] == "CycloneDX"


def _downgrade_is_refused(manager: Manager) -> None:
    told = manager.install(*built(manager.kind, PREVIOUS), status=1 if manager.kind == "deb" else len(PACKAGES))
    assert told.count(f" {PREVIOUS} is not installed: it knows schema {OLD_SCHEMA} ") == len(PACKAGES)
    assert manager.root.run("batchacct", "--version").split()[-1] == version(), "nothing is changed"


def _removed_and_purged(manager: Manager) -> None:
    root = manager.root
    recorded = books(root)
    root.asked_of_systemd()
    manager.remove()
    ended = (words for words in root.asked_of_systemd() if words >= {"disable", "--now"})
    assert set().union(*ended) - {"--no-reload", "disable", "--now"} == ENABLED
    assert not (root / "/usr/bin/batchacct").exists()
    assert not (root / "/usr/lib/batchacct").exists()
    assert (root / "/var/lib/batchacct/batchacct.db").exists(), "removal keeps data"
    configuration = root / f"/etc/batchacct/batchacct.toml{manager.keeps}"
    assert configuration.exists(), "and what a site wrote"
    manager.install(*built(manager.kind, version()))
    if manager.keeps:
        configuration.rename(root / "/etc/batchacct/batchacct.toml")
    assert books(root) == recorded, "installed again it goes on"
    manager.remove()
    manager.purge()
    for path in ("/var/lib/batchacct", "/var/spool/batchacct", "/var/log/batchacct", "/etc/batchacct"):
        assert not (root / path).exists()


def wait_until(holds: Callable[[], bool], within_s: float = 180) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.5)
