"""`batchacct procs`: its sub-commands, each imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

SUB_COMMANDS: dict[str, str] = {
    "jobs": "procacct.asking.recall_command:jobs_command",
    "programs": "procacct.asking.programs_command:programs_command",
    "report": "procacct.asking.accounting_report:report",
    "sensor": "procacct.sensor.command:sensor",
    "show-signature": "procacct.signing_commands:show_signature",
    "sign": "procacct.signing_commands:sign",
    "top": "procacct.asking.top_command:top_command",
    "usage-records": "procacct.asking.usage_record_command:usage_records_command",
}
"""Name to `module:attribute`."""


class _SubCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(SUB_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUB_COMMANDS:
            return None
        module, name = SUB_COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.command(cls=_SubCommands)
def procs() -> None:
    """Programs and libraries that ran inside the jobs."""
