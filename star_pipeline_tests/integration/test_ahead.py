"""``run`` works ahead of its steps: the same tables and requests as one thing after the other, and nothing asked that could change."""

import itertools
import json
import threading
from collections import Counter

import pytest

from star_pipeline.adapters.embedder import SentenceEmbedder
from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.run import RunFailed, run_pipeline
from star_pipeline.core import tables
from star_pipeline.defs.resources import EmbedderResource, LakeResource, ProgressResource, SettingsResource
from star_pipeline_tests.benchmarks.kill_soak import differences
from star_pipeline_tests.commands.test_run import Notes
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.integration.test_experiments import answer
from star_pipeline_tests.integration.test_run_against_a_server import noise
from star_pipeline_tests.llm_server import Reply, chat_server

pytestmark = pytest.mark.slow
PATIENCE_S = 300.0
TOO_LONG = Reply(status=400, body=b'{"error": {"message": "maximum context length is 8 tokens", "code": 400}}')
LAG = 1


def settings_of(folder, server, name, lag, **changes):
    rest = {"api_base": server.url, "patience_s": 0, "timeout_s": 900}  # a reply may be held back for long
    agents = {agent: {"model": f"hosted_vllm/{agent}", **rest} for agent in "abj"}
    settings = {**CONFIG, "agents": agents, "judge": {"agent": "j"}, "evolution": {"rate": 0.8, "lag": lag}, **changes}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(settings))
    return path


def run(folder, config, name, rows, ahead):
    lake = Lake.at(folder / name)
    lake.write_bytes(lake.seeds / "seeds.json", json.dumps(rows).encode())
    fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)), ease=1.0)
    models = {role: fakes[role] for role in ("scorer", "embedder")}
    run_pipeline(str(config), lake, [], Notes(), models, ahead=ahead)
    return lake


def some_fail(asked):
    """Some questions are too long for the server, and some answers empty: the same each time they are asked."""
    kind = noise(asked["model"], asked["messages"][-1]["content"]) % 13
    return TOO_LONG if kind == 0 else "" if kind == 1 else Reply(str(answer(asked)), delay_s=0.02)


class Waits:
    """``some_fail``, whose judge answers only when ``enough`` candidates have been asked for; ``in_time``: whether that came about."""

    def __init__(self):
        self.enough, self.asked, self.reached, self.in_time = 0, 0, threading.Event(), True
        self.guard = threading.Lock()

    def __call__(self, asked):
        if asked["model"] == "j":
            self.in_time = (not self.enough or self.reached.wait(PATIENCE_S)) and self.in_time
        else:
            with self.guard:
                self.asked += bool(self.enough)
                if self.asked > self.enough:
                    self.reached.set()
        return some_fail(asked)


def questions(requests):
    return Counter(json.dumps([asked["model"], asked["messages"], asked.get("seed")]) for asked in requests)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same seeds with a lag, one thing after the other and ahead: (lakes, requests of each, the script). Shards share instructions.

    Ahead, the judge of the first shard says nothing before half of another shard's candidates have been asked for.
    """
    folder = tmp_path_factory.mktemp("ahead")
    # the same question with other answers: asked and paid once, and booked on the shard that comes first
    rows = seed_rows(8) + [{**row, "output": f"Otherwise. {row['output']}"} for row in seed_rows(4)]
    script = Waits()
    with chat_server(script) as server:
        config = settings_of(folder, server, "config", LAG)
        lakes, requests = [], []
        for name, ahead in (("after", False), ("ahead", True)):
            server.requests.clear()
            if ahead:
                script.enough = 1.5 * [asked["model"] for asked in requests[0]].index("j")
            lakes.append(run(folder, config, name, rows, ahead))
            requests.append(list(server.requests))
    return lakes, requests, script


def test_the_tables_are_the_same_and_so_is_what_each_row_has_cost(both):
    lakes, *_ = both
    assert len(lakes[0].catalog_shards()) == 3
    assert differences(*lakes) == []
    rows = [row for shard in lakes[0].catalog_shards() for row in lakes[0].read_table(tables.CANDIDATES, shard)]
    assert {row.error_kind for row in rows} >= {None, "context_too_long", "empty_reply"}


def test_the_server_sees_the_same_questions_each_as_often(both):
    _, (after, ahead), _ = both
    assert questions(ahead) == questions(after)


def test_shards_were_in_work_at_once(both):
    _, (after, _), script = both
    judging = [asked["model"] == "j" for asked in after]
    # one after the other the server is asked by turns for candidates and verdicts: twice a shard, the last one without a return
    assert sum(one != other for one, other in itertools.pairwise(judging)) == 5
    assert script.reached.is_set()
    assert script.in_time


def test_each_asset_is_materialised_by_its_own_step_in_order(both):
    import dagster as dg

    from star_pipeline.defs.jobs import LOOP
    from star_pipeline.instance import open_instance

    (_, lake), *_ = both
    with open_instance(lake) as instance:
        made = []
        for run_id in [run.run_id for run in instance.get_runs(dg.RunsFilter(job_name="process_shard"))][::-1]:
            records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
            made += [
                (found.event_log_entry.dagster_event.partition, found.event_log_entry.dagster_event.asset_key.path[-1])
                for found in records
            ]
    assert made == [(shard, name) for shard in lake.catalog_shards() for name in LOOP]


def test_what_could_still_change_is_not_asked_for_and_an_error_is_told_by_the_step_that_meets_it(tmp_path):
    """The judge's key is refused, when all else has been asked: of the next shard what every plan asks, of later ones nothing."""
    seeds = {row["instruction"] for row in seed_rows(4, offset=4)}
    asked_of_the_second, all_asked = set(), threading.Event()

    def script(asked):
        if asked["model"] == "j":
            all_asked.wait(PATIENCE_S)
            return Reply(status=401)
        asked_of_the_second.update(seeds & {asked["messages"][-1]["content"]})
        if asked_of_the_second == seeds:
            all_asked.set()
        return answer(asked)

    with chat_server(script) as server:
        config = settings_of(tmp_path, server, "config", 0)
        with pytest.raises(RunFailed, match=r"judge_verdicts: agent j: .*authentication"):
            run(tmp_path, config, "lake", seed_rows(12), ahead=True)
        lake = Lake.at(tmp_path / "lake")
        first, second, third = lake.catalog_shards()
        asked = [one for one in server.requests if one["model"] != "j"]
        texts = {
            shard: [seed.instruction for seed in lake.read_table(tables.SHARD_MANIFEST, shard)]
            for shard in lake.catalog_shards()
        }
        of = {
            shard: [one for one in asked if any(f"{text}" in one["messages"][-1]["content"] for text in texts[shard])]
            for shard in texts
        }
    assert len(of[first]) > 8
    # keep+b, the base pair, answers each seed's own instruction
    assert Counter(one["messages"][-1]["content"] for one in of[second]) == Counter(texts[second])
    assert {one["model"] for one in of[second]} == {"b"}
    assert of[third] == []
    assert lake.has_table(tables.IFD_SCORES, first)
    assert not lake.has_table(tables.SAMPLING_PLAN, second)


def test_the_first_plan_waits_for_no_embedding_model_and_one_that_cannot_be_loaded_ends_the_run_all_the_same(tmp_path):
    rows = seed_rows(4)

    class Missing(EmbedderResource):
        def embedder(self):
            return SentenceEmbedder(str(tmp_path / "nothing"))

    with chat_server(answer) as server:
        config = settings_of(tmp_path, server, "config", 0)
        lake = Lake.at(tmp_path / "lake")
        lake.write_bytes(lake.seeds / "seeds.json", json.dumps(rows).encode())
        settings = SettingsResource(config=str(config))
        home = LakeResource(root=str(lake.root))
        missing = Missing(settings=settings, lake=home, progress=ProgressResource())
        models = {"scorer": fake_resources(settings, home, ease=1.0)["scorer"], "embedder": missing}
        with pytest.raises(RunFailed, match=r"memory\.embedding .* cannot be loaded"):
            run_pipeline(str(config), lake, [], Notes(), models)
        assert not lake.shards_of(tables.SAMPLING_PLAN)
        run(tmp_path, config, "lake", rows, True)
    assert set(questions(server.requests).values()) == {1}
