"""A Spark cluster of its own on this machine: a master and a worker, private, on free loopback ports, stopped by who started it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers import MissingServerError, free_port

BRIEFLY = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
"""For what runs for a minute: most of that would go into compiling it as for days."""


class SparkCluster:
    """A standalone master and one worker with two cores; `master` is what a driver connects to."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment
        self._started: list[subprocess.Popen[bytes]] = []
        self.master = f"spark://127.0.0.1:{free_port()}"

    def start(self) -> None:
        """Returns when the worker is registered."""
        port = self.master.rpartition(":")[2]
        self._begin("Master", "--host", "127.0.0.1", "--port", port, "--webui-port", 0)
        self._wait_for("master.log", "I have been elected leader")
        self._begin(
            "Worker", self.master, "--host", "127.0.0.1", "-c", 2, "-m", "2g", "--webui-port", 0, "-d", self._folder / "work"
        )
        self._wait_for("worker.log", "Successfully registered with master")

    def _begin(self, role: str, *arguments: object) -> None:
        home = _spark_home()
        command = [str(home / "bin/spark-class"), f"org.apache.spark.deploy.{role.lower()}.{role}", *map(str, arguments)]
        environment = os.environ | {
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            **self._environment,
        }
        with (self._folder / f"{role.lower()}.log").open("wb") as log:
            self._started.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
            )

    def _wait_for(self, log: str, said: str) -> None:
        deadline = time.monotonic() + 180
        while said not in (self._folder / log).read_text(errors="replace"):
            if time.monotonic() > deadline or self._started[-1].poll() is not None:
                raise RuntimeError(f"Spark does not start: {(self._folder / log).read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            process.wait(90)
        self._started.clear()


@contextmanager
def spark_cluster(environment: Mapping[str, str] | None = None) -> Iterator[SparkCluster]:
    """A running cluster, with these variables besides.  Raises: MissingServerError without Java or pyspark."""
    _spark_home()
    if shutil.which("java") is None:
        raise MissingServerError("Java is not installed: apt-get install openjdk-17-jre-headless")
    folder = Path(tempfile.mkdtemp(prefix="batchacct-spark-", dir="/tmp"))
    cluster = SparkCluster(folder, environment or {})
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _spark_home() -> Path:
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise MissingServerError("Spark is not installed: pip install 'batchacct[spark]'")
    return Path(found.origin).parent
