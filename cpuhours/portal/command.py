"""`batchacct portal`: the web site, and the accounts that may look at it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import click

from batchacct.cli.common import config_option, emit_table
from batchacct.config import Config, default_path, load_config
from batchacct.errors import ConfigError
from batchacct.scripts import start_logging
from batchacct.signals import Signals
from cpuhours.portal.viewers import Role

ROLES = [str(role) for role in Role]


@click.group(invoke_without_command=True)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: $BATCHACCT_CONFIG, else /etc/batchacct/batchacct.toml]",
)
@click.pass_context
def portal(context: click.Context, config_path: Path | None) -> None:
    """Shows the accounting as a web site.

    Read-only, as [portal] says: see docs/how-to/portal.md. Runs in the foreground until SIGTERM; SIGHUP reads the configuration
    again. Accounts are read whenever they change.
    """
    _require_libraries()
    if context.invoked_subcommand is not None:
        if config_path is not None:
            raise ConfigError(f"--config stands behind `portal {context.invoked_subcommand}`")
        return
    from batchacct.store.read_only import read_only_store  # noqa: PLC0415 - of no use for the accounts
    from cpuhours.portal.serving import serve  # noqa: PLC0415 - of the extra [portal]

    start_logging("batchacct")
    path = (config_path or default_path()).absolute()
    config = load_config(path)
    store = read_only_store(config.database.resolved_to_read(), config.portal.deadline)
    try:
        store.check()
        with Signals() as signals:
            serve(store, config, path, signals)
    finally:
        store.close()


def _require_libraries() -> None:
    """Raises: ConfigError where the extra is not installed."""
    if missing := [name for name in ("flask", "waitress") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"the portal needs {' and '.join(missing)}: pip install 'batchacct[portal]'")


@portal.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), help="What the account may see.  [default: as it is; of a new one user]")
@click.option(
    "--account", "accounts", multiple=True, help="User: jobs of this local account are theirs; may be repeated.  [default: NAME]"
)
@click.option("--identity", "identities", multiple=True, help="User: so are those of this DN, or issuer/subject; may be repeated.")
@click.option("--no-password", is_flag=True, help="None: a proxy says who it is.")
@config_option
def passwd(
    config: Config, name: str, role: str | None, accounts: tuple[str, ...], identities: tuple[str, ...], *, no_password: bool
) -> None:
    """Makes an account, or changes it.

    The password is asked for, in a pipe it is the first line of standard input: of a new account, and where nothing else is to be
    changed. What is not given stays as it is.
    """
    from cpuhours.portal.accounts import Account, checked, read_accounts, with_password, write_accounts  # noqa: PLC0415 - as above

    path = config.portal.accounts_file
    known = read_accounts(path)
    try:
        checked(name, accounts, identities)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    is_new = name not in known
    old = known.get(name, Account(Role.USER))
    account = Account(Role(role) if role else old.role, old.password, accounts or old.accounts, identities or old.identities)
    if no_password:
        account = replace(account, password=None)
    elif is_new or account == old:
        account = with_password(account, _password())
    write_accounts(path, known | {name: account})
    click.echo(f"{'made' if is_new else 'changed'} {name}, {account.role}, in {path}")


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@portal.command()
@click.argument("name")
@config_option
def remove(config: Config, name: str) -> None:
    """Removes an account, and ends its sessions."""
    from cpuhours.portal.accounts import read_accounts, write_accounts  # noqa: PLC0415 - as above

    path = config.portal.accounts_file
    known = read_accounts(path)
    if known.pop(name, None) is None:
        raise ConfigError(f"{path} has no account {name}: `batchacct portal accounts` lists them")
    write_accounts(path, known)
    click.echo(f"removed {name} from {path}")


@portal.command("accounts")
@config_option
def list_accounts(config: Config) -> None:
    """Lists the accounts: roles, and whose jobs are theirs."""
    from cpuhours.portal.accounts import read_accounts  # noqa: PLC0415 - as above

    known = read_accounts(config.portal.accounts_file)
    rows = [
        (
            name,
            str(one.role),
            "yes" if one.password else "no",
            ", ".join(one.viewer(name, sees_names=False).accounts),
            ", ".join(one.identities),
        )
        for name, one in known.items()
    ]
    emit_table(f"Accounts in {config.portal.accounts_file}", ("name", "role", "password", "accounts", "identities"), rows)
