"""Names that go out as keyed hashes: the same everywhere, of records and summaries alike; and what a change of policy says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from batchacct.archive.months import named_month
from batchacct.cli.setting_up import check
from batchacct.errors import ConfigError
from batchacct.names_policy import Policy, change_ahead, keep_policy, months_of_another_policy, policies
from batchacct.store.tables import setting
from pub.privacy import keep_names_policy
from tests.pristine import with_schema
from tests.pub.site import DAY, Site, a_job, an_identity
from tests.pub.test_summaries import asked, assert_equal

SECRET = "c1f0" * 16
ALICE = "/DC=ch/CN=Älice \\x41"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return key_file(tmp_path / "pseudonym.key", SECRET)


def key_file(path: Path, secret: str, mode: int = 0o640) -> Path:
    path.write_text(f"{secret}\n")
    path.chmod(mode)
    return path


def digest_by_openssl(field: str, name: str) -> str:
    command = ["openssl", "dgst", "-sha256", "-hmac", SECRET]
    done = subprocess.run(command, input=f"{field}\0{name}".encode(), capture_output=True, check=True)
    return done.stdout.decode().split("= ")[1].strip()[:32]


def publish_two(site: Site, **publish: object) -> None:
    """A grid job of Alice, and a local one of Bob."""
    site.configure(publish=publish)
    site.jobs(a_job(1, user_name="alice"), a_job(2, queue="short", user_name="bob", job_name="bobs secret"))
    site.identities(an_identity(1, ALICE))
    site.publish()


@pytest.mark.parametrize("personal", ["grid", "all", "none"])
def test_the_hashes_are_what_another_program_makes(site: Site, key: Path, personal: str) -> None:
    publish_two(site, pseudonym_key=key, personal=personal)
    said = {r["LocalJobId"]: (r.get("GlobalUserName"), r.get("LocalUserId")) for read in site.messages() for r in read}
    alice = f"/CN={digest_by_openssl('GlobalUserName', ALICE)}", digest_by_openssl("LocalUserId", "alice")
    bob = None, digest_by_openssl("LocalUserId", "bob")
    nobody = None, None
    expected = {"grid": (alice, nobody), "all": (alice, bob), "none": (nobody, nobody)}[personal]
    assert said == dict(zip(("1", "2"), expected, strict=True))


def test_no_name_is_left_in_a_message(site: Site, key: Path) -> None:
    publish_two(site, pseudonym_key=key, personal="all", format="jsonl")
    payload = b"".join(taken.payload for taken in site.postbox.taken).lower()
    assert payload and not any(name in payload for name in (b"alice", b"bob", b"lice", b"secret"))


def test_one_person_has_one_hash_and_summaries_have_the_same(site: Site, key: Path) -> None:
    people = [{"name": ALICE, "also": ["/CN=Old"]}]
    site.configure(publish={"pseudonym_key": key}, person=people)
    site.jobs(a_job(1), a_job(2), a_job(3))
    site.identities(an_identity(1, ALICE), an_identity(2, "/CN=Old"), an_identity(3, "/CN=Bob"))
    site.publish()
    found = assert_equal(site)
    names = {cell.global_user_name: sums.jobs for cell, sums in found.cells.items()}
    digests = (f"/CN={digest_by_openssl('GlobalUserName', name)}" for name in (ALICE, "/CN=Bob"))
    assert names == dict(zip(digests, (2, 1), strict=True))


def test_other_keys_make_other_hashes(site: Site, key: Path, tmp_path: Path) -> None:
    site.jobs(a_job(1))
    site.identities(an_identity(1))
    site.configure(publish={"pseudonym_key": key})
    site.publish()
    first = {cell.global_user_name for cell in asked(site).cells}
    site.configure(publish={"pseudonym_key": key_file(tmp_path / "other", "d" * 64)})
    assert first.isdisjoint({cell.global_user_name for cell in asked(site).cells})


@pytest.mark.parametrize(
    ("secret", "mode", "told"),
    [
        (SECRET, 0o644, "may be read by everybody: run `chmod o-r "),
        ("short", 0o600, "has 5 bytes, which can be guessed: 32 are due"),
        (None, 0, "cannot be read: No such file or directory; `openssl rand -hex 32` makes a key"),
    ],
)
def test_a_key_that_cannot_be_used(site: Site, tmp_path: Path, secret: str | None, mode: int, told: str) -> None:
    path = tmp_path / "key" if secret is None else key_file(tmp_path / "key", secret, mode)
    site.configure(publish={"pseudonym_key": path})
    site.jobs(a_job(queue="short"))
    with pytest.raises(ConfigError, match=f"pseudonym_key {path} {told}"):
        site.publish()
    with pytest.raises(ConfigError, match=f"pseudonym_key {path} {told}"):
        Policy.of(site.config)


def test_a_change_of_policy_is_told_once_something_is_out(
    site: Site, key: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def keep(at: int, **publish: object) -> None:
        site.configure(publish=publish)
        with site.store.writing() as connection:
            keep_names_policy(connection, site.config, at)

    keep(site.clock)
    keep(site.clock + 1, pseudonym_key=key)
    assert "another policy" not in caplog.text
    site.jobs(a_job(queue="short"))
    site.publish()
    keep(site.clock + 2, pseudonym_key=key)
    keep(site.clock + 3, pseudonym_key=key_file(tmp_path / "other", "d" * 64))
    keep(site.clock + 4, pseudonym_key=tmp_path / "other")
    assert caplog.text.count("names go out by another policy than before") == 1
    with site.store.reading() as connection:
        kept = policies(connection)
        text = connection.scalar(select(func.min(setting.c.value)).where(setting.c.name == "names_policy"))
    assert [(one.policy.personal, one.since - site.clock) for one in kept] == [("grid", 1), ("grid", 3)]
    assert text is not None and SECRET[:8] not in text and "dddd" not in text
    assert kept[0].policy.key != kept[1].policy.key


def test_summaries_of_months_under_another_policy_are_told_of(site: Site, key: Path) -> None:
    october, november, december = (named_month(f"2023-{number}") for number in (10, 11, 12))
    site.jobs(a_job(queue="short"))
    site.publish()

    def kept(at: int, **publish: object) -> dict[int, str]:
        site.configure(publish=publish)
        with site.store.writing() as connection:
            keep_policy(connection, site.config, at)
            return months_of_another_policy(connection, site.config, [october, november, december])

    assert kept(october + DAY) == {}
    told = kept(november + DAY, personal="none")
    assert set(told) == {october, november}
    assert 'summaries sent until 2023-11-02 00:00:00Z are by another policy of names (personal = "grid"; now' in told[october]
    assert set(kept(november + DAY, personal="none")) == {october, november}
    site.configure(publish={"pseudonym_key": key})
    with site.store.reading() as connection:
        assert set(months_of_another_policy(connection, site.config, [december])) == {december}
        assert "names go out by another policy than before" in str(change_ahead(connection, site.config))


def test_config_check_tells_of_a_change(tmp_path: Path, key: Path) -> None:
    url = f"sqlite:///{tmp_path}/batchacct.db"
    store = with_schema(url)
    site = Site(store)
    site.jobs(a_job(queue="short"))
    site.publish()
    with store.writing() as connection:
        keep_policy(connection, site.config, site.clock)
    store.close()
    path = tmp_path / "b.toml"

    def told(publish: str) -> str:
        benchmark = '[[benchmark]]\ntype = "HEPSPEC"\nvalue = 1.0\n'
        path.write_text(f'site = "S"\n[database]\nurl = "{url}"\n{benchmark}[publish]\npath = "{tmp_path}"\n{publish}')
        result = CliRunner().invoke(check, ["--config", str(path)])
        return result.output

    assert "note" not in told("") and "the configuration is right" in told("")
    assert "note: names go out by another policy" in told(f'pseudonym_key = "{key}"')
    key.chmod(0o644)
    assert "wrong: pseudonym_key" in told(f'pseudonym_key = "{key}"')
