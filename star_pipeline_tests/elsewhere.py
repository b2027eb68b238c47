"""Another machine, as far as Dagster can tell: a host name, process numbers and a workspace of its own, by Linux namespaces."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass

from star_pipeline.instance.queue import ShardOrder

_SET_NAME = "import os, socket, sys; socket.sethostname(sys.argv[1]); os.execvp(sys.argv[2], sys.argv[2:])"


@functools.cache
def _unshare() -> tuple[str, ...] | None:
    """The command that makes the namespaces; None where the system does not let us."""
    for more in ((), ("--user", "--map-root-user")):
        command = ("unshare", *more, "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return None


def require_namespaces() -> None:
    if _unshare() is None:
        pytest.skip("this system lets us make no namespaces (unshare --uts --pid): no other machine to be had")


def on(host: str, command: Sequence[str]) -> list[str]:
    """The command line that runs another one on a machine of this name; what is killed is all of it."""
    made = _unshare()
    assert made is not None
    return [*made, sys.executable, "-c", _SET_NAME, host, *command]


def kill(*processes: psutil.Process) -> None:
    """As a machine dies: the processes and all that they started at once; returns when they are gone, but for their exit codes."""
    dying: list[psutil.Process] = []
    # stopped one by one until there is no other: what is started between a look and a kill would live on
    while found := [each for process in processes for each in _family(process) if each not in dying]:
        for each in found:
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        dying += found
    for each in dying:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    until = time.monotonic() + 120
    while left := [each for each in dying if _lives(each)]:
        assert time.monotonic() < until, f"killed, and still there: {left}"
        time.sleep(0.01)


def _family(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _lives(process: psutil.Process) -> bool:
    """Whether it may still hold a file or memory: a process is called a zombie as soon as its first thread has ended."""
    with suppress(psutil.NoSuchProcess, FileNotFoundError):
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        return len(os.listdir(f"/proc/{process.pid}/task")) > 1
    return False


class Elsewhere(RunLauncher, ConfigurableClass):
    """Starts each run on a machine of its own, and never learns what becomes of it."""

    def __init__(self, inst_data: Any = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> Any:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        host = f"machine-{run.run_id[:8]}"
        workspace = Path(os.environ["DAGSTER_HOME"]).parent / host
        workspace.mkdir()
        args = ExecuteRunArgs(
            job_origin=run.job_code_origin, run_id=run.run_id, instance_ref=self._instance.get_ref()
        ).get_command_args()
        said = (workspace / "log").open("wb")
        self._started = subprocess.Popen(
            on(host, args),
            env={
                **os.environ,
                "DAGSTER_HOME": str(workspace),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=said,
            stderr=said,
            start_new_session=True,
        )

    def terminate(self, run_id: str) -> bool:
        return False


class ShardsElsewhere(ShardOrder, Elsewhere):
    """With what our launchers add."""


def started_here(daemon: int, run_id: str) -> psutil.Process:
    """The process that the launcher in this daemon started for a run."""

    def is_it(process: psutil.Process) -> bool:
        try:
            alive = process.name() == "unshare" and process.status() != psutil.STATUS_ZOMBIE
            return alive and any(run_id in word for word in process.cmdline())
        except psutil.NoSuchProcess:  # another one, which has ended just then
            return False

    [found] = filter(is_it, psutil.Process(daemon).children())
    return found


def told(process: "subprocess.Popen[str]") -> Any:
    """The next line that the process prints, read as JSON."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())
