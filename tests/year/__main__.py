"""`python -m tests.year`: simulates a year, and prints its ledger; exit status 1 if anything in it does not agree."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.servers import postgresql
from tests.services.brokers import ActiveMq, RabbitMq, started
from tests.year.plan import WEEKS, YEAR
from tests.year.trial import Trial, tried

BROKERS: dict[str, type[ActiveMq] | type[RabbitMq]] = {"activemq": ActiveMq, "rabbitmq": RabbitMq}


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.year", description=__doc__)
    asked.add_argument("--weeks", action="store_true", help="only the weeks that the tests go through")
    asked.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    asked.add_argument("--broker", choices=list(BROKERS), default="activemq")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--folder", type=Path, help="where everything is left behind; default: nowhere")
    asked.add_argument("--quiet", action="store_true")
    options = asked.parse_args()
    plan = WEEKS if options.weeks else YEAR
    began = time.monotonic()

    def progress(said: str) -> None:
        if not options.quiet:
            print(f"{time.monotonic() - began:6.0f} s  {said}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as temporary, started([BROKERS[options.broker]]) as (broker,):
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.database == "sqlite":
            trial = tried(plan, folder, None, broker, seed=options.seed, progress=progress)
        else:
            with postgresql() as url:
                trial = tried(plan, folder, url, broker, seed=options.seed, progress=progress)
    _show(trial, time.monotonic() - began)
    return 1 if trial.wrong else 0


def _show(trial: Trial, took_s: float) -> None:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in used)
    print(trial.ledger)
    print(f"\nIt took {took_s / 60:.1f} minutes, {cpu_s / 60:.1f} of a processor.")


if __name__ == "__main__":
    sys.exit(main())
