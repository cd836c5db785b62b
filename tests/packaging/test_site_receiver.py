"""A site's own format and transport: the example package is installed, and its messages reach a program of the site."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchacct.parsing import registry
from tests.cli.site import Site, lsf

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "site-receiver"
RECEIVER = """#!/bin/sh
# Takes a message on standard input under the name that is its last argument; `broken` and `unwilling` in the folder are its moods.
[ -e "$1/broken" ] && { echo "no room" >&2; exit 1; }
[ -e "$1/unwilling" ] && { echo "not this one" >&2; exit 65; }
cat > "$1/$(echo "$2" | tr / -)"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The example package, built from a copy, because building leaves things beside it, and found as installed ones are."""
    source, target = tmp_path_factory.mktemp("source") / "site-receiver", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(target)
        registry.installed.cache_clear()
        yield
    registry.installed.cache_clear()


def site_of(folder: Path, option: str) -> Site:
    """A farm whose messages go to a program, which keeps them in `inbox`; its VO is longer than the receiver takes."""
    for name in ("logs", "inbox"):
        (folder / name).mkdir()
    receiver = folder / "take-usage"
    receiver.write_text(RECEIVER)
    receiver.chmod(0o755)
    site = Site(folder)
    sending = f'format = "our-lines"\ntransport = "our-program"\noptions.{option} = ["{receiver}", "{folder}/inbox"]\n'
    site.configure(more=f'{sending}[vo]\ndefault = "a-vo-of-a-long-name"\n', ce='"*" = "lsf1"')
    site.write([lsf(41), lsf(42)])
    return site


@pytest.mark.usefixtures("installed")
def test_the_example_package_publishes(tmp_path: Path) -> None:
    site, inbox = site_of(tmp_path, "command"), tmp_path / "inbox"
    site.good("db", "create")
    site.good("collect", "--once")
    (inbox / "broken").touch()
    broken = site.run("publish", "--once")
    assert (broken.status, "no room. It is sent again by the next run" in broken.err) == (9, True)
    (inbox / "broken").rename(inbox / "unwilling")
    unwilling = site.run("publish", "--once")
    assert (unwilling.status, "not this one" in unwilling.err) == (13, True)
    (inbox / "unwilling").unlink()
    site.good("publish", "--once", "--retry-refused")
    site.good("publish", "--once")
    (message,) = inbox.iterdir()
    head, *lines = message.read_text().splitlines()
    assert head == "our-lines 1"
    assert [line.split(";")[:2] for line in lines] == [["41", ""], ["42", ""]]
    assert lines[0].endswith(";600;3600;completed")
    assert site.status()["balanced"]
    assert "vo: not ASCII of 16 characters at most" in site.good("status")


@pytest.mark.usefixtures("installed")
def test_options_that_are_wrong_are_told(tmp_path: Path) -> None:
    site = site_of(tmp_path, "comand")
    done = site.run("config", "check")
    assert (done.status, "did you mean command?" in done.err) == (3, True)
