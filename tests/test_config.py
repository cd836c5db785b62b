"""The configuration: its sample is complete and true, and whatever is wrong in a file is told, all of it, in words."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracledb
import pytest
from pydantic import BaseModel
from sqlalchemy import URL, make_url

from batchacct.config import Config, load_config, masked
from batchacct.config_errors import section_of
from batchacct.config_sample import reference, sample
from batchacct.connection import database_url
from batchacct.errors import ConfigError
from batchacct.store.dialects.oracle_sql import ThinDialect

LEAST = 'site = "X"\n[database]\nurl = "sqlite:////tmp/x.db"\n'


def _load(folder: Path, text: str) -> Config:
    path = folder / "b.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def _refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as told:
        _load(folder, text)
    assert str(folder / "b.toml") in told.value.message
    return told.value.message


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in section.model_fields:
        inner = section_of(section, name)
        if inner is None:
            yield prefix + name
        else:
            yield from _keys(inner, f"{prefix}{name}.")


def _keys_of(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if name in {"ce", "feed_options", "options", "also"}:
            yield prefix + name
        elif isinstance(value, dict):
            yield from _keys_of(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one in value:
                yield from _keys_of(one, f"{prefix}{name}.")
        else:
            yield prefix + name


def _uncommented(text: str) -> str:
    """The sample with every commented key and table in force, but those whose default is nothing."""
    lines = []
    for line in text.splitlines():
        bare = line.removeprefix("# ")
        is_key = re.match(r'(\[\[?[a-z.]+\]\]?|[a-z][a-z0-9_]* = .*|".*" = .*)$', bare)
        lines.append(bare if is_key else line)
    return "\n".join(lines)


def test_the_sample_can_be_loaded_as_it_is(tmp_path: Path) -> None:
    config = _load(tmp_path, sample())
    assert [s.parser for s in config.source] == ["lsf", "blah"]


def test_the_sample_has_every_key_and_no_other() -> None:
    assert set(_keys_of(tomllib.loads(_uncommented(sample())))) == set(_keys(Config))


def test_the_reference_has_every_key() -> None:
    page = reference()
    for key in _keys(Config):
        assert f"| `{key.rpartition('.')[2]}` |" in page


def test_commented_values_are_the_defaults(tmp_path: Path) -> None:
    shown = [line for line in _uncommented(sample()).splitlines() if not line.endswith('= ""')]
    shown = [line for line in shown if not line.startswith(("machine_name", '"ce01'))]
    text = "\n".join(shown)
    everything, plain = _load(tmp_path, text), _load(tmp_path, sample())
    assert everything.vo.rule[0].vo == "atlas"
    assert (everything.vo.issuer[0].vo, everything.person[0].also) == ("atlas", ["https://atlas-auth.cern.ch/7dee38a3"])
    assert everything.destination[0].name == "apel"
    assert everything.application[0].programs == ["/cvmfs/*/geant4/*", "/opt/geant4/bin/*"]
    assert (everything.capacity[0].cluster, everything.capacity[0].cores) == ("lsf1", 4096)
    assert everything.energy[0].g_co2e_per_kwh == 112.0
    assert everything.receive is not None
    assert everything.receive.brokers == ["mq1.example.org:61614"]
    invented = {
        name: getattr(plain, name) for name in ("vo", "capacity", "energy", "person", "application", "destination", "receive")
    }
    assert everything.model_copy(update=invented) == plain
    assert everything.vo.default == plain.vo.default


LSF: dict[str, object] = {"name": "lsf", "parser": "lsf", "paths": ["/x/lsb.acct*"]}
SACCT: dict[str, object] = {"name": "slurm", "parser": "slurm", "feed": "sacct"}


def test_given_values_and_logs_take_the_place_of_examples(tmp_path: Path) -> None:
    config = _load(tmp_path, sample(site="S", database="sqlite:////a/b.db", sources=[LSF, SACCT]))
    assert (config.site, config.database.url) == ("S", "sqlite:////a/b.db")
    assert [(s.name, s.parser, s.paths, s.feed) for s in config.source] == [
        ("lsf", "lsf", ["/x/lsb.acct*"], None),
        ("slurm", "slurm", [], "sacct"),
    ]


def test_clusters_are_those_of_the_sources(tmp_path: Path) -> None:
    one = _load(tmp_path, sample(site="S", sources=[SACCT | {"cluster": "slurm1"}]))
    assert ([s.cluster for s in one.source], [c.name for c in one.cluster]) == (["slurm1"], ["slurm1"])
    text = sample(site="S", sources=[SACCT | {"cluster": "slurm1"}, LSF | {"cluster": "lsf1"}])
    several = _load(tmp_path, text)
    assert ([s.cluster for s in several.source], [c.name for c in several.cluster]) == (["slurm1", "lsf1"], ["slurm1", "lsf1"])
    assert several.publish.local_job_id == "{cluster}-{id}", "job ids of two batch systems are the same numbers"
    assert "lsf1" not in sample(site="S", sources=[SACCT | {"cluster": "slurm1"}])


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = 'sites = "X"\n[database]\n[[source]]\nname = "a b"\nparser = "lsf"\npaths = 1\n'
    text += '[join]\ngrace = "1y"\n[publish]\nbunch = 9999\n'
    told = _refused(tmp_path, text)
    for part in (
        "site: is required",
        "sites: there is no such key; did you mean site?",
        "database: give url or connection_file, one of them",
        "source[1].name",
        "source[1].paths",
        'join.grace: a duration is a number and one of s, m, h, d, w, such as "36h"',
        "publish.bunch",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[publish]\nbunhc = 5", "publish.bunhc: there is no such key; did you mean bunch?"),
        ('[[cluster]]\nname = "a"\nmachin_name = "c"', "cluster[1].machin_name: there is no such key; did you mean machine_name?"),
        ('[[vo.rule]]\nvo = "a"\ngrop = "c"', "vo.rule[1].grop: there is no such key; did you mean group?"),
        ("[zzzzzzz]\na = 1", "zzzzzzz: there is no such key"),
        ('[[vo.rule]]\nvo = "a b"', "vo.rule[1].vo: 'a b' has to be written otherwise, such as atlas: it does not match ^[!-:"),
        ('[vo]\ndefault = ""', "vo.default: '' has to be written otherwise, such as nonlcg: it does not match"),
        ('[publish]\nbunch = "7"', "publish.bunch: Input should be a valid integer"),
        ("[publish]\nbunch = true", "publish.bunch: Input should be a valid integer"),
        ("[publish]\nbunch = 0", "publish.bunch: Input should be greater than or equal to 1"),
        ('[publish]\npersonal = "some"', "publish.personal: Input should be 'grid', 'all' or 'none'"),
        ('[[benchmark]]\ntype = "HEPscore23"\nvalue = "12"', "benchmark[1].value: Input should be a valid number"),
        ('[[benchmark]]\ntype = "HEPscore23"\nvalue = inf', "benchmark[1].value: Input should be a finite number"),
        ('[[benchmark]]\ntype = "HEPscore23"\nvalue = 1\nper_host_factor = "yes"', "benchmark[1].per_host_factor"),
        ('[[benchmark]]\ntype = "HEPscore23"\nvalue = 1\nvalid_from = "soon"', "benchmark[1].valid_from"),
        ('[[benchmark]]\ntype = "HEPscore23"\nvalue = 1\ncluster = "lfs1"', "[[cluster]] is missing for lfs1"),
        ('[[capacity]]\ncluster = "lfs1"\ncores = 8', "[[cluster]] is missing for lfs1"),
        ('[[cluster]]\nname = "a"\n[[capacity]]\ncluster = "a"\ncores = 0', "capacity[1].cores: Input should be greater"),
        (
            '[[cluster]]\nname = "a"\n' + '[[capacity]]\ncluster = "a"\ncores = 8\nvalid_from = 2026-11-01\n' * 2,
            "two [[capacity]] of cluster a begin on 2026-11-01",
        ),
        ('[[energy]]\ng_co2e_per_kwh = 100.0\nsource = "x"\n' * 2, "two [[energy]] begin on 1970-01-01"),
        (
            '[[energy]]\ng_co2e_per_kwh = 100.0\nsource = "x"\nvalid_from = 2026-11-01\nvalid_until = 2026-11-01',
            "energy[1]: valid_until is not after valid_from",
        ),
        ('[[source]]\nname = "a"\nparser = "lsf"\npaths = "x"', "source[1].paths: Input should be a valid list"),
        ('[[source]]\nname = "a"\nparser = "lsf"\npaths = ["x"]\nzone = "Mars/Olympus"', "source[1].zone: no such time zone"),
        ('[[source]]\nname = "a"\nparser = "lsf"\npaths = ["x"]\nzone = "../../etc/passwd"', "source[1].zone: no such time zone"),
        ('[[source]]\nname = "a"\nparser = "lsf"\npaths = ["x"]\ncluster = "c"', "as a whole: [[cluster]] is missing for c"),
        ('[ce]\n"ce01*" = "c"', "[[cluster]] is missing for c"),
        ('[[source]]\nname = "a"\nparser = "lsf"\npaths = ["x"]\n' * 2, "two sources have the name a"),
        ('[[cluster]]\nname = "c1"\n' * 2, "two [[cluster]] have the name c1: put their keys into one"),
        ('[[cluster]]\nname = "a"\n[[cluster]]\nname = "b"', "local_job_id and local_job_id_array need {cluster}"),
        ('[join]\ngrace = "-5h"', "join.grace: a duration"),
        ("[join]\ngrace = -5", "join.grace: Input should be greater than or equal to 0"),
        ("[join]\ngrace = 1.5", "join.grace: Input should be a valid integer"),
        ('[join]\ngrace = "9999999999w"', "join.grace: Input should be less than"),
        ('[publish]\nlocal_job_id = "{id"', "publish.local_job_id: a brace is not closed"),
        ('[publish]\nlocal_job_id = "{idd}"', "publish.local_job_id: only {id}, {cluster} are replaced"),
        ('[publish]\nlocal_job_id = "{id.__class__}"', "publish.local_job_id: only {id}, {cluster} are replaced"),
        ('[publish]\nlocal_job_id = "x"', "publish.local_job_id: needs {id}"),
        ('[publish]\nlocal_job_id_array = "{id}"', "publish.local_job_id_array: needs {index}"),
        ('[publish]\ndescription = "{nothing}"', "publish.description: only {ce}, {lrms} are replaced"),
        ('[publish]\nschedule = "61 * * * *"', "publish.schedule: Error validating expression '61'"),
        ('[publish]\nschedule = "hourly"', "publish.schedule: five fields are due"),
        ('[publish]\nschedule = "0 0 1 * 1"', "publish.schedule: give the day of the month or that of the week, not both"),
        ('[publish]\nschedule_zone = "CERN"', "publish.schedule_zone: no such time zone"),
        ("[publish]\nbunch 5", "is no TOML: Expected '=' after a key in a key/value pair (at line 5, column 7)"),
        ("[publish\n", "is no TOML"),
    ],
)  # fmt: skip
def test_one_wrong_thing(tmp_path: Path, text: str, told: str) -> None:
    assert told in _refused(tmp_path, LEAST + text)


@pytest.mark.parametrize("url", ["nonsense", "", "postgresql://u:hunter2@h:port/d"])
def test_a_wrong_url_is_told_without_its_password(tmp_path: Path, url: str) -> None:
    told = _refused(tmp_path, f'site = "X"\n[database]\nurl = "{url}"\n')
    assert "database.url: this is no database URL; one is for example sqlite:///" in told
    assert "hunter2" not in told


def test_both_url_and_connection_file(tmp_path: Path) -> None:
    assert "give url or connection_file, one of them" in _refused(tmp_path, LEAST + 'connection_file = "/x"\n')


def test_several_clusters_with_a_template(tmp_path: Path) -> None:
    more = 'local_job_id = "{cluster}-{id}"\nlocal_job_id_array = "{cluster}-{id}-{index}"\n'
    config = _load(tmp_path, f'{LEAST}[[cluster]]\nname = "a"\n[[cluster]]\nname = "b"\n[publish]\n{more}')
    assert [c.name for c in config.cluster] == ["a", "b"]


@pytest.mark.parametrize(
    ("written", "seconds"), [('"36h"', 129_600), ('" 2 w "', 1_209_600), ('"90s"', 90), ('"5m"', 300), ("7", 7), ('"0d"', 0)]
)
def test_durations(tmp_path: Path, written: str, seconds: int) -> None:
    assert _load(tmp_path, f"{LEAST}[join]\ngrace = {written}\n").join.grace == seconds


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_bytes(b'site = "\xff"\n')
    with pytest.raises(ConfigError, match=f"configuration {path} cannot be read: .*utf-8"):
        load_config(path)


def test_a_folder_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="`batchacct init` writes one, --config names another"):
        load_config(tmp_path / "none.toml")


def test_a_password_for_everybody_to_read_is_refused(tmp_path: Path) -> None:
    text = 'site = "X"\n[database]\nurl = "postgresql://u:hunter2@h/d"\n'
    path = tmp_path / "b.toml"
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by everybody and holds a password") as told:
        load_config(path)
    assert "hunter2" not in told.value.message
    path.chmod(0o640)
    shown = masked(load_config(path))
    assert shown["database"]["url"] == "postgresql://u:***@h/d"


def _connection(folder: Path, content: bytes, mode: int = 0o640) -> Path:
    path = folder / "connection"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_connection_file(tmp_path: Path) -> None:
    assert database_url(_connection(tmp_path, b"sqlite:////x.db\nmore\n")) == "sqlite:////x.db"


@pytest.mark.parametrize("url", ["sqlite:////x.db", "postgresql:///batchacct", "postgresql://u@h/d"])
def test_a_connection_file_without_a_password_may_be_read_by_everybody(tmp_path: Path, url: str) -> None:
    assert database_url(_connection(tmp_path, url.encode(), 0o644)) == url


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (b"postgresql://u:hunter2@h/d\n", 0o644, "may be read by everybody and holds a password: run `chmod o-r "),
        (b"postgresql://u@h/d?password=hunter2\n", 0o604, "may be read by everybody and holds a password: run `chmod o-r "),
        (b"postgresql u/hunter2@h/d\n", 0o644, "may be read by everybody and holds a password: run `chmod o-r "),
        (b"", 0o600, "its first line is neither a database URL nor username/password@dsn"),
        (b"just words", 0o600, "its first line is neither"),
        (b"user/hunter2", 0o600, "its first line is neither"),
        (b"\xff\xfe", 0o600, "cannot be read"),
        (b"postgresql://u:hunter2@h:port/d", 0o600, "this is no database URL"),
    ],
)
def test_a_connection_file_that_cannot_be_used(tmp_path: Path, content: bytes, mode: int, told: str) -> None:
    path = _connection(tmp_path, content, mode)
    with pytest.raises(ConfigError) as refused:
        database_url(path)
    assert told in refused.value.message
    assert str(path) in refused.value.message
    assert "hunter2" not in refused.value.message


def test_a_missing_connection_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: .*No such file"):
        database_url(tmp_path / "none")


def _connected_by(url: URL) -> tuple[list[str], dict[str, str]]:
    """What SQLAlchemy calls python-oracledb with."""
    dialect: Any = ThinDialect
    connected: tuple[list[str], dict[str, str]] = dialect(dbapi=oracledb).create_connect_args(url)
    return connected


def test_the_oracle_form_of_2012(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _connection(tmp_path, b"user/p/w@x@//host/service\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"driver is missing: pip install 'batchacct\[oracle\]'"):
        database_url(path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    url = make_url(database_url(path))
    assert (url.drivername, url.username, url.password) == ("oracle+oracledb", "user", "p/w")
    assert _connected_by(url)[1]["dsn"] == "x@//host/service"


@pytest.mark.parametrize(
    ("dsn", "connected"),
    [
        ("db.example.org:1521/acct", {"HOST=db.example.org", "PORT=1521", "SERVICE_NAME=acct"}),
        ("db/acct", {"HOST=db", "PORT=1521", "SERVICE_NAME=acct"}),
        ("ACCT_PROD", {"ACCT_PROD"}),
        ("acct.example.org", {"acct.example.org"}),
        ("db:1521/acct:dedicated", {"db:1521/acct:dedicated"}),
        ("tcps://db:2484/acct?wallet_location=/etc/w", {"tcps://db:2484/acct?wallet_location=/etc/w"}),
        ("(DESCRIPTION=(ADDRESS=(PROTOCOL=TCP)(HOST=h)(PORT=1))(CONNECT_DATA=(SID=x)))", {"(HOST=h)", "(SID=x)"}),
    ],
)
def test_every_dsn_reaches_oracles_driver(tmp_path: Path, dsn: str, connected: set[str]) -> None:
    for kind in ("", "oracle ", "oracle+oracledb\t"):
        url = make_url(database_url(_connection(tmp_path, f"{kind}u/hunter2@{dsn}\n".encode())))
        _, told = _connected_by(url)
        assert (told["user"], told["password"]) == ("u", "hunter2")
        assert all(piece in told["dsn"] for piece in connected), told
        assert "hunter2" not in url.render_as_string(hide_password=True)


PASSWORDS = ("hunter2", "p/w", "a:b#c%2F?&=", "q w", "grün", "x y", "")


@pytest.mark.parametrize("password", [*PASSWORDS, '"p@ss/w:rd"', '"@"'])
@pytest.mark.parametrize(
    ("kind", "scheme"), [("postgresql", "postgresql"), ("mariadb", "mariadb"), ("mysql", "mysql"), ("oracle", "oracle+oracledb")]
)
def test_the_same_shape_for_every_database(tmp_path: Path, kind: str, scheme: str, password: str) -> None:
    url = make_url(database_url(_connection(tmp_path, f"{kind} us.er/{password}@[2001:db8::1]:99/d\n".encode())))
    assert (url.drivername, url.username, url.password or "") == (scheme, "us.er", password.strip('"'))
    assert (url.host, url.port) == ("2001:db8::1", 99)
    assert url.query == {"service_name": "d"} if kind == "oracle" else url.database == "d"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("db2 user/hunter2@host/d", "is none of oracle, "),
        ("postgresql user/hunter2@host", "is not host:port/database"),
        ("postgresql user/hunter2@host:port/d", "is not host:port/database"),
        ("oracle user/hunter2", "its first line is neither"),
    ],
)
def test_a_login_that_cannot_be_used_is_not_shown(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        database_url(_connection(tmp_path, line.encode()))
    assert told in refused.value.message
    assert "hunter2" not in refused.value.message


def test_cx_oracle_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _connection(tmp_path, b"oracle+cx_oracle u/p@alias\n")
    asked: list[str] = []
    monkeypatch.setattr("importlib.util.find_spec", asked.append)
    with pytest.raises(ConfigError, match=r"pip install 'batchacct\[cx_oracle\]'"):
        database_url(path)
    assert asked == ["cx_Oracle"]
