"""Plug-ins: found by entry point, told apart, and reported where they are broken. Installed for a test as a folder on the path."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchacct.errors import PluginError
from batchacct.parsing import registry

PLUGIN = '''\
from batchacct.parsing import unit_parser, Skip
import dataclasses
@unit_parser("mine", "job", lrms="Mine")
def PARSER(unit, source):
    """Mine."""
    return Skip("all")
PARSER = dataclasses.replace(PARSER, recognise=lambda head: head.startswith(b"mine"))
ALSO = dataclasses.replace(PARSER, name="also")
THROWS = dataclasses.replace(PARSER, name="throws", recognise=lambda head: head[99])
NO_PARSER = 12
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with entry points `name = "module:object"` for parsers."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "site_plugin_for_tests.py").write_text(PLUGIN)
    (tmp_path / "site_plugin_broken.py").write_text("import no_such_module_at_all\n")

    def add(distribution: str, **points: str) -> None:
        folder = tmp_path / f"{distribution}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[batchacct.parsers]", *lines, ""]))
        _forget_installed()

    yield add
    _forget_installed()


def _forget_installed() -> None:
    importlib.invalidate_caches()
    registry.installed.cache_clear()


def test_a_parser_of_a_site_is_found(install: Install) -> None:
    install("ours", mine="site_plugin_for_tests:PARSER")
    assert registry.parser("mine").label == "mine/1"
    assert {"mine", "lsf", "blah"} <= set(registry.names(registry.PARSERS))


def test_a_parser_that_is_not_installed() -> None:
    with pytest.raises(PluginError, match=r"parser 'lsb' is not installed; did you mean lsf\?"):
        registry.parser("lsb")
    with pytest.raises(PluginError, match=r"parser 'zzz' is not installed; installed are: .*blah, .*lsf"):
        registry.parser("zzz")
    with pytest.raises(PluginError, match="format 'zzz' is not installed"):
        registry.load(registry.FORMATS, "zzz")


def test_two_parsers_of_one_name(install: Install) -> None:
    install("ours", mine="site_plugin_for_tests:PARSER")
    install("theirs", mine="site_plugin_for_tests:ALSO")
    with pytest.raises(PluginError, match=r"'mine' is registered twice, by .*ALSO and .*PARSER: uninstall one"):
        registry.parser("mine")


def test_one_parser_seen_twice_is_one(install: Install) -> None:
    """A development install leaves both an egg-info and a dist-info."""
    install("ours", mine="site_plugin_for_tests:PARSER")
    install("ours_again", mine="site_plugin_for_tests:PARSER")
    assert registry.parser("mine").name == "mine"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("site_plugin_broken:PARSER", "is broken: ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("site_plugin_for_tests:MISSING", "is broken: AttributeError"),
        ("site_plugin_for_tests:NO_PARSER", "neither a UnitParser nor a generator"),
    ],
)
def test_a_broken_plug_in(install: Install, value: str, told: str) -> None:
    install("ours", mine=value)
    with pytest.raises(PluginError, match=told):
        registry.parser("mine")
    assert registry.parser("lsf").name == "lsf", "the others go on working"


def test_the_parser_that_knows_a_file(install: Install) -> None:
    install("ours", mine="site_plugin_for_tests:PARSER", bad="site_plugin_broken:PARSER")
    assert registry.guess_parser(b"mine, all mine", "f").name == "mine"
    with pytest.raises(PluginError, match=r"f: no parser recognises it; say which with --parser .*It begins: quite .x00"):
        registry.guess_parser(b"quite \0 another", "f")


def test_a_file_that_two_parsers_know(install: Install) -> None:
    install("ours", mine="site_plugin_for_tests:PARSER", also="site_plugin_for_tests:ALSO")
    with pytest.raises(PluginError, match="parsers also, mine recognise it"):
        registry.guess_parser(b"mine, all mine", "f")


def test_a_plug_in_that_fails_at_recognising_does_not_stop_the_others(install: Install) -> None:
    install("ours", mine="site_plugin_for_tests:PARSER", throws="site_plugin_for_tests:THROWS")
    assert registry.guess_parser(b"mine", "f").name == "mine"
