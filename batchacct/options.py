"""Options of a plug-in: a table of the configuration whose keys the plug-in itself declares, as a section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from batchacct.config import Config, Destination, Section
from batchacct.config_errors import told_errors
from batchacct.errors import ConfigError, PluginError
from batchacct.parsing import registry

SectionT = TypeVar("SectionT", bound=Section)


def checked(section: type[SectionT], values: Mapping[str, object], where: str, file: Path | None = None) -> SectionT:
    """The values as a section.  Raises: ConfigError naming the file and every key that is wrong, as `where.key`."""
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        of_file = "configuration" if file is None else f"configuration {file}"
        raise ConfigError(f"{of_file}:\n{told_errors(error, section, where)}") from error


def opened_transport(config: Config, destination: Destination) -> object:
    """The transport of a destination, made with its options as the plug-in declares them; nothing is connected to yet.

    Raises: PluginError, ConfigError.
    """
    kind, options = transport_options(config, destination)
    return kind(options)


def transport_options(config: Config, destination: Destination) -> tuple[Callable[[Section], object], Section]:
    """The kind of transport a destination has, and its options.  Raises: PluginError, ConfigError."""
    kind = registry.load(registry.TRANSPORTS, destination.transport)
    section = getattr(kind, "options", None)
    if not (callable(kind) and isinstance(section, type) and issubclass(section, Section)):
        raise PluginError(f"transport {destination.transport!r} declares no options: it was written for another release")
    _require_fitting(kind, destination)
    path = {"path": destination.path} if "path" in section.model_fields else {}
    where = f"destination {destination.name}: options" if config.destination else "publish.options"
    return kind, checked(section, path | destination.options, where, config.file)


def _require_fitting(kind: object, destination: Destination) -> None:
    """A transport may name the `formats` its receiver takes, of ours: what a site's own is like it does not know.

    Raises: ConfigError for another format of ours.
    """
    takes = getattr(kind, "formats", None)
    if takes is None or destination.format in takes or not registry.is_ours(registry.FORMATS, destination.format):
        return
    raise ConfigError(
        f"destination {destination.name}: transport {destination.transport} takes no messages of format {destination.format!r}, "
        f"all would be refused: set format to {' or '.join(takes)}"
    )
