"""The Ray cluster: joined within a bounded time, and looked at before anything is asked of it."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from star_pipeline.config.scoring import RayConfig
from star_pipeline.core.errors import ConfigError, ModelError, in_short

_EXTRA = 'pip install "star-pipeline[ray]"'
_START = "ray start --head on one machine, ray start --address=HOST:6379 on the others and on this one"
_COMPARED = ("star-pipeline", "torch", "transformers", "sentence-transformers", "numpy")
_KNOCK_S = 3.0
_COMPUTING = ("star_pipeline.adapters.scoring", "star_pipeline.adapters.embedder")


@dataclass(frozen=True)
class Machine:
    """A node of the cluster, with all that it offers."""

    node_id: str
    name: str
    cpus: float
    gpus: float


def need_ray() -> Any:  # Any: an optional library, which is not followed
    """The module; raises ConfigError, with the command that installs it, where it is not there."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            f"scoring.engine: ray needs the package ray, which is not installed; {_EXTRA}, on every machine of the cluster"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    return ray


def join(settings: RayConfig) -> None:
    """Join the cluster, unless this process has. Raises ModelError where there is none, or it does not answer in ``wait_s``."""
    ray = need_ray()
    if ray.is_initialized():
        return
    known = _known_address(ray, settings.address)
    if ":" in known and not _listens(known):
        which = settings.address if known == settings.address else f"{settings.address} ({known})"
        raise ModelError(f"scoring.ray.address {which}: nobody answers; expected a Ray cluster's head: {_START}")
    logging.getLogger("ray").setLevel(logging.ERROR)
    given: dict[str, Any] = {"include_dashboard": False} if settings.address == "local" else {}

    def connect() -> None:
        ray.init(address=settings.address, log_to_driver=False, logging_level=logging.ERROR, **given)

    # in a thread of its own: it does not end by itself, and in the main one it takes the process's handlers of signals
    try:
        in_time = _within(settings.wait_s, connect, stay=settings.address == "local")
    except ConnectionError as error:
        raise ModelError(
            f"scoring.ray.address {settings.address}: there is no Ray cluster on this machine; start one: {_START}, or set "
            f"scoring.ray.address: local ({in_short(error, 80)})"
        ) from error
    except Exception as error:  # whatever Ray says to a cluster of another version, or that is half there
        raise ModelError(
            f"scoring.ray.address {settings.address}: the Ray cluster cannot be joined: {in_short(error)}"
        ) from error
    if not in_time:
        raise ModelError(
            f"scoring.ray.address {settings.address}: the Ray cluster does not answer within {settings.wait_s:g} s; look at it with "
            "ray status on its head, and at firewalls between"
        )
    _hush(ray)


def leave() -> None:
    """Let go of the cluster, within seconds even where it is gone."""
    import ray

    _within(15.0, ray.shutdown)


def answers() -> bool:
    """Whether the cluster's head takes a connection."""
    import ray

    return ray.is_initialized() and _listens(str(ray.get_runtime_context().gcs_address))


def machines() -> list[Machine]:
    """Those that are alive."""
    import ray

    return [
        Machine(
            node["NodeID"],
            f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, node {node['NodeID'][:8]})",
            float(node["Resources"].get("CPU", 0)),
            float(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


@dataclass(frozen=True)
class Unfit:
    """Why no replica is started on a machine: its packages differ, or it was ``silent`` when it was asked, which may pass."""

    reason: str
    silent: bool = False


def unfit(seen: Sequence[Machine], wait_s: float) -> dict[str, Unfit]:
    """The machines, by node, whose packages differ from this one's, or that do not say within ``wait_s``."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = _looking()
    asked = ray.remote(num_cpus=0, max_retries=0)(look)
    tasks = {
        machine: asked.options(scheduling_strategy=NodeAffinitySchedulingStrategy(machine.node_id, soft=False)).remote()
        for machine in seen
    }
    here = look()
    ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=wait_s)
    found = {}
    for machine, task in tasks.items():
        try:
            there = ray.get(task, timeout=0)
        except Exception as error:  # a machine that is lost meanwhile, or does not answer
            reason = (
                f"{machine.name} does not tell within {wait_s:g} s what is installed there ({type(error).__name__})"
            )
            found[machine.node_id] = Unfit(reason, silent=True)
            continue
        if there != here:
            told = [
                f"{name} {there[name] or 'missing'}, here {here[name]}" for name in here if there[name] != here[name]
            ]
            reason = f"{machine.name} has {'; '.join(told)}: install there what is here ({_EXTRA} of one version)"
            found[machine.node_id] = Unfit(reason)
    return found


def _looking() -> Callable[[], dict[str, str]]:
    """A function that travels by its content: the machine that it looks at may not have this package."""
    packages, modules = _COMPARED, _COMPUTING

    def look() -> dict[str, str]:
        import hashlib
        import importlib.util
        from importlib import metadata
        from pathlib import Path

        found = {}
        for name in packages:
            try:
                found[name] = metadata.version(name).split("+")[0]  # +cpu, +cu130: the build for a machine
            except metadata.PackageNotFoundError:
                found[name] = ""
        try:
            origins = [
                Path(spec.origin) for name in modules if (spec := importlib.util.find_spec(name)) and spec.origin
            ]
            files = [
                file
                for one in origins
                for file in (sorted(one.parent.rglob("*.py")) if one.stem == "__init__" else [one])
            ]
        except ImportError:
            files = []
        code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]
        return {**found, "the code of scoring": code if files else ""}

    return look


def _known_address(ray: Any, asked: str) -> str:
    """Where ``auto`` leads: a cluster that is gone leaves its address behind, and Ray would knock there for minutes."""
    find = getattr(ray._private.services, "get_ray_address_from_environment", None)
    if asked != "auto" or find is None:
        return asked
    try:
        return str(find("auto", None))
    except ConnectionError:
        return asked


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S):
            return True
    except OSError:
        return False


def _within(seconds: float, act: Callable[[], object], stay: bool = False) -> bool:
    """Whether ``act`` has ended in time; what it raises is raised here. An interrupt is heard while it is waited for.

    With ``stay`` its thread lives as long as this process: processes that Ray starts end with the thread that has started them.
    """
    failed: list[Exception] = []
    done = threading.Event()

    def run() -> None:
        try:
            act()
        except Exception as error:
            failed.append(error)
        done.set()
        if stay and not failed:
            threading.Event().wait()

    threading.Thread(target=run, name="ray", daemon=True).start()
    until = time.monotonic() + seconds
    while not done.is_set() and time.monotonic() < until:
        done.wait(0.2)
    if failed:
        raise failed[0]
    return done.is_set()


def _hush(ray: Any) -> None:
    """Ray prints the last log lines of a machine that is lost to the terminal, which has a progress of its own."""
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None
