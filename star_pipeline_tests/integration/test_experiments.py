"""Experiments: another configuration on another lake, with one journal for both, pays for what differs and for nothing else."""

import hashlib
import json
from collections import Counter

import pytest

from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.commands.compare import compare
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core import tables
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.commands.test_run import Notes
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.llm_server import chat_server

EXPERIMENTS = {
    "no evolution": {"evolution": {"rate": 0.0}},
    "slower evolution": {"evolution": {"rate": 0.1}},
    "no memory": {"sampling": {"from_memory": 0}},
    "uniform": {"evolution": {"rate": 0.0}, "sampling": {"from_memory": 0}},
}


# so that a few shards move the probabilities far enough to draw other pairs
_MOVING = {"evolution": {"rate": 0.8}}


def answer(asked):
    """Agents and judge at once, a pure function of the request."""
    text, model = asked["messages"][-1]["content"], asked["model"]
    chance = hashlib.sha256(f"{model}\n{text}".encode()).digest()[0]
    return f"They differ.\n[{'AAAABC'[chance % 6]}]" if "[Final Verdict]" in text else f"{model} says {text[-150:]}"


class Bench:
    """Runs configurations against one server; models are fakes, the journal, the calls, the tables and Dagster are real."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server

    def lake(self, name):
        return Lake.at(self.folder / name)

    def run(self, name, journal, **changes):
        """The requests that the server got, as texts."""
        agents = {agent: {"model": f"hosted_vllm/{agent}", "api_base": self.server.url} for agent in "ab"}
        settings = {**CONFIG, "name": name, "agents": agents, "journal": str(self.folder / journal), **_MOVING}
        for section, fields in changes.items():
            settings[section] = {**settings[section], **fields}
        config, lake = self.folder / f"{name}.yaml", self.lake(name)
        config.write_text(json.dumps(settings))
        lake.write_bytes(lake.seeds / "seeds.json", json.dumps(seed_rows(16)).encode())
        fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)), ease=1.0)
        before = len(self.server.requests)
        run_pipeline(str(config), lake, [], Notes(), {name: fakes[name] for name in ("scorer", "embedder")})
        return [json.dumps([asked["model"], asked["messages"]]) for asked in self.server.requests[before:]]

    def contents(self, name):
        lake = self.lake(name)
        shards = [(spec, shard) for spec in tables.SHARD_TABLES for shard in lake.shards_of(spec)]
        return {(spec.name, shard): content_hash(lake.read_arrow(spec, shard)) for spec, shard in shards}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with chat_server(answer) as server:
        made = Bench(tmp_path_factory.mktemp("experiments"), server)
        made.first = made.run("first", "shared")
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_with_a_shared_journal_sends_just_the_requests_that_differ(bench, experiment):
    changes, slug = EXPERIMENTS[experiment], experiment.replace(" ", "-")
    # a journal of its own for each experiment, as the first run left it: they must not help each other
    shared = bench.folder / f"shared-{slug}"
    shared.mkdir()
    for file in (bench.folder / "shared").iterdir():
        (shared / file.name).write_bytes(file.read_bytes())
    sent = bench.run(slug, shared.name, **changes)
    alone = bench.run(f"{slug}-alone", f"own-{slug}", **changes)
    assert Counter(sent) == Counter(set(alone) - set(bench.first))
    assert 0 < len(sent) < len(alone) / 2
    assert bench.contents(slug) == bench.contents(f"{slug}-alone")
    paid = {line.measure: line.values for line in compare([str(bench.lake(n).root) for n in ("first", slug)]).lines}
    assert paid["replies"] == (len(bench.first), len(sent))
    assert bench.contents(slug)["candidates", "000001-seeds"] == bench.contents("first")["candidates", "000001-seeds"]


def test_the_same_settings_on_another_lake_send_nothing(bench):
    assert bench.run("twin", "shared") == []
    assert bench.contents("twin") == bench.contents("first")
