"""Dagster's services as processes: a code server, webserver and daemon on a lake, driven over GraphQL as the UI drives them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.dev import dg_dev, environment, prepare_instance
from star_pipeline.config import load_config
from star_pipeline.instance.home import DAGSTER_YAML
from star_pipeline_tests.elsewhere import kill
from star_pipeline_tests.ports import free_port

FAKES = "star_pipeline_tests.fake_definitions"
EAGER = {"DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1"}
"""An environment in which the daemon looks every second, and not every five, for runs to try again."""


def impatient(settings: str) -> bytes:
    """Dagster's settings, with a daemon that looks for killed runs every second: a test waits for nothing else meanwhile."""
    made = yaml.safe_load(settings)
    made["run_monitoring"]["poll_interval_seconds"] = 1
    return yaml.safe_dump(made).encode()


class Service:
    """A process, and the file to which it writes what it says."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        self.log, self.name = log, log.stem
        with log.open("ab") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, **options)

    def must_live(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} has ended with code {self.process.returncode}; {self.said()}")

    def said(self) -> str:
        return f"it said last:\n{self.log.read_text('utf-8', 'replace')[-3000:]}"

    def kill(self) -> None:
        """As its machine dies, with all that it started."""
        kill(psutil.Process(self.process.pid))
        self.process.wait()


def until(
    what: str, found: Callable[[], Any], patience: float, services: Sequence[Service] = (), pause: float = 0.5
) -> Any:
    """Ask again and again until the answer is true.

    AssertionError with what they said where patience runs out or one of the services has ended.
    """
    end, trouble = time.monotonic() + patience, ""
    while time.monotonic() < end:
        for service in services:
            service.must_live()
        try:
            if answer := found():
                return answer
            trouble = ""
        except (OSError, DagsterUserCodeUnreachableError) as error:  # it does not listen yet, or is busy
            trouble = f"; last it was: {type(error).__name__}: {error}"
        time.sleep(pause)
    said = "".join(f"\n{service.name}: {service.said()}" for service in services)
    raise AssertionError(f"no {what} within {patience:.0f} s{trouble}{said}")


@contextlib.contextmanager
def code_server(
    target: Sequence[str], host: str, port: int, log: Path, patience: float = 600.0, **options: Any
) -> Iterator[Service]:
    """``dagster api grpc`` on a target such as ``-m MODULE``; the block begins when it answers, as webserver and daemon need it."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, *f"api grpc --host {host} --port {port}".split(), *target]
    server = Service(command, log, **options)
    try:
        client = DagsterGrpcClient(host=host, port=port)
        until("answer of the code server", lambda: client.ping("there"), patience, [server], 0.1)
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


class Daemon:
    """Speaks GraphQL with the webserver. Jobs and sensors go by their names; ``module`` is what was loaded."""

    def __init__(self, port: int, module: str, services: Sequence[Service] = ()) -> None:
        self.url, self.module, self.services = f"http://127.0.0.1:{port}", module, services

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as response:
            answer = json.load(response)
        assert not answer.get("errors"), answer["errors"]
        return dict(answer["data"])

    def until(self, what: str, found: Callable[[], Any], patience: float = 600.0) -> Any:
        """What ``found`` answers as soon as that is true; an AssertionError that names ``what`` where it does not become so."""
        return until(what, found, patience, self.services)

    def loaded(self) -> bool:
        """Whether every location has its definitions; one whose server was not there when it was looked at is loaded anew.

        A status of LOADED tells only that the webserver has looked, also where it met nobody.
        """
        query = """{ workspaceOrError { __typename ... on PythonError { message } ... on Workspace { locationEntries {
            name loadStatus locationOrLoadError { __typename ... on PythonError { className message } } } } } }"""
        workspace = self.ask(query)["workspaceOrError"]
        assert "locationEntries" in workspace, workspace
        found = {entry["name"]: entry["locationOrLoadError"] or {} for entry in workspace["locationEntries"]}
        for name, location in found.items():
            if location.get("className") == DagsterUserCodeUnreachableError.__name__:
                reload = "mutation($n: String!) { reloadRepositoryLocation(repositoryLocationName: $n) { __typename } }"
                self.ask(reload, n=name)
            elif location.get("__typename") == "PythonError":
                raise AssertionError(f"{name} could not be loaded: {location['className']}: {location['message']}")
        return bool(found) and all(location.get("__typename") == "RepositoryLocation" for location in found.values())

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

    def finish(self, run_id: str, patience: float = 600.0) -> str:
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

    def finish_backfill(self, backfill_id: str, patience: float = 900.0) -> str:
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
            runId jobName status startTime endTime assetSelection { path } tags { key value }
            stats { ... on RunStatsSnapshot { launchTime } } } } } }"""
        found = self.ask(query)["runsOrError"]["results"]
        for run in found:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            run["tags"], run["partition"] = tags, tags.get("dagster/partition")
            run["launchTime"] = run.pop("stats").get("launchTime")
        return sorted(found, key=lambda run: run["startTime"] or float("inf"))


@contextlib.contextmanager
def dagster_ui(
    lake: Lake, config: Path, log: Path, module: str = FAKES, command: list[str] | None = None, eager: bool = False
) -> Iterator[Daemon]:
    """Webserver and daemon on the lake while the block runs: ``command``, or what ``dev`` becomes on the definitions of ``module``.

    ``eager``: what was killed is noticed and tried again within seconds, and not as the shipped settings have it.
    """
    port = free_port()
    if eager:
        lake.prepare()
        lake.write_bytes(lake.dagster_home / "dagster.yaml", impatient(DAGSTER_YAML))
    if command is None:
        prepare_instance(lake, load_config(str(config)))
        command = dg_dev("127.0.0.1", port, module)
    else:
        command = [*command, "--port", str(port)]
    service = Service(
        command, log, env={**environment(str(config), lake), **(EAGER if eager else {})}, start_new_session=True
    )
    daemon = Daemon(port, module, [service])
    try:
        daemon.until("definitions", daemon.loaded)
        yield daemon
    finally:
        service.process.send_signal(signal.SIGTERM)
        try:
            service.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait()
