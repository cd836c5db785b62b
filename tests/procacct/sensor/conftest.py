"""The sensor, built once for all its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from procacct.sensor import build
from tests.procacct.sensor.sensed import Sensor, need_program


@pytest.fixture(scope="session")
def sensor_folder() -> Iterator[Path]:
    """With a short path, which that of a socket has to be; open to other users, as which tests run programs."""
    with TemporaryDirectory(prefix="sensor-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture(scope="session")
def built_sensor(sensor_folder: Path) -> Path:
    need_program("make")
    need_program("gcc")
    folder = sensor_folder / "built"
    return build(folder, policy=sensor_folder / "policy", socket=sensor_folder / "sensor.sock")


@pytest.fixture
def sensor(sensor_folder: Path, built_sensor: Path) -> Iterator[Sensor]:
    made = Sensor(sensor_folder, built_sensor)
    made.set_policy()
    yield made
    made.policy.unlink(missing_ok=True)
    made.socket.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def programs(sensor_folder: Path) -> Path:
    """A folder for programs that tests compile."""
    folder = sensor_folder / "programs"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    return folder
