"""Who is let in: sessions, passwords, a proxy, and accounts that change."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from batchacct.errors import ConfigError
from cpuhours.portal import login
from cpuhours.portal.accounts import Account, read_accounts, write_accounts
from cpuhours.portal.proxies import SECRET_HEADER, secret_of
from cpuhours.portal.sessions import Guesses
from cpuhours.portal.site import Site
from cpuhours.portal.viewers import Role, is_identity, is_name
from tests.portal.demo_site import Demo, Portal


def test_a_forged_session_is_none(portal: Portal) -> None:
    client = portal.client()
    for forged in ("admin", "x" * 43, "", "\x00", "é"):
        client.set_cookie("portal-session", forged)
        assert client.get("/").status_code == 303


def test_a_session_ends(demo: Demo) -> None:
    served = Portal.of(demo)
    try:
        clock = [0.0]
        served.site.sessions._clock = lambda: clock[0]
        client = served.client("admin")
        assert client.get("/jobs").status_code == 200
        clock[0] = served.site.sessions.life_s + 1.0
        assert client.get("/jobs").status_code == 303
    finally:
        served.close()


# --- the form --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_passwords(demo: Demo) -> Iterator[Portal]:
    """A portal of its own accounts file: hashing takes its time."""
    from cpuhours.portal.accounts import with_password

    path = demo.folder / "with-passwords"
    write_accounts(
        path, {"admin": with_password(Account(Role.ADMINISTRATOR), "correct-horse-battery"), "proxied": Account(Role.USER)}
    )
    served = Portal.of(demo, accounts_file=path)
    yield served
    served.close()


@pytest.fixture(autouse=True)
def no_guesses_yet(with_passwords: Portal) -> None:
    with_passwords.site.guesses = Guesses()


def enter(client: FlaskClient, name: str, password: str, next_: str = "/jobs") -> TestResponse:
    token = re.findall(r'name="token" value="(\w+)"', client.get("/login").text)[0]
    return client.post("/login", data={"name": name, "password": password, "token": token, "next": next_})


def test_logging_in_and_out(with_passwords: Portal) -> None:
    client = with_passwords.client()
    got = enter(client, "admin", "correct-horse-battery")
    assert (got.status_code, got.headers["Location"]) == (303, "/jobs")
    (cookie,) = [one for one in got.headers.getlist("Set-Cookie") if one.startswith("portal-session=")]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=28800")), cookie
    assert "Secure" not in cookie
    page = client.get("/")
    assert page.status_code == 200
    assert client.post("/logout", data={"token": "0" * 64}).status_code == 400
    assert client.get("/").status_code == 200, "a page of another site cannot log anybody out"
    token = re.findall(r'name="token" value="(\w+)"', page.text)[0]
    session = cookie.partition("=")[2].partition(";")[0]
    assert client.post("/logout", data={"token": token}).status_code == 303
    client.set_cookie("portal-session", session)
    assert client.get("/").status_code == 303, "the session is over, not only the cookie"


def test_what_does_not_log_in(with_passwords: Portal) -> None:
    for name, password in (
        ("admin", "wrong-password"),
        ("no-such", "correct-horse-battery"),
        ("proxied", "None"),
        ("", ""),
        ("%", "x"),
    ):
        client = with_passwords.client()
        got = enter(client, name, password)
        assert got.status_code == 403, name
        assert "The name or the password is wrong" in got.text
        assert client.get("/").status_code == 303
    client = with_passwords.client()
    client.get("/login")
    forged = client.post("/login", data={"name": "admin", "password": "correct-horse-battery", "token": "0" * 64})
    assert forged.status_code == 400, "a form of another site"
    assert client.get("/").status_code == 303


def test_guesses_are_slowed_down(demo: Demo, with_passwords: Portal) -> None:
    clock = [0.0]
    with_passwords.site.guesses = Guesses(lambda: clock[0])
    client = with_passwords.client()
    told = [enter(client, "admin", "wrong").status_code for _ in range(7)]
    assert told == [403] * 5 + [429] * 2
    right = enter(client, "admin", "correct-horse-battery")
    assert right.status_code == 429, "nor is the right one looked at meanwhile"
    assert int(right.headers["Retry-After"]) >= 1
    clock[0] = 400.0
    assert enter(client, "admin", "correct-horse-battery").status_code == 303


def test_few_wait_for_their_password_to_be_looked_at(with_passwords: Portal) -> None:
    """Each of them has a thread of the server: with more, everybody would wait."""
    told: list[int] = []

    def one() -> None:
        told.append(enter(with_passwords.client(), "admin", "correct-horse-battery").status_code)

    threads = [threading.Thread(target=one) for _ in range(5)]
    with login.HASHING:
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while len(told) < 2 and time.monotonic() - began < 3:
            time.sleep(0.01)
        assert told == [429] * 2
    for thread in threads:
        thread.join()
    assert told == [429] * 2 + [303] * 3
    assert with_passwords.site.guesses.wait_s("admin") == 0.0, "who was sent away has not guessed"


@pytest.mark.parametrize(
    "next_", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "\\\\x", "", "/\nX: y"]
)
def test_a_login_leads_nowhere_else(with_passwords: Portal, next_: str) -> None:
    client = with_passwords.client()
    page = client.get("/login", query_string={"next": next_})
    assert re.findall(r'name="next" value="([^"]*)"', page.text) == ["/"]


def test_with_https_cookies_are_sent_by_that_alone(demo: Demo) -> None:
    served = Portal.of(demo, https=True)
    try:
        got = served.client().get("/login", base_url="https://portal.example.org")
        assert got.headers["Set-Cookie"].startswith("__Host-portal-form=")
        assert "Secure" in got.headers["Set-Cookie"]
        assert got.headers["Strict-Transport-Security"]
    finally:
        served.close()


# --- a proxy ---------------------------------------------------------------------------------------------------------------------

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def proxied(demo: Demo) -> Iterator[Portal]:
    path = demo.folder / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    served = Portal.of(demo, login="proxy", secret_file=path)
    yield served
    served.close()


def as_proxy(
    portal: Portal, name: str, secret: str | None = SECRET, address: str = "/explore.json?by=user&period=-365d"
) -> tuple[int, str]:
    headers = {"X-Remote-User": name} | ({} if secret is None else {SECRET_HEADER: secret})
    got = portal.app.test_client().get(address, headers=headers)
    return got.status_code, got.text


def test_a_proxy_is_believed_with_the_secret_alone(proxied: Portal) -> None:
    assert as_proxy(proxied, "admin")[0] == 200
    for secret in (None, "", "wrong", SECRET[:-1], f"{SECRET} ", "é"):
        assert as_proxy(proxied, "admin", secret)[0] == 403


@pytest.mark.parametrize("name", ["", "%", "a%", "no-such", "admin,anna", "admin, anna", "(unknown)", "../admin", "0", "x" * 200])
def test_who_a_proxy_may_not_name(proxied: Portal, name: str) -> None:
    status, text = as_proxy(proxied, name)
    assert status == 403
    assert "rows" not in text


def test_others_are_users_if_the_site_says_so(demo: Demo, proxied: Portal) -> None:
    path = demo.folder / "secret"
    served = Portal.of(demo, login="proxy", secret_file=path, others="user")
    try:
        assert "elin" in as_proxy(served, "elin")[1]
        assert as_proxy(served, "%")[0] == 403
        assert as_proxy(served, "elin", address="/health")[0] == 403
        assert as_proxy(served, "elin", address="/login")[0] == 303, "there is no password to be guessed"
        assert served.app.test_client().post("/login", data={"name": "admin"}).headers["Location"] == "/"
    finally:
        served.close()


def test_without_a_proxy_its_headers_mean_nothing(portal: Portal) -> None:
    headers = {"X-Remote-User": "admin", SECRET_HEADER: SECRET, "X-Forwarded-User": "admin"}
    assert portal.client().get("/health", headers=headers).status_code == 303
    assert portal.client("anna").get("/health", headers=headers).status_code == 403


def test_what_a_portal_refuses_to_start_with(demo: Demo) -> None:
    folder = demo.folder
    (folder / "open").write_text(SECRET)
    (folder / "open").chmod(0o644)
    (folder / "short").write_text("short")
    (folder / "short").chmod(0o600)
    for keys, told in (
        ({"login": "proxy"}, "secret_file"),
        ({"login": "proxy", "secret_file": folder / "open"}, "may be read by everybody"),
        ({"login": "proxy", "secret_file": folder / "short"}, "24 ASCII characters"),
        ({"address": "0.0.0.0:80"}, "in the clear"),
    ):
        with pytest.raises(ConfigError, match=told):
            secret_of(demo.config(**keys).portal)
    assert secret_of(demo.config(login="proxy", address=str(folder / "socket")).portal) is None
    store = Portal.of(demo).site.desk.store
    with pytest.raises(ConfigError, match="portal passwd"):
        Site.of(store, demo.config(accounts_file=folder / "none"))
    path = folder / "open-accounts"
    write_accounts(path, {"admin": Account(Role.ADMINISTRATOR)})
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod o-r"):
        Site.of(store, demo.config(accounts_file=path))
    store.close()


def test_accounts_are_read_anew_and_one_that_is_gone_is_let_in_no_further(demo: Demo) -> None:
    path = demo.folder / "changing"
    write_accounts(path, {"admin": Account(Role.ADMINISTRATOR), "other": Account(Role.ADMINISTRATOR)})
    served = Portal.of(demo, accounts_file=path)
    try:
        client = served.client("other")
        assert client.get("/health").status_code == 200
        write_accounts(path, {"admin": Account(Role.ADMINISTRATOR)})
        assert client.get("/health").status_code == 303
        write_accounts(path, {"admin": Account(Role.ADMINISTRATOR), "other": Account(Role.ADMINISTRATOR)})
        assert client.get("/health").status_code == 303, "a session that has ended does not come back"
        client = served.client("admin")
        path.write_text("{")
        got = client.get("/jobs")
        assert got.status_code == 503
        assert str(path) not in got.text
    finally:
        served.close()


@pytest.mark.parametrize("after", [Account(Role.USER, "hash"), Account(Role.OFFICER, "another")])
def test_a_session_ends_with_the_password_and_the_role_it_was_made_with(demo: Demo, after: Account) -> None:
    path = demo.folder / "another"
    write_accounts(path, {"admin": Account(Role.ADMINISTRATOR), "other": Account(Role.OFFICER, "hash")})
    served = Portal.of(demo, accounts_file=path)
    try:
        client = served.client("other")
        assert client.get("/jobs").status_code == 200
        write_accounts(path, {"admin": Account(Role.ADMINISTRATOR), "other": after})
        assert client.get("/jobs").status_code == 303
        assert served.client("other").get("/jobs").status_code == 200
    finally:
        served.close()


def test_names_that_could_be_others() -> None:
    assert is_name("anna")
    assert is_name("a.b@example.org")
    assert not any(map(is_name, ("", "%", "an%a", "a,b", "a b", "(unknown)", "1000", "a\n", "é", "x" * 101)))
    assert is_identity("/DC=ch/CN=Ada Lovelace")
    assert not any(map(is_identity, ("", "%", "/CN=%", "anna", "/CN=a\x00", "(no grid identity)", "(unknown)")))


def test_an_accounts_file_with_such_names_is_refused(demo: Demo) -> None:
    path = demo.folder / "odd"
    path.write_text('{"anna": {"role": "user", "accounts": ["%"]}}')
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no name of an account"):
        read_accounts(path)


def test_logs_have_no_secrets(portal: Portal, with_passwords: Portal, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        enter(with_passwords.client(), "no-such-name", "a-password-of-mine")
        portal.get("admin", "/explore?by=vo&user=bruno")
    assert "admin GET '/explore': 200" in caplog.text
    assert not {secret for secret in ("a-password-of-mine", "no-such-name", "bruno") if secret in caplog.text}
