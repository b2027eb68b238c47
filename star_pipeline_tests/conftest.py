"""What several tests need: a lake run by fakes, tiny models, the public data where it is there."""

import gc
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from star_pipeline.adapters.fakes import HashEmbedder, HashScorer, ScriptedChat
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.seed_intake import SeedReading, taking_in
from star_pipeline.core.intake.seeds import SeedRules
from star_pipeline.core.ports import ChatRequest
from star_pipeline.defs.resources import (
    ChatResource,
    EmbedderResource,
    ProgressResource,
    ScorerResource,
    SettingsResource,
)
from star_pipeline_tests.postgres_server import postgres, postgres_url
from star_pipeline_tests.s3_server import bucket, s3

__all__ = ["bucket", "postgres", "postgres_url", "s3"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does
# models as small as the tests' gain nothing from a second thread, which costs a fifth more processor time, and there are other tests
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a test asks no hub: where there is no network, each name that is no model would be asked for six times, with waits of 23 s between
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# how long an example takes, and how long it takes to draw one, is the machine's affair and not the property's
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

CONFIG = {
    "name": "test",
    "agents": {"a": {"model": "hosted_vllm/a"}, "b": {"model": "hosted_vllm/b"}},
    "pairs": {"sampled": ["keep+a", "b+a", "a+b", "b+b"], "base": ["keep+b"]},
    "sampling": {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 4},
    "scoring": {"small": "s", "large": "l", "template": "plain"},
    "judge": {"agent": "b"},
    "evolution": {"rate": 0.05},
}


gc.disable()  # while modules are loaded, of which nothing can be given back


def pytest_collection_finish() -> None:
    """What is loaded by now stays, and is not gone through at every collection."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors: those with a daemon wait for a third to a half of their time."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that hold a slow test first, the one with most first of all: none is left over at the end, with one process for it."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A file of the public data; the test is skipped where it is not there (its licences forbid shipping it)."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"the public data set {name} is not beside this checkout")
        return SHARED / name

    return find


def seed_rows(count: int, offset: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"Explain topic {n} in {n % 7 + 2} sentences.",
            "input": "",
            "output": f"Topic {n} is about {n * 7} things.",
        }
        for n in range(offset, offset + count)
    ]


def say(request: ChatRequest) -> str:
    """A fake agent's or judge's reply, as a function of the request."""
    text = request.messages[-1].content
    if request.template.startswith("judge"):
        return f"Compared.\n[{'ABC'[len(text) % 3]}]"
    return f"{request.agent} on {request.template}: {text[-200:]}"


def fake_resources(
    settings: SettingsResource, lake: Any, script: Callable[[ChatRequest], Any] = say, ease: float = 0.0
) -> dict[str, Any]:
    """Resources without network and models; the tables, the memory bank and Dagster stay real.

    ``ease`` above 1 makes every gap positive (see HashScorer).
    """

    class FakeChat(ChatResource):
        def chat(self) -> Any:
            return ScriptedChat(script)

    class FakeScorer(ScorerResource):
        def small(self) -> Any:
            return HashScorer("small")

        def large(self) -> Any:
            return HashScorer("large", ease)

    class FakeEmbedder(EmbedderResource):
        def embedder(self) -> Any:
            return HashEmbedder()

    return {
        "chat": FakeChat(settings=settings, lake=lake),
        "scorer": FakeScorer(settings=settings, lake=lake, progress=ProgressResource()),
        "embedder": FakeEmbedder(settings=settings, lake=lake, progress=ProgressResource()),
    }


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(CONFIG))
    return path


def take_in(lake: Lake, paths: list[str], rules: SeedRules, say: Callable[[str], None] = print) -> list[str]:
    """The user's files into the lake, as ``run`` does it; returns the names of those that were not there."""
    with taking_in(lake, paths, say) as given:
        list(SeedReading(lake, given, rules).seeds())
    return list(given)
