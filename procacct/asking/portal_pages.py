"""What the portal shows of processes: programs, libraries and more; groups of processes and what they cost, as ELSA's pages did."""

from __future__ import annotations

from sqlalchemy import Connection

from batchacct.config import Config
from batchacct.errors import IncompleteError
from batchacct.portal_pages import Asked, Cell, Choice, Sheet
from batchacct.store import Store
from procacct.asking import accounting_question, accounting_shown, asked
from procacct.asking.accounting_store import sums_of_store, who_told
from procacct.asking.accounting_sums import COLUMNS
from procacct.asking.applications import Applications
from procacct.asking.coverage import notes
from procacct.asking.places import answered
from procacct.asking.runs import runs_of_processes
from procacct.asking.top import BY, top
from procacct.asking.top_command import answer
from procacct.asking.top_rows import SORTS, TopRow, ordered

_SHOWN_AS = {"vo": "VO", "group": "group of processes"}
_PURGED = "Records of some months of this time were purged from the archive: what ran in them is in no figure."


class Programs:
    """What ran most, by program, application, library, module and so on."""

    title = "Programs"
    doc = "What ran inside the jobs. A process counts as a whole when it ended; by library, module and group rows overlap."

    def choices(self, accounts: tuple[str, ...] | None) -> list[Choice]:
        by = {name: _SHOWN_AS.get(name, name) for name in BY if accounts is None or name != "user"}
        sorts = {"cpu": "CPU time", "executions": "executions", "elapsed": "elapsed time", "jobs": "jobs", "users": "users"}
        return [
            Choice("by", "Sum by", by, "program"),
            Choice("sort", "Most of", {name: sorts[name] for name in SORTS}, "cpu"),
            Choice("vo", "VO"),
            *_user(accounts),
        ]

    def sheet(self, store: Store, config: Config, asked_for: Asked) -> Sheet:
        chosen = asked_for.chosen

        def question(connection: Connection, which: asked.Asked) -> tuple[list[TopRow], list[str]]:
            runs = runs_of_processes(connection, which.logged)
            rows = ordered(top(connection, which, chosen["by"], runs, Applications(config.application)), chosen["sort"])
            return rows, notes(connection, which, runs) if asked_for.accounts is None else []  # hosts and losses are others' too

        user = _whose(asked_for)
        period = (f"@{asked_for.begin}", f"@{asked_for.end}")
        vo = (chosen["vo"],) if chosen["vo"] else ()
        (rows, told), which, purged = answered(store, *period, question, vo=vo, cluster=None, user=user)
        gone = purged if asked_for.accounts is None else [_PURGED] * bool(purged)
        found = answer(which, chosen["by"], rows, asked_for.limit, [*told, *gone])
        kept = [note for note in found.notes if "--limit" not in note]
        values: list[dict[str, Cell]] = [
            {name: value if isinstance(value, str | int | float) else None for name, value in row.items()} for row in found.values
        ]
        return Sheet(found.title, found.columns, found.rows, values, kept, max(len(rows) - asked_for.limit, 0))


class Groups:
    """What processes used, by group of processes, command, account, host and so on."""

    title = "Groups"
    doc = (
        "What processes used, in jobs or not: by the groups that `jobmng` or a rule put them in, by command, account, host. "
        "Each counts as a whole when it ended."
    )

    def choices(self, accounts: tuple[str, ...] | None) -> list[Choice]:
        by = {name: _SHOWN_AS.get(name, name) for name in accounting_question.SUMMED_BY if accounts is None or name != "user"}
        return [Choice("by", "Sum by", by, "group"), *_user(accounts)]

    def sheet(self, store: Store, config: Config, asked_for: Asked) -> Sheet:
        del config
        by, user = asked_for.chosen["by"], _whose(asked_for)
        question = accounting_question.Question(asked_for.begin, asked_for.end, () if user is None else (user,))
        with store.reading() as connection:
            totals = accounting_shown.named_totals(sums_of_store(connection, question, by), by, numeric=False)
            told = accounting_shown.notes_of_store(who_told(connection, question), by) if asked_for.accounts is None else ()
        found = accounting_shown.Answer(by, question, totals, told)
        if not found.rows:
            raise IncompleteError("there is nothing to tell: no process of this time is known")
        columns, rows = accounting_shown.table_of(found)
        values: list[dict[str, Cell]] = [{by: name} | dict(zip(COLUMNS, numbers, strict=True)) for name, numbers in found.rows]
        limit = asked_for.limit
        left = max(len(rows) - limit, 0)
        return Sheet(f"Processes by {_SHOWN_AS.get(by, by)}", columns, rows[:limit], values[:limit], list(told), left)


def _user(accounts: tuple[str, ...] | None) -> list[Choice]:
    """The account to choose: any, or one of the own if there are several."""
    if accounts is None:
        return [Choice("user", "Account")]
    return [Choice("user", "Account", {name: name for name in accounts}, accounts[0])] if len(accounts) > 1 else []


def _whose(asked_for: Asked) -> str | None:
    """The account whose processes are told of; None: everybody's.  Raises: IncompleteError for who has none."""
    chosen = asked_for.chosen.get("user", "")
    if asked_for.accounts is None:
        return chosen or None
    if not asked_for.accounts:
        raise IncompleteError("there is nothing to tell: processes are known by account, and you have none here")
    return chosen if chosen in asked_for.accounts else asked_for.accounts[0]


PROGRAMS, GROUPS = Programs(), Groups()
