"""One demo farm for all tests of the portal, and a site of it; nothing in them is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from batchacct.clock import NOW_VARIABLE
from tests.portal.demo_site import NOW, Demo, Portal, make_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory.mktemp("portal") / "demo")


@pytest.fixture(autouse=True)
def the_day_of_the_demo() -> Iterator[None]:
    with mock.patch.dict(os.environ, {NOW_VARIABLE: str(NOW)}):
        yield


@pytest.fixture(scope="session")
def portal(demo: Demo) -> Iterator[Portal]:
    served = Portal.of(demo)
    yield served
    served.close()
