"""The receivers: `loader` is APEL's, `way` leads to SSM's; `farm` is what they are sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.apel import Loader
from tests.interop.checkouts import Checkout, apel_checkout, ssm_checkout
from tests.interop.farm import Farm
from tests.interop.ssm import OpenActiveMq, Way
from tests.servers import REQUIRED, MariaServer, MissingServerError
from tests.services.brokers import Broker, started

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def apel() -> Checkout:
    return apel_checkout()


@pytest.fixture(scope="session")
def ssm() -> Checkout:
    return ssm_checkout()


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Farm:
    return Farm.collected(tmp_path_factory.mktemp("farm"))


@pytest.fixture
def loader(apel: Checkout, mariadb: MariaServer, tmp_path: Path) -> Iterator[Loader]:
    made = Loader(apel, mariadb, tmp_path / "loader")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def open_broker(ssm: Checkout) -> Iterator[Broker]:
    """An ActiveMQ for SSM."""
    try:
        OpenActiveMq.check_installed()
    except MissingServerError as missing:
        if REQUIRED:
            raise
        pytest.skip(str(missing))
    with started([OpenActiveMq]) as (broker,):
        yield broker


@pytest.fixture
def way(ssm: Checkout, open_broker: Broker, tmp_path: Path) -> Iterator[Way]:
    """By a queue that no other test uses."""
    publisher, receiver = (open_broker.authority.issue(name, with_rsa=True) for name in ("publisher", "receiver"))
    made = Way(ssm, open_broker, f"/queue/interop.{next(_numbers)}", publisher, receiver, tmp_path)
    yield made
    made.stop()
