"""The real server and a real browser, headless Chromium: pages, drill-down, downloads, keyboard, a phone, and axe's rules."""

from __future__ import annotations

import csv
import importlib.resources
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from batchacct.store.read_only import read_only_store
from cpuhours.portal.accounts import Account, with_password, write_accounts
from cpuhours.portal.serving import Server
from cpuhours.portal.viewers import Role
from tests.portal.demo_site import ACCOUNT, PASSWORD, Demo
from tests.servers import REQUIRED

PATIENCE_S = 120.0
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1200,900")


class Browser:
    """A browser at a site; `problems` are what its console told."""

    def __init__(self, address: str, driver: webdriver.Chrome, downloads: Path) -> None:
        self.address, self.driver, self.downloads = address, driver, downloads

    def open(self, path: str) -> None:
        self.driver.get(self.address + path)

    def log_in(self, name: str) -> None:
        self.driver.delete_all_cookies()
        self.open("/login")
        self.one("#name").send_keys(name)
        self.one("#password").send_keys(PASSWORD, Keys.ENTER)
        self.wait(lambda: "Log out" in self.one("header").text)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def wait(self, until: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, PATIENCE_S, 0.05).until(lambda _: until())

    def follow(self, text: str) -> None:
        self.one("main").find_element(By.LINK_TEXT, text).click()

    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def problems(self) -> list[str]:
        told: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [f"{one['level']}: {one['message']}" for one in told if one["level"] != "INFO"]

    def violations(self) -> list[str]:
        """What axe finds wrong with the page for people who cannot see it, or use no mouse (WCAG 2.1 A and AA)."""
        axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.driver.execute_script(axe)
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
        run = "const done = arguments[1]; axe.run(document, arguments[0]).then(done, error => done({error: String(error)}))"
        found = self.driver.execute_async_script(run, rules)
        assert "violations" in found, found
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]]


@pytest.fixture(scope="module")
def address(demo: Demo) -> Iterator[str]:
    """Of the server, with passwords that can be typed."""
    path = demo.folder / "typed"
    roles = {"admin": Role.ADMINISTRATOR, "olga": Role.OFFICER, ACCOUNT: Role.USER}
    write_accounts(path, {name: with_password(Account(role), PASSWORD) for name, role in roles.items()})
    config = demo.config(accounts_file=path, address="127.0.0.1:0")
    store = read_only_store(config.database.resolved(), 60)
    server = Server.of(store, config)
    yield f"http://127.0.0.1:{server.port}"
    server.close()
    store.close()


@pytest.fixture(scope="module")
def chrome(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        told = "chromium and chromedriver are not installed: apt-get install chromium chromium-driver"
        if REQUIRED:
            pytest.fail(told)
        pytest.skip(told)
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for option in OPTIONS:
        options.add_argument(option)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(programs[1])))
    driver.set_page_load_timeout(PATIENCE_S)
    driver.set_script_timeout(PATIENCE_S)
    yield Browser(address, driver, downloads)
    driver.quit()


@pytest.fixture
def browser(chrome: Browser) -> Iterator[Browser]:
    """Of the administrator; afterwards its console has told of nothing, of a style or picture that was blocked neither."""
    chrome.log_in("admin")
    chrome.problems()
    yield chrome
    assert chrome.problems() == []
    chrome.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_from_the_overview_to_the_line_of_a_job(browser: Browser) -> None:
    browser.open("/explore?by=vo&period=last+month")
    assert browser.one("h1").text == "Usage by VO, 2026-10-01 to 2026-10-31"
    picture = browser.one(".picture img")
    browser.wait(lambda: picture.get_property("complete"))
    assert int(str(picture.get_property("naturalWidth"))) > 500, "the picture was drawn"
    browser.follow("atlas")
    assert browser.one("h1").text.startswith("Usage of VO atlas by user")
    user = browser.one("tbody a").text
    browser.follow(user)
    assert f"account {user}" in browser.one("main").text or f"user {user}" in browser.one("main").text
    number = browser.one("tbody a").text
    browser.follow(number)
    assert browser.one("h1").text.startswith(f"Job {number}")
    assert "JOB_FINISH" in browser.one(".line").text
    assert "read from" in browser.one(".story").text
    browser.one("a[href^='/message/']").click()
    assert browser.one("h1").text.startswith("Message ")


def test_the_form_asks(browser: Browser) -> None:
    browser.open("/explore")
    for name, value in (("by", "queue"), ("measure", "jobs"), ("bins", "day")):
        browser.one(f"#f-{name} option[value='{value}']").click()
    browser.one("#f-period").send_keys("yesterday")
    browser.one(".ask > button").click()
    assert browser.one("h1").text == "Usage by queue and day, 2026-10-31"
    assert {row.text.split()[0] for row in browser.all("tbody tr")[:-1]} == {"2026-10-31"}


def test_downloads_are_what_is_shown(browser: Browser) -> None:
    browser.open("/explore?by=queue&period=last+month")
    shown = {row.text.split()[0]: row.text.split()[2].replace(",", "") for row in browser.all("tbody tr")[:-1]}
    links = {link.text: link for link in browser.all(".downloads a")}
    assert set(links) == {"CSV", "JSON", "Markdown", "Parquet", "SVG", "PNG"}
    links["CSV"].click()
    path = browser.downloads / "usage-by-queue-2026-10-01-to-2026-10-31.csv"
    browser.wait(path.exists)
    with path.open(encoding="utf-8") as file:
        assert {row["queue"]: row["jobs"] for row in csv.DictReader(file)} == shown
    links["JSON"].click()
    browser.wait(path.with_suffix(".json").exists)
    rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["rows"]
    assert {row["queue"]: str(row["jobs"]) for row in rows} == shown


def test_by_keyboard_alone(browser: Browser) -> None:
    browser.open("/")
    browser.press(Keys.TAB)
    assert browser.focused().text == "Skip to the content"
    assert browser.focused().is_displayed()
    assert browser.focused().value_of_css_property("outline-style") == "solid"
    browser.press(Keys.ENTER)
    browser.press(Keys.TAB)
    assert browser.driver.execute_script("return document.activeElement.closest('main') !== null"), "the header is skipped"
    browser.open("/")
    reached = []
    for _ in range(9):
        browser.press(Keys.TAB)
        reached.append(browser.focused().text)
    assert reached[1:8] == ["DEMO-SITE", "Overview", "Explore", "Jobs", "Programs", "Groups", "Health"]
    browser.one("#job-id").send_keys("no-such-job", Keys.ENTER)
    assert "No such job was found" in browser.one("main").text
    assert [line for line in browser.problems() if "404" not in line] == []


PAGES = (
    "/",
    "/explore",
    "/explore?by=vo&bins=day&period=2026-10-30",
    "/jobs",
    "/health",
    "/ran/programs?period=-365d",
    "/job/{}",
)


def test_everybody_can_use_the_pages(browser: Browser, demo: Demo) -> None:
    """In both schemes of colours, and at the width of a phone, where tables move in themselves and the page does not."""
    job = demo.one("SELECT max(job.id) FROM job JOIN process ON process.join_id = job.join_id WHERE job.user_name = 'anna'")
    found: dict[tuple[str, str, str], bool] = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for page in PAGES if scheme == "light" else PAGES[:2]:
            browser.open(page.format(job))
            found |= {(scheme, page, one): True for one in browser.violations()}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    for page in PAGES:
        browser.open(page.format(job))
        width = browser.driver.execute_script("return document.documentElement.scrollWidth")
        found |= {("phone", page, f"{width} wide"): True for _ in range(width > PHONE["width"])}
    assert list(found) == []


def test_a_user_and_an_officer(browser: Browser) -> None:
    browser.log_in(ACCOUNT)
    assert browser.one("h1").text == "Your jobs"
    assert "Health" not in browser.one("header").text
    assert {row.find_elements(By.TAG_NAME, "td")[1].text for row in browser.all("tbody tr") if "atlas001" in row.text} == {ACCOUNT}
    browser.log_in("olga")
    assert "Programs" not in browser.one("header").text
    browser.open("/explore")
    assert "user" not in [option.text for option in browser.all("#f-by option")]
    assert browser.violations() == []


def test_logging_out(browser: Browser) -> None:
    browser.one(".who button").click()
    browser.wait(lambda: browser.driver.current_url.endswith("/login"))
    assert browser.violations() == []
    browser.driver.back()
    began = time.monotonic()
    browser.wait(lambda: "/login" in browser.driver.current_url or time.monotonic() > began + 2)
    browser.open("/jobs")
    assert "/login?next=" in browser.driver.current_url, "nothing is shown any more"
