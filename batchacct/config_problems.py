"""What is wrong with a configuration on this host: plug-ins, logs, secrets, certificates. The database is not asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from batchacct.config import Config
from batchacct.feeding import feed
from batchacct.httpd import server_context, token_of
from batchacct.names_policy import Policy
from batchacct.options import opened_transport
from batchacct.parsing import registry
from batchacct.parsing.reading import expand, open_stream


def config_problems(config: Config) -> Iterator[str]:
    """A sentence for each thing, for this process's user: each log is opened, each plug-in loaded, each secret read."""
    yield from _of_sources(config)
    yield from _of_destinations(config)
    if config.vo.file and not config.vo.file.is_file():
        yield f"[vo] file {config.vo.file} does not exist"
    yield from _tried(Policy.of, config)
    yield from _tried(token_of, config.serve)
    if config.serve.certificate is not None:
        yield from _tried(server_context, config.serve.certificate, config.serve.certificate_key)
    if not config.benchmark:
        yield "no [[benchmark]]: every job would be excluded from publishing"


def _of_sources(config: Config) -> Iterator[str]:
    for source in config.source:
        yield from _tried(registry.parser, source.parser)
        if source.feed is not None:
            yield from _tried(feed, source.feed, config.parser_source(source), source.paths, source.feed_options)
        paths = expand(source.paths)
        if source.paths and not paths:
            yield f"source {source.name}: no file matches {', '.join(source.paths)}"
        for path in paths:
            yield from _tried(_open, path)


def _of_destinations(config: Config) -> Iterator[str]:
    for one in config.destinations:
        yield from _tried(registry.load, registry.FORMATS, one.format)
        yield from _tried(opened_transport, config, one)
        if one.path.exists() and not one.path.is_dir():
            where = f"destination {one.name}:" if config.destination else "[publish]"
            yield f"{where} path {one.path} is no folder"


def _tried(attempt: Callable[..., object], *args: object) -> Iterator[str]:
    """What an attempt says if it fails."""
    try:
        attempt(*args)
    except Exception as error:  # noqa: BLE001 - whatever it is, the person who asked for a check wants to read it
        yield str(error)


def _open(path: str) -> None:
    with open_stream(path):
        pass
