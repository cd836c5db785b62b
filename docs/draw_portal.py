"""Draws docs/gallery/portal: `python -m docs.draw_portal` runs the demo, serves it, and has headless Chromium take pictures."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path

import click
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import select

from batchacct.cli.main import group
from batchacct.config import load_config
from batchacct.store.read_only import read_only_store
from batchacct.store.tables import job, usage
from cpuhours.portal.accounts import Account, with_password, write_accounts
from cpuhours.portal.serving import Server
from cpuhours.portal.viewers import Role

FOLDER = Path(__file__).parent / "gallery" / "portal"
PASSWORD = "of-the-gallery-only"  # noqa: S105 - of a server that lives for seconds
COLOURS, HIGHEST = 256, 1100
VIEWS = {
    "overview": ("admin", "/", 1100),
    "explore": ("admin", "/explore?by=user&vo=atlas&period=last+month&top=5&kind=bars", 1100),
    "job": ("admin", "/job/{job}", 1100),
    "health": ("admin", "/health", 1100),
    "user-phone": ("atlas001", "/", 360),
}
"""Name of the picture, who looks, at which page, how wide the window is."""


def main() -> None:
    """Writes the pictures in place of those that are there."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "demo"
        group.main(["demo", "--folder", str(folder)], standalone_mode=False)
        accounts = folder / "accounts"
        roles = {"admin": Role.ADMINISTRATOR, "atlas001": Role.USER}
        write_accounts(accounts, {name: with_password(Account(role), PASSWORD) for name, role in roles.items()})
        path = folder / "batchacct.toml"
        portal = f'\n[portal]\naddress = "127.0.0.1:0"\naccounts_file = {json.dumps(str(accounts))}\n'
        path.write_text(path.read_text(encoding="utf-8") + portal, encoding="utf-8")
        config = load_config(path)
        store = read_only_store(config.database.resolved(), config.portal.deadline)
        server = Server.of(store, config)
        with store.reading() as connection:
            joined = select(job.c.id).join(usage, usage.c.job_id == job.c.id).where(usage.c.outcome == "joined")
            number = connection.scalar(joined.order_by(job.c.id.desc()).limit(1))
        try:
            _take(f"http://127.0.0.1:{server.port}", str(number))
        finally:
            server.close()
            store.close()
    size = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    click.echo(f"wrote {len(VIEWS)} pictures, {size / 1000:,.0f} kB", err=True)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise click.ClickException(f"{name} is not installed: apt-get install chromium chromium-driver")
    return found


def _take(address: str, number: str) -> None:
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"):
        options.add_argument(option)
    options.binary_location = _program("chromium")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_program("chromedriver")))
    FOLDER.mkdir(exist_ok=True)
    try:
        for name, (who, page, width) in VIEWS.items():
            window = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
            driver.delete_all_cookies()
            driver.get(f"{address}/login")
            driver.find_element(By.ID, "name").send_keys(who)
            driver.find_element(By.ID, "password").send_keys(PASSWORD, Keys.ENTER)
            driver.get(address + page.format(job=number))
            driver.execute_script("return Promise.all([...document.images].map(one => one.decode()))")
            height = min(int(driver.execute_script("return document.documentElement.scrollHeight")), HIGHEST)
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window | {"height": height})
            with Image.open(io.BytesIO(driver.get_screenshot_as_png())) as taken:
                small = taken.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
                small.save(FOLDER / f"{name}.png", optimize=True)
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
