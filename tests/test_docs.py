"""The documentation says what the code does: generated pages, links, commands, and the code shown in it."""

from __future__ import annotations

import os
import re
import shlex
import types
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import pytest

import batchacct
from batchacct.cli.main import group
from batchacct.parsing import Block, Source, UnitParser
from batchacct.store import Store
from docs.draw_gallery import VIEWS
from docs.generate import FOLDER, pages
from tests.links import links
from tools.packages.pages import root_context

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(path.relative_to(ROOT)) for path in PAGES]


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    with mock.patch.dict(os.environ, {"COLUMNS": "200"}):
        return pages()


def test_generated_pages_are_fresh(generated: dict[str, str]) -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(generated)
    stale = [name for name, text in generated.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


def test_pages_do_not_depend_on_the_terminal(generated: dict[str, str]) -> None:
    with mock.patch.dict(os.environ, {"COLUMNS": "60"}):
        assert pages() == generated


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from _commands(found, (*path, name))


def test_every_command_and_option_has_help_and_is_on_its_page() -> None:
    page = (FOLDER / "commands.md").read_text(encoding="utf-8")
    for path, command in _commands(group, ("batchacct",)):
        assert command.help, path
        if len(path) > 1:
            assert f"## `{' '.join(path)}`" in page
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help or isinstance(option.type, click.Choice), (path, option.name)
                assert all(name in page for name in option.opts)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for linked, anchor in links(page):
        assert linked.exists(), f"{page}: {linked}"
        if anchor:
            assert anchor in _anchors(linked), f"{page}: {linked}#{anchor}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def _command_lines(page: Path) -> Iterator[str]:
    """Every `batchacct ...` in a code span or a code block that is a command line."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```(?:\w*)\n(.*?)```", text, re.DOTALL):
        yield from (m.strip() for line in block.splitlines() for m in re.findall(r"(?:^\s*\$? ?|&& |\| )(batchacct .*)", line))
    yield from re.findall(r"`(batchacct [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_that_are_shown_exist(page: Path) -> None:
    for line in _command_lines(page):
        words = shlex.split(re.split(r"  #|\s&&\s|\s\|\s", line.replace("...", ""))[0], comments=True)
        if "[OPTIONS]" not in line:
            _check(words[1:], f"{page}: {line}")


def _check(words: list[str], where: str) -> None:
    command: click.Command = group
    context = root_context(group, "batchacct")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, where
        context, command, words = click.Context(found, parent=context), found, words[1:]
    if isinstance(command, click.Group) and not command.invoke_without_command:
        known = {name for option in command.get_params(context) for name in option.opts}
        assert set(words) <= known, where
        return
    required = any(p.required for p in command.params)
    given = [w if w.isdigit() or w.startswith("-") or not w.isupper() else "1" for w in words]
    try:
        command.make_context("shown", [*given], parent=context)
    except click.exceptions.Exit as end:
        assert end.exit_code == 0, where
    except click.MissingParameter as error:
        assert not words and required, f"{where}: {error.format_message()}"
    except click.UsageError as error:
        pytest.fail(f"{where}: {error.format_message()}")


def _python_block(page: Path, containing: str = "") -> str:
    blocks: list[str] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if containing in block)


def test_the_parser_of_the_how_to_works() -> None:
    module = types.ModuleType("ourbatch")
    exec(_python_block(ROOT / "docs/how-to/write-a-parser.md", "def PARSER"), module.__dict__)
    parser = module.PARSER
    assert isinstance(parser, UnitParser)
    log = b"# a comment\n42;elin;long;1000;1100;1700;599.6\nnonsense\n43;a;b;x;1;2;3\n"
    (parsed,) = parser.parse([Block(log, 0)], Source("ourbatch", "S", "our1"))
    (record,) = parsed.records.to_pylist()
    assert (record["lrms_job_id"], record["user_name"], record["queue"], record["cluster"]) == ("42", "elin", "long", "our1")
    assert (record["wall_duration_s"], record["cpu_duration_s"], record["processors"]) == (600, 600, 1)
    assert record["source_offset"] == log.index(b"42;")
    assert parsed.skipped == {"comment": 1}
    assert parsed.rejects[0].reason == "7 fields are due, there are 1"
    assert len(parsed.rejects) == 2


def test_the_generator_of_the_how_to_is_that_of_the_example() -> None:
    shown = _python_block(ROOT / "docs/how-to/write-a-parser.md", "def ourbatch")
    example = (ROOT / "docs/examples/site-parser/our_farm/ourbatch.py").read_text(encoding="utf-8")
    assert shown.strip() in example


def test_the_library_snippet_of_the_readme_works(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/batchacct.db"
    snippet = _python_block(ROOT / "README.md").replace("sqlite:////var/lib/batchacct/batchacct.db", url)
    assert url in snippet
    jobs = [{"lrms_job_id": "1", "logged_at": 1_793_534_400, "start_at": 1_793_530_000, "end_at": 1_793_534_400}]
    names: dict[str, object] = {"my_generator_of_dictionaries": lambda: iter(jobs)}
    exec(snippet, names)
    store = names["store"]
    assert isinstance(store, Store)
    (again,) = batchacct.insert(store, "job", iter(jobs))
    assert (again.recorded, again.known) == (0, 1)
    store.close()


def test_the_gallery_has_a_picture_of_every_view_and_stays_small() -> None:
    page = (ROOT / "docs" / "gallery" / "README.md").read_text(encoding="utf-8")
    pictures = sorted((ROOT / "docs" / "gallery").glob("*.png"))
    assert {path.stem for path in pictures} == set(VIEWS), "run `python -m docs.draw_gallery`"
    assert all(f"batchacct {command} --plot {name}.png" in page for name, (_, command) in VIEWS.items())
    assert sum(path.stat().st_size for path in pictures) < 400_000
