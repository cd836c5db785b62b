"""The units: systemd takes them, they are hardened, and what they run is what the commands are."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from batchacct.brokers.keys import Receive
from batchacct.cli.main import group
from batchacct.errors import ConfigError, PluginError, SchemaError, StoreError
from procacct.node.command import procacctd
from procacct.node.config import NodeConfig
from procacct.shipping.commands import group as shipping_group
from procacct.shipping.config import Ship
from pub.schedule import END_S
from tests.packaging.units import DAEMONS, ENABLED, SERVICES, UNITS, lines
from tests.servers import REQUIRED
from tools.packages.pages import root_context

ROOT = Path(__file__).parents[2]
COMMAND, NODE_DAEMON, SHIPPING = "/usr/bin/batchacct", "/usr/bin/procacctd", "/usr/bin/procacct"
GROUPS = {COMMAND: group, SHIPPING: shipping_group}
OF_COMMAND = [path for path in SERVICES if path.name != "procacctd.service"]
"""All but the node daemon, which is root and takes no sub-command."""
READING = {"batchacct-portal.service": "batchacct-portal", "batchacct-serve.service": "batchacct-serve"}
"""What only reads and answers others, each with a user of its own."""
EXPOSED_AT_MOST = {
    "batchacct-collect.service": 1.2,
    "batchacct-publish.service": 1.4,
    "batchacct-publish-once.service": 1.4,
    "batchacct-partition.service": 1.2,
    "batchacct-portal.service": 1.2,
    "batchacct-serve.service": 1.2,
    "batchacct-migrate.service": 1.2,
    "procacct-receive.service": 1.2,
    "procacct-ship.service": 1.3,
    "procacctd.service": 3.4,
}
"""Of 10, as `systemd-analyze security` counts; what is left is the network, the host's own folders and users; and the node daemon
has to see every process of the host."""


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        if REQUIRED:
            pytest.fail("systemd-analyze is not installed: apt-get install systemd")
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return program


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, Path]:
    """Copies of the units whose command exists: /usr/bin/batchacct may not."""
    true = shutil.which("true")
    for unit in UNITS:
        copy = unit.read_text(encoding="utf-8")
        for program in (COMMAND, NODE_DAEMON, SHIPPING):  # the longer name before the one it begins with
            copy = copy.replace(program, f"{true}")
        (tmp_path / unit.name).write_text(copy, encoding="utf-8")
    return {unit.name: tmp_path / unit.name for unit in UNITS}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def test_what_units_there_are() -> None:
    timed = [f"batchacct-{name}.{kind}" for name in ("partition", "publish-once") for kind in ("service", "timer")]
    assert names(UNITS) == [
        "batchacct-collect.service",
        "batchacct-migrate.service",
        *timed[:2],
        "batchacct-portal.service",
        *timed[2:],
        "batchacct-publish.service",
        "batchacct-serve.service",
        "procacct-receive.service",
        "procacct-ship.service",
        "procacctd.service",
    ]


def test_systemd_takes_them(analyze: str, installed: dict[str, Path]) -> None:
    done = run(analyze, "verify", "--man=no", *installed.values())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_tell_of_a_mistake(analyze: str, installed: dict[str, Path]) -> None:
    unit = installed["batchacct-collect.service"]
    unit.write_text(unit.read_text(encoding="utf-8").replace("NoNewPrivileges=", "NoNewPriveleges="), encoding="utf-8")
    assert "NoNewPriveleges" in run(analyze, "verify", "--man=no", unit).stderr


@pytest.mark.parametrize("name", names(SERVICES))
def test_they_are_hardened(analyze: str, installed: dict[str, Path], name: str) -> None:
    done = run(
        analyze, "security", "--offline=true", "--no-pager", f"--threshold={round(10 * EXPOSED_AT_MOST[name]) + 1}", installed[name]
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot judge units that are not installed: from 250 on it can")
    level = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert level is not None, done
    assert float(level[1]) <= EXPOSED_AT_MOST[name], done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("unit", OF_COMMAND, ids=names(OF_COMMAND))
def test_what_they_run_is_a_command(unit: Path) -> None:
    (start,) = lines(unit, "Service")["ExecStart"]
    program, *words = shlex.split(start)
    assert program == (SHIPPING if unit.name.startswith("procacct") else COMMAND)
    commands = GROUPS[program]
    command = commands.get_command(click.Context(commands), words[0])
    assert command is not None
    command.make_context(words[0], words[1:], parent=root_context(commands, Path(program).name))


@pytest.mark.parametrize("name", ["collect", "portal", "publish", "serve"])
def test_what_only_a_person_can_mend_is_not_tried_again(name: str) -> None:
    (statuses,) = lines(ROOT / f"rpm/systemd/batchacct-{name}.service", "Service")["RestartPreventExitStatus"]
    wrong_usage = click.UsageError.exit_code
    assert set(map(int, statuses.split())) == {wrong_usage, ConfigError.exit_code, SchemaError.exit_code, PluginError.exit_code}
    assert str(StoreError.exit_code) not in statuses.split(), "a database comes back"


@pytest.mark.parametrize("name", ["ship", "receive"])
def test_what_only_a_person_can_mend_on_the_way_of_process_records(name: str) -> None:
    service = lines(ROOT / f"rpm/systemd/procacct-{name}.service", "Service")
    wrong = {click.UsageError.exit_code, ConfigError.exit_code, PluginError.exit_code}
    assert set(map(int, service["RestartPreventExitStatus"][0].split())) == wrong
    assert str(Ship.model_fields["state"].default).startswith(f"/var/lib/{service['StateDirectory'][0]}/")
    assert str(Receive.model_fields["folder"].default).startswith(f"/var/lib/{service['StateDirectory'][0]}/")


def test_the_node_daemon() -> None:
    service = lines(ROOT / "rpm/systemd/procacctd.service", "Service")
    assert (service["ExecStart"], service["User"], service["Group"]) == ([NODE_DAEMON], ["root"], ["batchacct"])
    assert service["CapabilityBoundingSet"] == ["CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"]
    config = NodeConfig()
    assert service["StateDirectory"] == [str(config.state.relative_to("/var/lib"))]
    assert {config.sensor.socket.parent, config.sensor.policy.parent, config.control.socket.parent} == {
        Path("/run") / service["RuntimeDirectory"][0]
    }
    assert str(config.spool.path) in service["ExecStartPre"][0]
    assert any(config.spool.path.is_relative_to(path.lstrip("-")) for path in service["ReadWritePaths"])
    console = configparser.ConfigParser()
    console.read(ROOT / "setup.cfg", encoding="utf-8")
    assert "procacctd = procacct.node.command:main" in console["options.entry_points"]["console_scripts"]


@pytest.mark.parametrize("unit", OF_COMMAND, ids=names(OF_COMMAND))
def test_what_they_may_write(unit: Path) -> None:
    service = lines(unit, "Service")
    state = None if unit.name in READING else ["batchacct"]
    assert (service["ProtectSystem"], service.get("StateDirectory")) == (["strict"], state)
    written = [path for value in service.get("ReadWritePaths", []) for path in value.split()]
    outside = {"publish": "/var/spool/apel/outgoing", "procacct-ship": str(NodeConfig().spool.path)}
    assert written == [f"-{path}" for name, path in outside.items() if name in unit.name]


@pytest.mark.parametrize("unit", OF_COMMAND, ids=names(OF_COMMAND))
def test_their_user_is_made(unit: Path) -> None:
    users = (ROOT / "rpm/sysusers.d/batchacct.conf").read_text(encoding="utf-8")
    words = [shlex.split(line) for line in users.splitlines() if not line.startswith("#")]
    made = [word[1] for word in words if word[0] == "u"]
    members = [word[1] for word in words if word[0] == "m" and word[2] == "batchacct"]
    assert (made, members) == (["batchacct", *READING.values()], list(READING.values()))
    user = READING.get(unit.name, "batchacct")
    service = lines(unit, "Service")
    assert (service["User"], service["Group"]) == ([user], [user])


def test_both_publishers_are_hardened_alike() -> None:
    """What they do not share is how they are started, ended and reloaded."""
    daemon, once = (lines(ROOT / f"rpm/systemd/batchacct-{name}.service", "Service") for name in ("publish", "publish-once"))
    of_running = {"Type", "ExecStart", "TimeoutStartSec"}
    of_daemon = {"NotifyAccess", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus", "WatchdogSec", "TimeoutStopSec"}
    assert {key: value for key, value in daemon.items() if key not in of_running | of_daemon} == {
        key: value for key, value in once.items() if key not in of_running
    }


def test_the_publisher_ends_before_it_is_killed() -> None:
    (limit,) = lines(ROOT / "rpm/systemd/batchacct-publish.service", "Service")["TimeoutStopSec"]
    assert int(limit.removesuffix("s")) >= END_S + 5


@pytest.mark.parametrize("name", ["publish-once", "partition"])
def test_a_timer_starts_the_service_of_its_name(name: str) -> None:
    timer = ROOT / f"rpm/systemd/batchacct-{name}.timer"
    assert "Unit" not in lines(timer, "Timer"), "it is that of the timer's own name"
    assert timer.with_suffix(".service") in SERVICES
    assert lines(timer, "Timer")["Persistent"] == ["yes"]


@pytest.mark.parametrize("name", ["collect", "partition", "portal", "publish", "publish-once", "serve"])
def test_the_schema_is_brought_along_before(name: str) -> None:
    """An upgrade of the packages starts the daemons anew, and they want the migration first; where it fails they tell."""
    unit = lines(ROOT / f"rpm/systemd/batchacct-{name}.service", "Unit")
    assert "batchacct-migrate.service" in unit["Wants"][0].split()
    assert "batchacct-migrate.service" in unit["After"][0].split()
    assert "Requires" not in unit


LONG_LIVED = sorted(name.removesuffix(".service") for name in DAEMONS)


def test_which_are_long_lived() -> None:
    of_batchacct = [f"batchacct-{name}" for name in ("collect", "portal", "publish", "serve")]
    assert [*of_batchacct, "procacct-receive", "procacct-ship", "procacctd"] == LONG_LIVED


@pytest.mark.parametrize("name", LONG_LIVED)
def test_systemd_watches_them(name: str) -> None:
    service = lines(ROOT / f"rpm/systemd/{name}.service", "Service")
    assert re.fullmatch(r"\d+min", service["WatchdogSec"][0])
    assert service["Restart"] == ["on-failure"], "which a watchdog's end is"


@pytest.mark.parametrize("kind", ["rpm", "deb"])
def test_scripts_of_the_packages_name_all_of_them(kind: str) -> None:
    """An upgrade starts anew what runs, a removal ends what may have been enabled."""
    scripts = [ROOT / "rpm/batchacct.spec"] if kind == "rpm" else sorted((ROOT / "deb").glob("*.p*"))
    text = "".join(path.read_text(encoding="utf-8") for path in scripts)
    named = {verb: set(" ".join(re.findall(rf" {verb} (.*?) \|\|", text)).split()) for verb in ("try-restart", "disable --now")}
    assert named == {"try-restart": DAEMONS, "disable --now": ENABLED}


@pytest.mark.parametrize("name", LONG_LIVED)
def test_a_start_checks_the_configuration_first(name: str, tmp_path: Path) -> None:
    """The daemon does, and ends with a status that systemd takes for final: that of a check before it would not be looked at."""
    service = lines(ROOT / f"rpm/systemd/{name}.service", "Service")
    program, *words = shlex.split(service["ExecStart"][0])
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('sight = "MINE"\n', encoding="utf-8")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "told"))
        listener.setblocking(False)
        environment = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": str(tmp_path / "told")}
        command = [str(Path(sys.executable).with_name(Path(program).name)), *words, "--config", str(wrong)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
        with pytest.raises(BlockingIOError):
            pytest.fail(f"it told that it was ready: {listener.recv(4096)!r}")
    assert done.returncode == ConfigError.exit_code
    assert str(done.returncode) in service["RestartPreventExitStatus"][0].split()
    assert "sight" in done.stderr


@pytest.mark.parametrize("name", LONG_LIVED)
def test_a_reload_checks_the_configuration_first(name: str) -> None:
    check, hang_up = lines(ROOT / f"rpm/systemd/{name}.service", "Service")["ExecReload"]
    assert hang_up == "/bin/kill -HUP $MAINPID"
    program, *words = shlex.split(check)
    command: click.Command = procacctd if program == NODE_DAEMON else GROUPS[program]
    while words and isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    context = command.make_context(check, words, parent=None if command is procacctd else root_context(group, "batchacct"))
    assert context.params.get("keys_only") or context.params.get("check")
