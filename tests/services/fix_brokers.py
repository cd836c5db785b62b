"""Brokers for the session: both start at once, as each takes its time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import REQUIRED, MissingServerError, memory_or_disk
from tests.services.brokers import ActiveMq, Broker, RabbitMq, started

KINDS: dict[str, type[ActiveMq] | type[RabbitMq]] = {"activemq": ActiveMq, "rabbitmq": RabbitMq}


@pytest.fixture(scope="session")
def brokers() -> Iterator[dict[str, Broker | str]]:
    """Those that are installed, by name; of another what is missing."""
    missing: dict[str, str] = {}
    for name, kind in KINDS.items():
        try:
            kind.check_installed()
        except MissingServerError as error:
            if REQUIRED:
                raise
            missing[name] = str(error)
    with started([kind for name, kind in KINDS.items() if name not in missing], memory_or_disk()) as running:
        yield {**missing, **{broker.name: broker for broker in running}}


@pytest.fixture(params=list(KINDS))
def broker(request: pytest.FixtureRequest, brokers: dict[str, Broker | str]) -> Broker:
    """Each of them in turn."""
    return _there(brokers[request.param])


@pytest.fixture
def activemq(brokers: dict[str, Broker | str]) -> Broker:
    return _there(brokers["activemq"])


@pytest.fixture
def rabbitmq(brokers: dict[str, Broker | str]) -> Broker:
    return _there(brokers["rabbitmq"])


def _there(found: Broker | str) -> Broker:
    if isinstance(found, str):
        pytest.skip(found)
    return found
