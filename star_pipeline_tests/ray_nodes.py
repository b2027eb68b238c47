"""Two Ray nodes on this machine, each with processes of its own: a real cluster, whose nodes can be lost.

    python -m star_pipeline_tests.ray_nodes

starts one, says how to join it, and ends it with Ctrl-C.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from star_pipeline_tests.elsewhere import kill

_PATIENCE_S = 300.0
_MEMORY = 80_000_000
"""Bytes of a node's object store, the least that Ray takes: batches are small."""


class RayNodes:
    """``count`` nodes of ``cpus`` CPUs, the first of which is the head."""

    def __init__(self, count: int = 2, cpus: int = 1) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        before = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
        self._cpus = cpus
        self._cluster = Cluster(initialize_head=True, head_node_args=_node(cpus))
        self.nodes: list[Any] = [self._cluster.head_node]
        for _ in range(count - 1):
            self.add(wait=False)
        self._cluster.wait_for_nodes(_PATIENCE_S)
        self._session = self._cluster.head_node.get_session_dir_path()
        signal.signal(signal.SIGTERM, before)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, environment: Mapping[str, str] | None = None, wait: bool = True) -> Any:
        """One more node; its processes have ``environment`` beside this one's."""
        kept = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self.nodes.append(self._cluster.add_node(wait=False, **_node(self._cpus)))
        finally:
            os.environ.clear()
            os.environ.update(kept)
        if wait:
            self._cluster._wait_for_node(self.nodes[-1], _PATIENCE_S)
        return self.nodes[-1]

    def kill(self, node: Any) -> None:
        """As where its machine loses power."""
        kill(psutil.Process(node.all_processes["raylet"][0].process.pid))
        self.nodes.remove(node)

    def kill_all(self) -> None:
        """The head too."""
        kill(*self._processes())

    def close(self) -> None:
        kill(*self._processes())
        shutil.rmtree(self._session, ignore_errors=True)
        left = Path("/tmp/ray/ray_current_cluster")
        with suppress(OSError):  # where others would look for a cluster
            if left.read_text().strip() == self.address:
                left.unlink()

    def _processes(self) -> list[psutil.Process]:
        ours = [one.process.pid for node in self.nodes for some in node.all_processes.values() for one in some]
        there = []
        for pid in ours:
            with suppress(psutil.NoSuchProcess):
                there.append(psutil.Process(pid))
        return there


def _node(cpus: int) -> dict[str, Any]:
    plain = {"include_dashboard": False, "include_log_monitor": False}  # processes that nobody here asks anything
    return {"num_cpus": cpus, "num_gpus": 0, "object_store_memory": _MEMORY, **plain}


@contextmanager
def ray_nodes(count: int = 2, cpus: int = 1) -> Iterator[RayNodes]:
    nodes = RayNodes(count, cpus)
    try:
        yield nodes
    finally:
        nodes.close()


if __name__ == "__main__":
    with ray_nodes() as running, suppress(KeyboardInterrupt):
        print(f"scoring: {{engine: ray, ray: {{address: '{running.address}', gpus: 0}}}}", flush=True)
        while True:
            time.sleep(1)
