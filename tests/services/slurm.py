"""A whole Slurm cluster on this machine: munged, MariaDB, slurmdbd, slurmctld and three nodes, in a folder of its own.

Every daemon is started in the foreground, listens on a free port or a socket of the folder, and is stopped by its own process
id; authentication has a key of its own, so neither /etc/munge nor /run/munge is touched. The nodes pretend to 8
processors and a typed GPU each. Job ids begin anywhere, so that two clusters on one host have different ones. CPU
time and memory of jobs are measured every second.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import MissingServerError

NAME = "trial"
USERS = ("games", "www-data")
"""Accounts that every Debian has: ordinary ones, each with a group of its own name."""

_PROGRAMS = {
    "munged": "munge", "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server", "slurmdbd": "slurmdbd",
    "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "sacct": "slurm-wlm",
}  # fmt: skip
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE_S = 180
_PORTS = range(20_000, 32_768)
"""Below those that outgoing connections get, of which a cluster makes hundreds while it starts."""


@dataclass(frozen=True)
class SlurmCluster:
    """A running cluster; `environment` is what its client programs need."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def jobcomp(self) -> Path:
        """The log of ended jobs, as `jobcomp/filetxt` writes it."""
        return self.folder / "jobcomp.log"

    def run(self, program: str, *arguments: object, user: str | None = None) -> str:
        """What a client program prints, run as root or as `user`.  Raises: RuntimeError with what it says if it fails."""
        return _run(self.environment, self.folder / "work", program, *arguments, user=user)

    def submit(self, script: str, *options: object, user: str = USERS[0]) -> int:
        """Submits a shell script; returns its job id."""
        return int(self.run("sbatch", "--parsable", *options, f"--wrap={script}", user=user).partition(";")[0])

    def states(self, *jobs: int) -> list[str]:
        """State of each run and array element of the jobs, as the controller (not the database) has it."""
        listed = self.run("squeue", "--noheader", "--states=all", "--array", "--format=%T", f"--jobs={','.join(map(str, jobs))}")
        return listed.split()

    def wait(self, job: int, *states: str) -> None:
        """Returns when every element of the job is in one of the states."""
        until(f"job {job} is {' or '.join(states)}", lambda: set(self.states(job)) <= set(states))

    def drain(self) -> None:
        """Cancels whatever is left, and waits until the nodes are free of it."""
        for user in USERS:
            self.run("scancel", f"--user={user}")
        until("all jobs have ended", lambda: not self.run("squeue", "--noheader"))


@contextmanager
def slurm() -> Iterator[SlurmCluster]:
    """A running cluster with the ordinary users `USERS`, each with an account.  Raises: MissingServerError."""
    _check_programs()
    folder = Path(tempfile.mkdtemp(prefix="batchacct-slurm-", dir="/tmp"))
    environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "SLURM_CONF": str(folder / "slurm.conf"), "TZ": "UTC"}
    cluster = SlurmCluster(folder, environment)
    try:
        folder.chmod(0o755)
        (folder / "work").mkdir()
        (folder / "work").chmod(0o1777)
        with ExitStack() as running:
            running.callback(_end_jobs_of, environment["SLURM_CONF"])
            database_port, *ports = _free_ports(6)
            _configure(folder, database_port, *ports)
            _start_munge(running, cluster)
            _start_mariadb(running, cluster, database_port)
            _start_slurm(running, cluster)
            running.callback(cluster.drain)
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(what: str, is_so: Callable[[], bool], patience_s: float = _PATIENCE_S) -> None:
    """Returns when it is so.  Raises: TimeoutError that says what was waited for."""
    began = time.monotonic()
    while not is_so():
        waited_s = time.monotonic() - began
        if waited_s > patience_s:
            raise TimeoutError(f"waited {patience_s:.0f} s until {what}")
        time.sleep(min(0.1 + waited_s / 20, 1))  # to ask takes a process: what takes a minute is not asked for 600 times


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, all different: they are held until the last is found."""
    with ExitStack() as held:
        found: list[int] = []
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):  # one that pytest-randomly does not seed
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no port is free")


def _check_programs() -> None:
    missing = sorted({package for program, package in _PROGRAMS.items() if not shutil.which(program, path=_PATH)})
    if missing:
        raise MissingServerError(f"Slurm is not installed: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise MissingServerError("a Slurm cluster runs jobs of other users: run the tests as root")


def _run(environment: Mapping[str, str], folder: Path, program: str, *arguments: object, user: str | None = None) -> str:
    command = [program, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        user=user, group=user, extra_groups=[] if user else None, timeout=_PATIENCE_S,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


@contextmanager
def _daemon(
    cluster: SlurmCluster, name: str, *command: object, ready: Callable[[], bool], user: str | None = None
) -> Iterator[None]:
    """A daemon in the foreground, from when it is ready; stopped by SIGTERM, and by SIGKILL where that does not help."""
    log = cluster.folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(map(str, command)), cwd=cluster.folder, env=cluster.environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True, user=user, group=user, extra_groups=[] if user else None,
        )  # fmt: skip

    def is_ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with status {process.returncode}: {_tail(log)}")
        return ready()

    try:
        try:
            until(f"{name} is ready", is_ready)
        except TimeoutError as late:
            raise RuntimeError(f"{late}: {_tail(log)}") from late
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def _succeeds(cluster: SlurmCluster, program: str, *arguments: object, says: str = "") -> Callable[[], bool]:
    """Whether a program runs, and prints `says`."""

    def try_it() -> bool:
        try:
            return says in cluster.run(program, *arguments)
        except (RuntimeError, subprocess.TimeoutExpired):
            return False

    return try_it


def _start_munge(running: ExitStack, cluster: SlurmCluster) -> None:
    folder = cluster.folder / "munge"
    folder.mkdir(mode=0o755)
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    for path in (folder, key):
        shutil.chown(path, "munge", "munge")
    files = [f"--{what}-file={folder / what}" for what in ("key", "pid", "seed", "log")]
    socket = f"--socket={folder / 'socket'}"
    running.enter_context(
        _daemon(
            cluster, "munged", "munged", "--foreground", socket, *files, user="munge",
            ready=_succeeds(cluster, "munge", socket, "--no-input"),
        )
    )  # fmt: skip


def _start_mariadb(running: ExitStack, cluster: SlurmCluster, port: int) -> None:
    folder = cluster.folder / "mariadb"
    folder.mkdir(mode=0o755)
    shutil.chown(folder, "mysql", "mysql")
    # Two installations at a time make temporary tables of the same names; each has its own place for them.
    where = ("--no-defaults", f"--datadir={folder / 'data'}", f"--tmpdir={folder}")
    cluster.run("mariadb-install-db", *where, "--user=mysql", "--auth-root-authentication-method=normal", "--skip-test-db")
    socket = f"--socket={folder / 'socket'}"
    running.enter_context(
        _daemon(
            cluster, "mariadbd", "mariadbd", *where, socket, f"--port={port}", "--bind-address=127.0.0.1",
            f"--pid-file={folder / 'pid'}", "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0", user="mysql",
            ready=_succeeds(cluster, "mariadb-admin", "--no-defaults", socket, "--user=root", "ping"),
        )
    )  # fmt: skip


def _start_slurm(running: ExitStack, cluster: SlurmCluster) -> None:
    sacctmgr = ("sacctmgr", "--immediate")
    running.enter_context(_daemon(cluster, "slurmdbd", "slurmdbd", "-D", ready=_succeeds(cluster, *sacctmgr, "show", "cluster")))
    cluster.run(*sacctmgr, "add", "cluster", NAME)
    for user in USERS:
        cluster.run(*sacctmgr, "add", "account", f"of-{user}", f"cluster={NAME}")
        cluster.run(*sacctmgr, "add", "user", user, f"account=of-{user}", f"cluster={NAME}")
    running.enter_context(
        _daemon(cluster, "slurmctld", "slurmctld", "-D", "-c", ready=_succeeds(cluster, "scontrol", "ping", says="is UP"))
    )
    for node in ("n1", "n2", "n3"):
        idle = _succeeds(cluster, "sinfo", "--noheader", f"--nodes={node}", "--format=%T", says="idle")
        running.enter_context(_daemon(cluster, node, "slurmd", "-D", "-N", node, ready=idle))


def _end_jobs_of(configuration: str) -> None:
    """Ends what a broken-off job left running: every process with the cluster's configuration in its environment."""
    mark = f"SLURM_CONF={configuration}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), 9)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


def _configure(folder: Path, database_port: int, dbd_port: int, controller_port: int, *node_ports: int) -> None:
    address = socket.gethostbyname(socket.gethostname())
    munge = f"AuthType=auth/munge\nAuthInfo=socket={folder}/munge/socket"
    nodes = "\n".join(
        f"NodeName=n{i} NodeHostname=localhost NodeAddr={address} Port={port} CPUs=8 RealMemory=4000 Gres=gpu:a100:1"
        for i, port in enumerate(node_ports, start=1)
    )
    (folder / "slurmdbd.conf").write_text(f"""\
{munge}
CommunicationParameters=NoInAddrAny
DbdHost=localhost
DbdAddr={address}
DbdPort={dbd_port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=root
StorageLoc=slurm
""")
    (folder / "slurmdbd.conf").chmod(0o600)
    (folder / "gres.conf").write_text("NodeName=n[1-3] Name=gpu Type=a100 File=/dev/null\n")
    (folder / "slurm.conf").write_text(f"""\
ClusterName={NAME}
SlurmctldHost=localhost({address})
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller_port}
{munge},cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=associations
AccountingStorageTRES=gres/gpu,gres/gpu:a100
AccountingStoreFlags=job_comment
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.log
FirstJobId={random.SystemRandom().randrange(1000, 60_000_000, 1000)}
JobRequeue=1
KillWait=1
ReturnToService=2
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=short Nodes=n[1-2] Default=YES MaxTime=60 State=UP
PartitionName=long Nodes=n[1-2] MaxTime=INFINITE State=UP
PartitionName=low Nodes=n3 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=urgent Nodes=n3 PriorityTier=9 State=UP
""")
    (folder / "state").mkdir()
