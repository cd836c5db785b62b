"""The worked example of docs/explanation/benchmarks.md: its jobs, published under its configuration, have its figures."""

from __future__ import annotations

import datetime as dt
import json
import re
import tomllib
from fractions import Fraction
from pathlib import Path

from tests.pub.site import Site, a_job

PAGE = Path(__file__).parents[2] / "docs/explanation/benchmarks.md"
TEMPLATES = {"local_job_id": "{cluster}.{id}", "local_job_id_array": "{cluster}.{id}.{index}"}


def of_page() -> tuple[list[dict[str, object]], list[list[str]]]:
    """The benchmarks, and the rows of the table of jobs."""
    text = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    table = text[text.index("| cluster | hosts |") :].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return tomllib.loads(block)["benchmark"], rows


def test_the_figures_of_the_page_are_what_is_published(site: Site) -> None:
    benchmarks, rows = of_page()
    assert len(rows) == 6
    jobs = []
    for number, (cluster, hosts, factor, ended, cpu_s, *_) in enumerate(rows):
        end_at = int(dt.datetime.fromisoformat(f"{ended}+00:00").timestamp())
        columns: dict[str, object] = {
            "cluster": cluster,
            "submit_at": end_at - 50_000,
            "start_at": end_at - 40_000,
            "end_at": end_at,
            "exec_hosts": json.dumps([f"1*{host.strip()}" for host in hosts.split(",")]),
            "host_factor": float(factor) if factor else None,
            "cpu_duration_s": int(cpu_s),
        }
        jobs.append(a_job(number, queue="short", **columns))
    clusters = [{"name": "main"}, {"name": "old"}]
    levels = {}
    for form in ("apel-0.3", "apel-0.4"):
        site.emptied()
        site.configure(cluster=clusters, ce={"*": "main"}, benchmark=benchmarks, publish={**TEMPLATES, "format": form})
        site.jobs(*jobs)
        site.publish(1_800_000_000)
        site.assert_sound()
        payload = b"".join(taken.payload for taken in site.postbox.taken).decode()
        figures = dict(re.findall(r"LocalJobId: \w+\.(\d+)\n.*?ServiceLevel: (.*?)\n", payload, re.DOTALL))
        kinds = dict(re.findall(r"LocalJobId: \w+\.(\d+)\n[^%]*?ServiceLevelType: (.*?)\n", payload))
        levels[form] = [f"{kinds.get(str(n), '')} {figures[str(n)]}".strip() for n in range(len(rows))]
    assert levels["apel-0.3"] == [row[5] for row in rows]
    assert levels["apel-0.4"] == [row[6] for row in rows]
    for *_, cpu_s, of_03, _, times in rows:
        kind, figure = of_03.split()
        assert Fraction(figure) * int(cpu_s) / (250 if kind == "Si2k" else 1) == int(times)
