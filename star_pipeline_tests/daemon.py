"""A real webserver and daemon on a lake, driven over GraphQL as the UI drives them."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.dev import dg_dev, environment, prepare_instance
from star_pipeline.config import load_config

FAKES = "star_pipeline_tests.fake_definitions"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """Speaks GraphQL with the webserver. Jobs and sensors go by their names; ``module`` is what was loaded."""

    def __init__(self, port: int, module: str) -> None:
        self.url, self.module = f"http://127.0.0.1:{port}", module

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert not answer.get("errors"), answer["errors"]
        return dict(answer["data"])

    def until(self, what: str, found: Callable[[], Any], patience: float = 120.0) -> Any:
        """Ask again and again until the answer is true; an AssertionError that names ``what`` when patience runs out."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                answer = found()
                if answer:
                    return answer
            time.sleep(0.5)
        raise AssertionError(f"no {what} within {patience:.0f} s")

    def loaded(self) -> bool:
        query = "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }"
        entries = self.ask(query)["workspaceOrError"]["locationEntries"]
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    @property
    def _repository(self) -> dict[str, str]:
        return {"repositoryName": "__repository__", "repositoryLocationName": self.module}

    def launch(self, job: str) -> str:
        query = """mutation($p: ExecutionParams!) {
            launchRun(executionParams: $p) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
        selector = {**self._repository, "jobName": job}
        answer = self.ask(query, p={"selector": selector, "runConfigData": {}, "mode": "default"})["launchRun"]
        assert "run" in answer, answer
        return str(answer["run"]["runId"])

    def finish(self, run_id: str, patience: float = 120.0) -> str:
        """Wait until the run has ended; returns its status."""
        ended = ("SUCCESS", "FAILURE", "CANCELED")
        query = "query($r: ID!) { runOrError(runId: $r) { ... on Run { status } } }"

        def status() -> str | None:
            found = str(self.ask(query, r=run_id)["runOrError"]["status"])
            return found if found in ended else None

        return str(self.until(f"end of run {run_id}", status, patience))

    def backfill(self, assets: Sequence[str], partitions: Sequence[str]) -> str:
        query = """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
            __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
        params = {"assetSelection": [{"path": [name]} for name in assets], "partitionNames": list(partitions)}
        return str(self.ask(query, p=params)["launchPartitionBackfill"]["backfillId"])

    def finish_backfill(self, backfill_id: str, patience: float = 300.0) -> str:
        query = (
            "query($b: String!) { partitionBackfillOrError(backfillId: $b) { ... on PartitionBackfill { status } } }"
        )

        def status() -> str | None:
            found = str(self.ask(query, b=backfill_id)["partitionBackfillOrError"]["status"])
            return found if found.startswith("COMPLETED") or found in ("FAILED", "CANCELED") else None

        return str(self.until(f"end of backfill {backfill_id}", status, patience))

    def turn_on(self, sensor: str) -> None:
        query = "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }"
        answer = self.ask(query, s={**self._repository, "sensorName": sensor})
        assert answer["startSensor"]["__typename"] == "Sensor", answer

    def process(self, run_id: str) -> int | None:
        """The process that a run lives in, as Dagster notes it; None before it has begun."""
        query = """query($r: ID!) { logsForRun(runId: $r) { ... on EventConnection { events { ... on EngineEvent { message } } } } }"""
        said = " ".join(event.get("message", "") for event in self.ask(query, r=run_id)["logsForRun"]["events"])
        found = re.findall(r"Started process for run \(pid: (\d+)\)", said)
        return int(found[-1]) if found else None

    def runs(self) -> list[dict[str, Any]]:
        """All runs, oldest start first; ``partition`` is the shard or None."""
        query = """{ runsOrError { ... on Runs { results {
            runId jobName status startTime endTime assetSelection { path } tags { key value } } } } }"""
        found = self.ask(query)["runsOrError"]["results"]
        for run in found:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            run["tags"], run["partition"] = tags, tags.get("dagster/partition")
        return sorted(found, key=lambda run: run["startTime"] or float("inf"))


@contextlib.contextmanager
def dagster_ui(
    lake: Lake, config: Path, log: Path, module: str = FAKES, command: list[str] | None = None
) -> Iterator[Daemon]:
    """Webserver and daemon on the lake while the block runs: ``command``, or what ``dev`` becomes on the definitions of ``module``."""
    port = free_port()
    if command is None:
        prepare_instance(lake, load_config(str(config)))
        command = dg_dev("127.0.0.1", port, module)
    else:
        command = [*command, "--port", str(port)]
    with (
        log.open("wb") as said,
        subprocess.Popen(
            command, env=environment(str(config), lake), stdout=said, stderr=said, start_new_session=True
        ) as process,
    ):
        daemon = Daemon(port, module)
        try:
            daemon.until("definitions", daemon.loaded)
            yield daemon
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
