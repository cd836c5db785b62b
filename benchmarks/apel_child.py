"""Runs in APEL's interpreter, with a checkout of apel/apel as its only argument that is code: none of it is ours.

    python apel_child.py CHECKOUT parse lsf|blah|pbs|sge|slurm|htcondor FILE
    python apel_child.py CHECKOUT client HOST PORT USER DATABASE SITE LRMS OUTGOING CE...

Prints seconds as JSON. `client` calls what bin/client.py of APEL 2.5 calls, in its order: that program itself imports LDAP and
SSM, which nothing here needs.
"""

import importlib
import json
import sys
import time

PARSERS = {
    "blah": "BlahParser",
    "htcondor": "HTCondorParser",
    "lsf": "LSFParser",
    "pbs": "PBSParser",
    "sge": "SGEParser",
    "slurm": "SlurmParser",
}


def parse(name: str, path: str) -> dict[str, float]:
    """Their parser over the lines of a file, nothing else in the loop; lines it refuses count as parsed."""
    module = importlib.import_module(f"apel.parsers.{name}")
    parser = getattr(module, PARSERS[name])("BENCH-SITE", "lsf-master.example.org", mpi=True)
    with open(path, encoding="utf-8") as lines:  # noqa: PTH123 - as their own program opens it
        units = lines.readlines()
    refused = 0
    began, cpu_began = time.perf_counter(), time.process_time()
    for unit in units:
        try:
            parser.parse(unit)
        except Exception:  # noqa: BLE001 - as their own program does
            refused += 1
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return {"elapsed_s": elapsed_s, "cpu_s": cpu_s, "lines": len(units), "refused": refused}


def client(address: list[str], site: str, lrms: str, outgoing: str, ces: list[str]) -> dict[str, float]:
    """Joins, summarises and unloads what their parser has loaded."""
    host, port, user, name = address
    database = importlib.import_module("apel.db").ApelDb("mysql", host, int(port), user, "", name)
    unloader = importlib.import_module("apel.db.unloader").DbUnloader(database, outgoing, None, None, local=True)
    took = {}
    began = time.perf_counter()
    for ce in ces:
        database.update_spec(site, ce, "HEPSPEC", 12.5)
    database.update_spec(site, lrms, "HEPSPEC", 12.5)
    database.create_local_jobs()
    database.join_records()
    took["join_s"] = time.perf_counter() - began
    began = time.perf_counter()
    database.summarise_jobs()
    took["summarise_s"] = time.perf_counter() - began
    began = time.perf_counter()
    messages, records = unloader.unload_latest("VJobRecords")
    took["unload_s"] = time.perf_counter() - began
    return {**took, "messages": messages, "records": records}


if __name__ == "__main__":
    checkout, what, *rest = sys.argv[1:]
    sys.path.insert(0, checkout)
    told = parse(*rest) if what == "parse" else client(rest[:4], rest[4], rest[5], rest[6], rest[7:])
    print(json.dumps(told))
