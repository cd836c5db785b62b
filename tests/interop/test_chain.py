"""The whole chain: our transport, a real ActiveMQ, the real SSM receiver, the real APEL loader, its tables.

Needs checkouts of apel/apel and apel/ssm: see CONTRIBUTING.md.
"""

from __future__ import annotations

import pytest

from tests.interop.apel import Loader
from tests.interop.farm import Farm
from tests.interop.ssm import Way, subject_of
from tests.interop.test_apel import by_key, expected

pytestmark = pytest.mark.usefixtures("ssm", "apel")


@pytest.mark.parametrize("message_format", ["apel-0.3", "apel-0.4", "car-1.2"])
def test_what_we_send_is_in_the_tables(farm: Farm, way: Way, loader: Loader, message_format: str) -> None:
    receiver = way.receiving(subject_of(way.publisher), loader.spool)
    farm.published(way.folder / "site", way.lines(way.publisher, encrypted=True, message_format=message_format))
    receiver.settle()
    loader.settle()
    assert [one for one in loader.spool.rejected if not one.empa_id.startswith("mark")] == []
    records = farm.records(way.folder / "records")
    assert by_key(loader.rows("VJobRecords")) == by_key(expected(record, message_format) for record in records)
    assert loader.publishers() == {subject_of(way.publisher)}
