"""Filters as people type them: lists, files of names, commas in names."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchacct.errors import ConfigError
from cpuhours.selecting import MOST_NAMES, names_of


def test_names_are_repeated_listed_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("# our VOs\natlas\n\n  belle, ii  \nc%\n")
    assert names_of("vo", ["atlas", "cms,lhcb", " alice , cms"]) == ("atlas", "cms", "lhcb", "alice")
    assert names_of("vo", [f"@{tmp_path / 'names'}", "na62"]) == ("atlas", "belle, ii", "c%", "na62")
    assert names_of("user", ["Doe\\, Jane,bob"]) == ("Doe, Jane", "bob")
    assert names_of("queue", [" lead"]) == (" lead",), "blanks are left out beside commas, and in files"
    assert names_of("vo", ["(waiting for identity)"]) == ("(waiting for identity)",)


def test_what_names_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# none yet\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for given in ("", " , ", f"@{tmp_path / 'empty'}"):
        with pytest.raises(ConfigError, match=r"--vo .* names nothing: give names, VO,VO or @FILE"):
            names_of("vo", [given])
    for path in ("none", "bytes", "nul\0"):
        with pytest.raises(ConfigError, match="the file of names cannot be read"):
            names_of("vo", [f"@{tmp_path / path}"])
    with pytest.raises(ConfigError, match="use a pattern with %"):
        names_of("vo", [",".join(map(str, range(MOST_NAMES + 1)))])
