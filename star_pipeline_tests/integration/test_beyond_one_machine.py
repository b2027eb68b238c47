"""Runs whose journal and lock are in a real PostgreSQL, which goes away in their midst: real calls, Dagster, tables; fake models."""

import json
from collections import Counter

import pytest

from star_pipeline.adapters.journal.opening import read_spend
from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.cli import app
from star_pipeline.commands.run import run_pipeline
from star_pipeline.commands.storage import storage_trouble
from star_pipeline.config import load_config
from star_pipeline.core import tables
from star_pipeline.core.errors import StarError
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.llm_server import chat_server


class Side:
    """A lake and its configuration. ``at_request`` names a request (the how-manieth) at which ``then`` is called."""

    def __init__(self, folder, database, monkeypatch):
        monkeypatch.setenv("STAR_DATABASE", database)
        self.folder, self.asked = folder, Counter()
        self.at_request, self.then = 0, lambda: None

    def answer(self, asked):
        self.asked[json.dumps([asked["model"], asked["messages"]])] += 1
        if self.asked.total() == self.at_request:
            self.then()
        text = asked["messages"][-1]["content"]
        return "Both are fine.\n[A]" if "[Final Verdict]" in text else f"{asked['model']} on {text[-80:]}"

    def run(self, name, server, journal, **changes):
        agent = {"api_base": server.url, "params": {"max_tokens": 100}, "input_cost_per_token": 1e-6}
        agents = {one: {"model": f"hosted_vllm/{one}", "output_cost_per_token": 2e-6, **agent} for one in "ab"}
        config, lake = self.folder / f"{name}.yaml", self.lake(name)
        config.write_text(json.dumps({**CONFIG, "agents": agents, "journal": journal, **changes}))
        (self.folder / "seeds.json").write_text(json.dumps(seed_rows(4)))
        fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)), ease=2.0)
        del fakes["chat"]
        run_pipeline(str(config), lake, [str(self.folder / "seeds.json")], SilentProgress(), fakes)
        return config

    def lake(self, name):
        return Lake.at(self.folder / name)

    def contents(self, name):
        lake = self.lake(name)
        shards = [(spec, shard) for spec in tables.SHARD_TABLES for shard in lake.shards_of(spec)]
        return {(spec.name, shard): content_hash(lake.read_arrow(spec, shard)) for spec, shard in shards}


@pytest.fixture
def side(tmp_path, postgres_url, monkeypatch):
    return Side(tmp_path, postgres_url, monkeypatch)


SHARED = {"postgres_env": "STAR_DATABASE"}


@pytest.mark.slow
def test_a_server_that_goes_away_in_mid_run_is_one_line_and_nothing_is_paid_twice(side, postgres):
    with chat_server(side.answer) as server:
        side.at_request, side.then = 12, postgres.kill
        with pytest.raises(Exception, match=r".") as told:  # ours, or Dagster's, whose storage is there as well
            side.run("lake", server, SHARED)
        line = str(told.value) if isinstance(told.value, StarError) else storage_trouble(told.value)
        assert "\n" not in line
        assert "run the same command to go on" in line
        postgres.start()
        config = side.run("lake", server, SHARED)
        assert set(side.asked.values()) == {1}
        spend = read_spend(load_config(str(config)), side.lake("lake"))
        assert sum(row.replies for row in spend) == side.asked.total()
        side.at_request = 0
        side.run("local", server, None)
        assert side.contents("lake") == side.contents("local")


def test_doctor_tells_what_the_database_holds_and_what_is_wrong_with_it(side, monkeypatch, capsys):
    lake = side.lake("lake")
    config = side.folder / "config.yaml"
    config.write_text(json.dumps({**CONFIG, "journal": SHARED}))

    def told():
        app(["doctor", "--config", str(config), "--lake", str(lake.root)], standalone_mode=False)
        return [line for line in capsys.readouterr().out.splitlines() if " journal: " in line]

    [well] = told()
    assert "fine" in well
    assert "($STAR_DATABASE): 0 replies; this lake spent 0.0000 USD" in well
    monkeypatch.delenv("STAR_DATABASE")
    [wrong] = told()
    assert "wrong" in wrong
    assert "STAR_DATABASE is not set" in wrong
