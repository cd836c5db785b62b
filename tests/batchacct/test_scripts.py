"""What the scripts of 2012 share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchacct.scripts import start_logging


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, as it was when the test ends."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_log_file_takes_names_that_are_no_utf_8(root_logger: logging.Logger, tmp_path: Path) -> None:
    start_logging("acct", tmp_path / "log")
    root_logger.info("begins %s", "/var/log/acct-\udcff.gz")
    assert (tmp_path / "log").read_text(encoding="utf-8").endswith("INFO begins /var/log/acct-\\udcff.gz\n")
