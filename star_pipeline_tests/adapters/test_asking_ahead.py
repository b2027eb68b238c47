"""A run that waits for its turn asks for its shard's candidates, and for nothing that is not certain to be needed."""

import json
import time
from collections import Counter

import pytest

from star_pipeline.adapters.asking_ahead import asking_for_candidates
from star_pipeline.adapters.fakes import HashEmbedder
from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.run import run_pipeline
from star_pipeline.config import load_config
from star_pipeline.core.tables import CANDIDATES, SAMPLING_PLAN
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import LakeResource, SettingsResource, open_chat
from star_pipeline.instance import open_instance
from star_pipeline_tests.benchmarks.kill_soak import differences
from star_pipeline_tests.commands.test_run import Notes
from star_pipeline_tests.conftest import fake_resources, seed_rows
from star_pipeline_tests.integration.test_ahead import questions, settings_of
from star_pipeline_tests.integration.test_experiments import answer
from star_pipeline_tests.llm_server import Reply, chat_server

BOTH = (SAMPLING_PLAN.name, CANDIDATES.name)
ROWS = seed_rows(12)
ROWS[4] = {**ROWS[0], "output": "Otherwise."}
"""Shards of four; the second shares an instruction with the first."""


@pytest.fixture
def server():
    with chat_server(lambda asked: Reply(str(answer(asked)), delay_s=0.01)) as running:
        yield running


def models(config, lake):
    fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)), ease=1.0)
    return {name: fakes[name] for name in ("scorer", "embedder")}


def taken_in(folder, config):
    lake = Lake.at(folder)
    lake.prepare()
    lake.write_bytes(lake.seeds / "seeds.json", json.dumps(ROWS).encode())
    with open_instance(lake) as instance:
        job = build_defs(models(config, lake), str(config), str(lake.root)).resolve_job_def("take_in_seeds")
        assert job.execute_in_process(instance=instance).success
    return lake


def ask(lake, config, place, during=lambda: None, to_make=BOTH):
    settings, told = load_config(str(config)), []
    opened = lambda: open_chat(settings, lake, told.append)  # noqa: E731  # in the loop that it is used in
    shard = lake.catalog_shards()[place]
    with asking_for_candidates(settings, lake, shard, to_make, opened, HashEmbedder, told.append):
        during()
    assert told == []


def run(lake, config):
    run_pipeline(str(config), lake, [], Notes(), models(config, lake), ahead=False)


@pytest.mark.slow
def test_what_was_asked_is_what_the_steps_need_and_is_booked_where_it_would_have_been(tmp_path, server):
    config = settings_of(tmp_path, server, "config", lag=1)
    calm = taken_in(tmp_path / "calm", config)
    run(calm, config)
    needed = questions(server.requests)
    server.requests.clear()
    lake = taken_in(tmp_path / "lake", config)
    ask(lake, config, 2)  # its plan is drawn from the snapshot after the first shard
    assert server.requests == []
    ask(lake, config, 1)
    early = [asked["messages"][-1]["content"] for asked in server.requests]
    assert len(early) >= 6
    assert not any(ROWS[0]["instruction"] in text for text in early)
    assert not lake.has_table(SAMPLING_PLAN, lake.catalog_shards()[1])
    run(lake, config)
    assert questions(server.requests) == needed == Counter(needed.keys())
    assert differences(calm, lake) == []


def test_an_interrupt_ends_it_and_what_is_on_its_way_is_kept(tmp_path, server):
    class Stopped(BaseException): ...

    def stop():
        while not server.requests:
            time.sleep(0.01)
        raise Stopped

    server.script = lambda asked: Reply(str(answer(asked)), delay_s=0.3)
    config = settings_of(tmp_path, server, "config", lag=1)
    lake = taken_in(tmp_path / "lake", config)
    with pytest.raises(Stopped):
        ask(lake, config, 1, stop)
    ask(lake, config, 1)
    assert max(questions(server.requests).values()) == 1


@pytest.mark.parametrize("changes", [{"budget": {"usd": 5.0}}, {}])
def test_nothing_is_asked_with_a_budget_or_where_candidates_are_not_to_be_made(tmp_path, server, changes):
    config = settings_of(tmp_path, server, "config", lag=1, **changes)
    lake = taken_in(tmp_path / "lake", config)
    ask(lake, config, 1, to_make=BOTH if changes else (SAMPLING_PLAN.name,))
    assert server.requests == []
