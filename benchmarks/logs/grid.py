"""One job as the grid's own logs tell of it: Globus job manager, GRAM audit, VOMS accounting, LCMAPS, ARC."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from urllib.parse import quote

from benchmarks.logs.jobs import Job


def gram(job: Job, zone: tzinfo = UTC) -> bytes:
    """Four lines of the job manager's accounting log, with the times of a zone."""
    stamp = f"JMA {_time(job.submit_at, '%Y/%m/%d %H:%M:%S', zone)} GATEKEEPER_JM_ID {_jm_id(job, zone)}"
    return (
        f"{stamp} for {job.dn} on 192.0.2.{job.raw % 200}\n"
        f"{stamp} mapped to {job.user} ({job.uid}, 1008)\n"
        f"{stamp} has GRAM_SCRIPT_JOB_ID {job.raw}.pbs01 manager type pbs\n"
        f"{stamp} JM exiting\n"
    ).encode()


def gram_audit(job: Job) -> bytes:
    """A line of GRAM's audit, with a job description of usual length."""
    queued = _time(job.submit_at, "%a %b %d %H:%M:%S UTC %Y")
    description = (
        "&(&quot;rsl_substitution&quot; = (&quot;GLOBUSRUN_GASS_URL&quot; &quot;https://ce01.example.org:49512&quot; ) )"
        f"(&quot;executable&quot; = &quot;/home/{job.user}/{job.name}&quot; )(&quot;arguments&quot; = &quot;{job.raw}&quot; )"
    )
    url = f"https://ce01.example.org:49516/{job.raw}/{job.submit_at}/"
    fields = (
        url,
        f"{job.raw}.pbs01",
        job.dn,
        job.user,
        "NULL",
        queued,
        queued,
        "NULL",
        "NULL",
        "NULL",
        "5.0.3",
        "pbs",
        description,
    )
    return ",".join(f'"{field}"' for field in (*fields, "true", "true")).encode() + b"\n"


def voms_accounting(job: Job) -> bytes:
    """A record of the VOMS accounting log."""
    vo = job.fqans[0].split("/")[1]
    pool_index = quote(job.dn.lower(), safe="").lower()
    return (
        f'jid:{_jm_id(job)}.jobmanager-pbs dn:"{job.dn}" uid:{job.uid} vo0:"vomss://voms.example.org:8443/voms/{vo}" '
        f'poolindex:"{pool_index}"\n'
    ).encode()


def lcmaps(job: Job, zone: tzinfo = UTC) -> bytes:
    """Lines of syslog, with the times of a zone: two on the way, and who was mapped, with every FQAN."""
    pid = job.raw % 32_768
    at = _time(job.submit_at, "%b %e %H:%M:%S", zone)
    head = f"{at} gatekeeper l_l_gt4[{pid}]: {_jm_id(job, zone)} :"
    fqans = "".join(f'{head} LCMAPS CRED FINAL: FQAN:"{fqan}"->mapped group:1008({job.group})\n' for fqan in job.fqans)
    return (
        f"{head} lcmaps_plugin_voms-plugin_run(): voms plugin succeeded\n"
        f"{head} LCMAPS CRED FINAL: DN:\"{job.dn}\"->mapped uid:'{job.uid}',pgid:'1008'\n{fqans}"
        f"{at} gatekeeper l_l_gt4[{pid}]: Termination LCMAPS\n"
    ).encode()


def arc_joblog(job: Job, zone: tzinfo = UTC) -> bytes:
    """The two lines of a job in ARC's log, with the times of a zone; every twelfth failed, after what is quoted."""
    who = f'unix user: {job.uid}:1008, name: "{job.name}", owner: "{job.dn}"'
    common = f"job id: {job.raw}xyz, {who}, lrms: slurm, queue: {job.queue}"
    failure = "" if job.is_ok else ', failure: "Job failed with exit code 1, \\"killed\\""'
    return (
        f"{_time(job.submit_at, '%Y-%m-%d %H:%M:%S', zone)} Started - {common}\n"
        f"{_time(job.end_at, '%Y-%m-%d %H:%M:%S', zone)} Finished - {common}, lrmsid: {job.raw}{failure}\n"
    ).encode()


def arc_db(job: Job) -> bytes:
    """A line of JSON, as the feed of ARC's accounting database hands it out."""
    aar = {
        "JobID": f"{job.raw:x}LD", "LocalJobID": str(job.raw), "URL": "https://arc6.example.org:443/arex", "Queue": job.queue,
        "User": job.dn, "WLCGVO": job.fqans[0].split("/")[1], "Status": "completed" if job.is_ok else "failed",
        "SubmitTime": job.submit_at, "EndTime": job.end_at,
    }  # fmt: skip
    told = {
        "AAR": aar,
        "AuthTokenAttributes": [["vomsfqan", fqan] for fqan in job.fqans],
        "JobExtraInfo": {"lrms": "slurm", "localuser": job.user},
    }
    return json.dumps(told).encode() + b"\n"


def _jm_id(job: Job, zone: tzinfo = UTC) -> str:
    return f"{_time(job.submit_at, '%Y-%m-%d.%H:%M:%S', zone)}.{job.raw % 32_768:010d}.0000000000"


def _time(instant: int, form: str, zone: tzinfo = UTC) -> str:
    return datetime.fromtimestamp(instant, zone).strftime(form)
