"""Our batch system's log: `id;user;queue;submit;start;end;cpu`, a job a line, times in Unix seconds, CPU in seconds."""

from collections.abc import Iterator


def ourbatch(lines: Iterator[str]) -> Iterator[dict[str, object]]:
    """One line of ourbatch.log a job; lines that begin with `#` are none."""
    for line in lines:
        if not line.startswith("#"):
            job_id, user, queue, submit, start, end, cpu = line.split(";")
            yield {
                "lrms": "OurBatch",
                "lrms_job_id": job_id,
                "user_name": user,
                "queue": queue,
                "state": "completed",
                "submit_at": int(submit),
                "start_at": int(start),
                "end_at": int(end),
                "logged_at": int(end),
                "wall_duration_s": int(end) - int(start),
                "cpu_duration_s": round(float(cpu)),
                "processors": 1,
            }
