"""What a job had: processors, hosts and GPUs, out of exec_host, exec_vnode and, where those are missing, the request.

exec_host=b372/4+b372/5+b391/0-1,5,11       Torque: slots of a host, one by one, as ranges or as a list
exec_host=c1/0*13+c2/0+h/0*0                PBS Pro: a chunk is `host/number*processors`; `*0`: see exec_vnode
exec_vnode=(v1:ncpus=4:mem=8gb)+(v1:ncpus=4+v2[0]:ncpus=4:ngpus=1)      PBS Pro: a parenthesis is a chunk
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchacct.model import join_lists, text_of
from batchacct.parsing import Reject
from loccol.pbs_line import REQUESTED, Attributes, count_of

NODES, SELECT, NODECT, NEEDNODES = (REQUESTED + name for name in (b"nodes", b"select", b"nodect", b"neednodes"))
GPU_COUNTS = tuple(REQUESTED + name for name in (b"ngpus", b"gpus", b"gpu"))
GPU_TYPE = REQUESTED + b"gpu_type"
SPECIFICATIONS = (NODES, NODECT, NEEDNODES)
"""Where Torque's `gpus=N` a node may stand; wrappers over Slurm put a whole specification into nodect."""

_ONE_SLOT = re.compile(r"/[0-9]{1,9}\+")
_SLOTS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_CHUNK = re.compile(r"[0-9]{1,9}\*([0-9]{1,9})")
_VNODE_CPUS = re.compile(rb":ncpus=([0-9]{1,9})(?![0-9])")
_VNODE_GPUS = re.compile(rb":ngpus=([0-9]{1,9})(?![0-9])")
_GPUS_A_NODE = re.compile(rb"gpus?=([0-9]{1,9})")
_GPU_TYPE = re.compile(rb":gpu_type=([^:+ ]++)")
_COUNT = re.compile(rb"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Hosts:
    """exec_host: JSON text of the column, slots, distinct hosts."""

    text: str
    slots: int
    nodes: int


def vnode_cpus(exec_vnode: bytes) -> int | None:
    """Processors of all parts of all chunks; None if none says its `ncpus`."""
    counts = _VNODE_CPUS.findall(exec_vnode)
    return sum(map(int, counts)) if counts else None


def exec_hosts(exec_host: str, exec_vnode: bytes = b"") -> Hosts:
    """Slots by host, in order of first use.  Raises: Reject."""
    stripped = _ONE_SLOT.sub("+", exec_host + "+")
    slots: dict[str, int] = Counter(stripped[:-1].split("+")) if "/" not in stripped else _slots_by_host(exec_host, exec_vnode)
    if "" in slots:
        raise Reject("exec_host: a host has no name")
    text = join_lists((count, host) for host, count in slots.items())
    return Hosts(text, sum(slots.values()), len(slots))


def _slots_by_host(exec_host: str, exec_vnode: bytes) -> dict[str, int]:
    chunks: Sequence[bytes] = exec_vnode.split(b")+(") if "*0" in exec_host else ()
    slots: dict[str, int] = {}
    for number, entry in enumerate(exec_host.split("+")):
        host, slash, which = entry.partition("/")
        count = _slots(which) if slash else 1
        if not count and number < len(chunks):
            count = vnode_cpus(chunks[number]) or 0
        slots[host] = slots.get(host, 0) + count
    return slots


def _slots(which: str) -> int:
    """`4`: one; `0-3`: four; `0-1,5`: three; `7*13`: 13.  Raises: Reject."""
    if chunk := _CHUNK.fullmatch(which):
        return int(chunk[1])
    total = 0
    for part in which.split(","):
        match = _SLOTS.fullmatch(part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise Reject("exec_host: the slots of a host are not understood")
        total += int(match[2] or match[1]) - int(match[1]) + 1
    return total


def allocation(found: Attributes) -> dict[str, object]:
    """The columns exec_hosts, processors, node_count, gpu_count, gpu_model.  Raises: Reject."""
    columns: dict[str, object] = {}
    processors = count_of(found, b"total_execution_slots")
    vnode = found.get(b"exec_vnode", b"")
    processors = processors or vnode_cpus(vnode)
    if found.get(b"exec_host"):
        hosts = exec_hosts(text_of(found[b"exec_host"]), vnode)
        columns |= {"exec_hosts": hosts.text, "node_count": hosts.nodes}
        processors = processors or hosts.slots
    elif nodes := found.get(NODES):
        columns["node_count"] = sum(count for count, _ in _node_parts(nodes)) or None
    if width := count_of(found, REQUESTED + b"mppwidth"):
        processors = width * (count_of(found, REQUESTED + b"mppdepth") or 1)
        a_node = count_of(found, REQUESTED + b"mppnppn")
        columns["node_count"] = -(-width // a_node) if a_node else None
    columns["processors"] = processors or requested_processors(found) or None
    return columns | gpus(found)


def requested_processors(found: Attributes) -> int | None:
    """What was asked for: nodes times ppn, else chunks times ncpus, else ncpus, else procs."""
    if found.get(NODES):
        return sum(count * _property(rest, b"ppn") for count, rest in _node_parts(found[NODES]))
    if found.get(SELECT):
        return sum(count * _property(rest, b"ncpus") for count, rest in _node_parts(found[SELECT]))
    return count_of(found, REQUESTED + b"ncpus") or count_of(found, REQUESTED + b"procs")


def _node_parts(specification: bytes) -> Iterable[tuple[int, list[bytes]]]:
    """`4:ppn=8:gpus=2+h1:ppn=2`: how many nodes (a named one is one), and the properties of each."""
    for part in specification.removeprefix(b"nodes=").split(b"+"):
        first, *properties = part.split(b":")
        if _COUNT.fullmatch(first):
            yield int(first), properties
        else:
            yield 1, [first, *properties]


def _property(properties: Iterable[bytes], name: bytes) -> int:
    """The number a property says; 1 if none does."""
    for one in properties:
        key, _, value = one.partition(b"=")
        if key == name and _COUNT.fullmatch(value):
            return int(value)
    return 1


def gpus(found: Attributes) -> dict[str, object]:
    """The columns gpu_count and gpu_model; nothing for a job without GPUs."""
    count = sum(map(int, _VNODE_GPUS.findall(found.get(b"exec_vnode", b""))))
    count = count or next(filter(None, (count_of(found, name) for name in GPU_COUNTS)), 0)
    count = count or next(filter(None, (_gpus_of_nodes(found.get(name, b"")) for name in SPECIFICATIONS)), 0)
    if not count:
        return {}
    model = found.get(GPU_TYPE) or b",".join(dict.fromkeys(_GPU_TYPE.findall(found.get(SELECT, b""))))
    return {"gpu_count": count, "gpu_model": text_of(model) or None}


def _gpus_of_nodes(specification: bytes) -> int:
    """`4:ppn=8:gpus=2` is 8."""
    if b"gpu" not in specification:
        return 0
    total = 0
    for count, properties in _node_parts(specification):
        total += count * next((int(m[1]) for p in properties if (m := _GPUS_A_NODE.fullmatch(p))), 0)
    return total
