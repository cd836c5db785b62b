"""What of a changed configuration a daemon that runs takes over: all but what its files, sockets and rows are made of."""

from __future__ import annotations

from procacct.node.config import NodeConfig

FOR_THE_START: dict[str, tuple[str, ...]] = {
    "": ("host", "cluster", "state", "prometheus_file"),
    "spool": ("path",),
    "events": ("use", "buffer_bytes"),
    "taskstats": ("use", "buffer_bytes"),
    "sensor": ("socket", "policy", "buffer_bytes"),
    "control": ("socket",),
}
"""Keys that hold from start to end, by table."""


def merged(running: NodeConfig, changed: NodeConfig) -> tuple[NodeConfig, list[str]]:
    """The changed configuration with the running one's keys that hold until the end; those of them that were changed."""
    new: dict[str, object] = {}
    waiting: list[str] = []
    for table, names in FOR_THE_START.items():
        before, after = (getattr(running, table), getattr(changed, table)) if table else (running, changed)
        kept = {name: getattr(before, name) for name in names if getattr(before, name) != getattr(after, name)}
        waiting += [f"[{table}] {name}" if table else name for name in kept]
        new |= {table: after.model_copy(update=kept)} if table else kept
    return changed.model_copy(update=new), waiting
