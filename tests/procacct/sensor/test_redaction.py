# ruff: noqa: E501 - examples
"""No secret leaves a process, whatever form it is given in; and what is none mostly does. All of it runs under sanitizers."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procacct.datagrams import Flags
from procacct.policy import Policy, Rule
from tests.procacct.sensor.harness import Harness

REDACTED = Policy(arguments="redacted", secrets=("lösung", "klaxon"), environment=("*",))
NAMES = [
    "password",
    "passwd",
    "db-password",
    "DB_PASSWORD",
    "token",
    "api-key",
    "API_KEY",
    "apiKey",
    "userPass",
    "secret",
    "client_secret",
]
NAMES += [
    "access-token",
    "auth",
    "pwd",
    "key",
    "credentials",
    "KLAXON",
    "my-klaxon-x",
    "passphrase",
    "cookie",
    "mypass",
    "AWS_SECRET_ACCESS_KEY",
]

anything = st.binary(min_size=6, max_size=60).filter(lambda b: b"\0" not in b and b"*" not in b)
plain = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGH0123456789!$%^+_.~-", min_size=6, max_size=60).map(str.encode)
slashed = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGH0123456789!$%^+_.~-/?#", min_size=6, max_size=60).map(str.encode)
names = st.sampled_from(NAMES).map(str.encode)
padding = st.lists(st.sampled_from([b"-v", b"--verbose", b"in.txt", b"", b"x=1", b"-", b"--", b"\xff\xfe"]), max_size=4)

Form = Callable[[bytes, bytes], list[bytes]]
WHOLE: dict[str, Form] = {
    "--name value": lambda name, s: [b"--" + name, s],
    "-name value": lambda name, s: [b"-" + name, s],
    "--name=value": lambda name, s: [b"--" + name + b"=" + s],
    "name=value": lambda name, s: [name + b"=" + s],
    "name value": lambda name, s: [name, s],
    "-p value": lambda name, s: [b"-p", s],
    "-pvalue": lambda name, s: [b"-p" + s],
    "-p --password value": lambda name, s: [b"-p", b"--password", s],
    "export": lambda name, s: [b"-c", b"export " + name + b"=" + s],
    "option in code": lambda name, s: [b"-c", b"curl --" + name + b" " + s],
    "header": lambda name, s: [b"-H", b"Authorization: Bearer " + s],
    "header apart": lambda name, s: [b"-H", b"X-Auth-Token:", s],
    "bearer": lambda name, s: [b"Bearer", s],
    "JSON": lambda name, s: [b"-d", b'{"user": "me", "' + name + b'": "' + s + b'"}'],
    "JSON escaped": lambda name, s: [b"-d", b'{\\"' + name + b'\\": \\"' + s + b'\\"}'],
    "query": lambda name, s: [b"https://host/path?x=1&" + name + b"=" + s],
    "connection string": lambda name, s: [b"Server=db;Uid=me;" + name + b"=" + s],
    "user option": lambda name, s: [b"-u", b"me:" + s],
    "long user option": lambda name, s: [b"--user", b"me:" + s],
    "smbclient": lambda name, s: [b"-U", b"me%" + s],
    "attached user": lambda name, s: [b"-ume:" + s],
}
IN_URLS: dict[str, Form] = {
    "URL": lambda name, s: [b"https://me:" + s + b"@host:8080/path"],
    "URL in code": lambda name, s: [b"-c", b'git clone "https://me:' + s + b'@host/x.git" y'],
    "URL of an option": lambda name, s: [b"--dsn=postgresql://me:" + s + b"@host/db"],
    "second URL": lambda name, s: [b"http://a/b ftp://me:" + s + b"@host/"],
    "without scheme": lambda name, s: [b"me:" + s + b"@host"],
    "proxy": lambda name, s: [b"--proxy", b"me:" + s + b"@host:3128"],
}


def _told(harness: Harness, arguments: list[bytes]) -> bytes:
    told = harness.arguments(REDACTED, [b"prog", *arguments]).arguments
    assert told is not None
    return "\0".join(told).encode()


def _absent(secret: bytes, told: bytes) -> bool:
    return secret not in told and secret.decode("utf-8", "backslashreplace").encode() not in told


@pytest.mark.parametrize("form", WHOLE)
@settings(max_examples=40)
@given(name=names, secret=anything, around=padding)
def test_a_value_of_a_secret_name(harness: Harness, form: str, name: bytes, secret: bytes, around: list[bytes]) -> None:
    hidden = b"ZQ" + secret + b"QZ"
    arguments = WHOLE[form](name, hidden)
    assert _absent(hidden, _told(harness, [*around, *arguments, *around])), arguments


@pytest.mark.parametrize("form", IN_URLS)
@settings(max_examples=60)
@given(name=names, secret=slashed, before=padding)
def test_a_password_of_a_url(harness: Harness, form: str, name: bytes, secret: bytes, before: list[bytes]) -> None:
    hidden = b"ZQ" + secret
    told = _told(harness, [*before, *IN_URLS[form](name, hidden)])
    assert _absent(hidden, told)
    if form.startswith("URL") and b"/" not in secret:
        assert b"host" in told


TOKENS = [
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "glpat-ABCDEFGHIJKLMNOPQRST",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "xoxb-123456789012-abcdefghijkl",
    "sk-abcdefghijklmnopqrstuv",
    "d41d8cd98f00b204e9800998ecf8427e",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "dGhpcyBpcyBhIHNlY3JldCB0aGF0IGlzIGxvbmcxMjM=",
]
PLACES = ["{}", "x {} y", "--opt={}", "a={};b", '"{}"', "<{}>", "x,{}", "-e{}"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", TOKENS)
def test_what_looks_like_a_token(harness: Harness, token: str, place: str) -> None:
    told = _told(harness, [place.format(token).encode()])
    assert token.encode() not in told and b"***" in told
    assert token[12:].encode() not in told


KEPT = [
    "-v", "--verbose", "in.txt", "/usr/lib/x86_64-linux-gnu/libfoo.so.6", "--threads=16", "https://host:8080/path?page=2", "a b c", "",
    "git@host:me/repo.git"[4:], "user@host", "/home/Me1/Projects/Analysis2026/run.C", "x=1", "--output", "--keyboard", "us", "monkey=3",
    "turkey", "12:30:15", "C:/dir", "-O2", "-j8", "10.0.0.1:22", "file:///etc/passwd", "--author=me", "data/run2.root", "{'a': 1}",
    "mytest-2026-11-27-12-00", "ssh://host/x", "-std=c11", "äöü", "caffe", "deadbeef", "50%", "s/a/b/g", "--compress", "50MB",
]  # fmt: skip


@pytest.mark.parametrize("argument", KEPT)
def test_what_is_no_secret_is_told(harness: Harness, argument: str) -> None:
    assert _told(harness, [argument.encode()]).decode() == f"prog\0{argument}"


@settings(max_examples=300)
@given(
    st.lists(st.binary(max_size=200).map(lambda b: b.replace(b"\0", b"")), min_size=1, max_size=8),
    st.sampled_from(["program", "redacted", "all"]),
)
def test_any_arguments_make_a_datagram(harness: Harness, arguments: list[bytes], how: str) -> None:
    datagram = harness.arguments(Policy(arguments=how, secrets=("x",)), arguments)  # type: ignore[arg-type]
    assert datagram.arguments is not None
    if how == "all" and datagram.flags == 0:
        assert list(datagram.arguments) == [a.decode("utf-8", "backslashreplace") for a in arguments]
    if how == "redacted" and datagram.flags == 0:
        assert len(datagram.arguments) == len(arguments)


@settings(max_examples=200)
@given(st.lists(st.text("ab=:/@.-_pP \"'{}\\eyJ0,%&?#+*", max_size=40).map(str.encode), min_size=1, max_size=8))
def test_arguments_of_many_separators(harness: Harness, arguments: list[bytes]) -> None:
    datagram = harness.arguments(REDACTED, arguments)
    assert datagram.arguments is not None and len(datagram.arguments) == len(arguments)


@pytest.mark.parametrize(
    "unit",
    [
        b"a",
        b"a,",
        b"a:,",
        b"a/",
        b"a+",
        b"a b ",
        b'a"',
        b"password",
        b" ",
        b"a=",
        b"://",
        b"a@",
        b"http://a:b",
        b"A1b",
        b"=",
        b"-",
        b"\xff",
    ],
)
def test_a_huge_argument_costs_little(harness: Harness, unit: bytes) -> None:
    """Under sanitizers, a hundred times 128 KiB of each within seconds: cost is in proportion to length."""
    datagram = harness.arguments(REDACTED, [b"prog", *[(unit * (1 << 17))[: 1 << 17]] * 16])
    assert datagram.arguments is not None


def test_what_is_cut_is_flagged_and_not_half_a_secret(harness: Harness) -> None:
    for length in range(8100, 8200):
        datagram = harness.arguments(REDACTED, [b"prog", b"x" * length, b"--password", b"geheimes-wort", b"y"])
        assert b"geheim" not in repr(datagram).encode()
        assert bool(datagram.flags & Flags.ARGUMENTS_CUT) == (sum(map(len, datagram.arguments or ())) < length + 4 + 10 + 3 + 1)


SCRIPTS = [
    ("/bin/bash -e /x/job.sh a", 2), ("bash -c code arg", 0), ("bash -lc code", 0), ("-bash", 0), ("bash -o pipefail job.sh", 3),
    ("python3.11 -u -W ignore run.py --token x", 4), ("python -m http.server", 0), ("python -c code", 0), ("python -Wignore x.py", 2),
    ("perl -w -I lib x.pl", 4), ("perl -pe code f", 0), ("Rscript --vanilla a.R", 2), ("Rscript -e code", 0), ("ruby x.rb", 1),
    ("node --eval code", 0), ("sh -", 0), ("sh -- x.sh", 2), ("sh", 0), ("ls -l file", 0), ("bash --rcfile secret x", 0),
    ("pythonx y", 0), ("/opt/py/python3 x", 1), ("sh --login x", 2), ("bash -o", 0), ("sh --", 0), ("php -r code", 0),
]  # fmt: skip


@pytest.mark.parametrize(("line", "index"), SCRIPTS)
def test_the_script_of_an_interpreter(harness: Harness, line: str, index: int) -> None:
    arguments = line.split()
    assert int(harness.ask("script", b"".join(a.encode() + b"\0" for a in arguments))) == index
    told = harness.arguments(Policy(arguments="program"), [a.encode() for a in arguments]).arguments
    assert told == (arguments[0], *([arguments[index]] if index else []))


@settings(max_examples=300)
@given(st.text("ab/*?", max_size=12), st.text("ab/", max_size=16))
def test_patterns_match_as_of_the_shell(harness: Harness, pattern: str, text: str) -> None:
    if pattern and text:
        told = harness.ask("match", pattern.encode() + b"\0" + text.encode() + b"\0")
        assert bool(int(told)) == bool(re.match(fnmatch.translate(pattern), text))


variables = st.lists(st.binary(max_size=120).map(lambda b: b.replace(b"\0", b"")), max_size=12)
prefixes = st.sampled_from([b"SLURM_JOB_ID=", b"PBS_JOBID=", b"LOADEDMODULES=", b"JOB_ID", b"A=", b"PASSWORD=", b"=", b""])


@settings(max_examples=200)
@given(variables, prefixes)
def test_any_environment_makes_a_datagram(harness: Harness, environment: list[bytes], prefix: bytes) -> None:
    datagram = harness.environment(REDACTED, [prefix + v for v in environment])
    assert "PASSWORD" not in datagram.environment or set(datagram.environment["PASSWORD"]) <= {"*"}
    assert all("=" not in name for name in datagram.environment)


def test_huge_environments(harness: Harness) -> None:
    for size in (900, 1023, 1024, 1025, 5000, 100_000):
        given_ = (
            [b"A%d=" % n + b"x" * size for n in range(20)]
            + [b"SLURM_JOB_ID=" + b"7" * size] * 30
            + [b"LOADEDMODULES=" + b"m:" * size]
        )
        datagram = harness.environment(REDACTED, [*given_, b"N" * size + b"=1"])
        assert Flags.ENVIRONMENT_CUT in datagram.flags
        assert all(set(value) <= {"x", "7", "m", ":", "1"} for value in datagram.environment.values())


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_a_damaged_policy_is_refused_or_read(harness: Harness, noise: bytes, begin: int, length: int) -> None:
    rules = (Rule("skip", "*/sh", argument="x*"), Rule("sample", "/usr/*", one_of=7))
    text = Policy(rules=rules, environment=("A*",), secrets=("b",), opt_out="%h/x").text()
    harness.ask("policy", text[:begin] + noise + text[begin + length :] or b"x")


def test_what_a_policy_says_is_what_is_read(harness: Harness) -> None:
    def asked(**keys: object) -> bytes:
        return harness.ask("policy", Policy(**keys).text())  # type: ignore[arg-type]

    assert asked() == b"1 1 1 0"
    assert asked(active=False, arguments="all") == b"0 3 1 0"
    assert asked(arguments="none", environment=("NAM*",)) == b"1 0 1 1"
    assert asked(environment=("NAME",), secrets=("Am",)) == b"1 1 1 3"
    assert asked(environment=("NAMES", "NAMES*", "AME")) == b"1 1 1 0"
    assert asked(rules=(Rule("sample", "*/prog", one_of=9),)) == b"1 1 9 0"
    assert asked(rules=(Rule("skip", "*/prog", argument="y"), Rule("skip", "*/prog", argument="?"))) == b"1 1 0 0"
    assert asked(rules=(Rule("keep", "/usr/bin/p*"), Rule("skip", "*"))) == b"1 1 1 0"
    assert harness.ask("policy", Policy().text()[:-4]) == b"refused"
