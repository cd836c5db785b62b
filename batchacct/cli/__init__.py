"""The command line: `batchacct`, whose rooms add commands by entry point."""

from batchacct.cli.main import main

__all__ = ["main"]
