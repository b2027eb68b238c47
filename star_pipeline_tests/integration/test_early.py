"""What need not wait for the whole of a shard does not, and the tables are those of one thing after the other."""

import json
import threading
import time
from collections import Counter

import pytest

from star_pipeline.adapters.fakes import HashScorer
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.scoring import model_cache
from star_pipeline.commands.run import run_pipeline
from star_pipeline.defs.resources import LakeResource, ProgressResource, ScorerResource, SettingsResource
from star_pipeline_tests.benchmarks.kill_soak import differences
from star_pipeline_tests.commands.test_run import Notes
from star_pipeline_tests.completions_server import completions_server
from star_pipeline_tests.conftest import fake_resources, seed_rows
from star_pipeline_tests.integration.test_ahead import settings_of
from star_pipeline_tests.integration.test_experiments import answer
from star_pipeline_tests.integration.test_run_against_a_server import same_numerics
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.tiny_models import save_gpt_neox

pytestmark = pytest.mark.slow
ROWS = seed_rows(4)
SEEDS_AT_ONCE = 8
PATIENCE_S = 300.0
JUDGE = {"agent": "j", "skip_nonpositive_gap": False}


class Told:
    """A chat server's script that knows whether the judge has been asked; with ``waits`` one candidate's reply waits for that."""

    def __init__(self, seeds=len(ROWS)):
        self.judged, self.waits, self.in_time = threading.Event(), False, True
        self.last = seed_rows(seeds)[-1]["instruction"]

    def __call__(self, asked):
        if asked["model"] == "j":
            self.judged.set()
        elif self.waits and asked["messages"][-1]["content"] == self.last:
            self.in_time = self.judged.wait(PATIENCE_S) and self.in_time
        return answer(asked)


def small_model(folder, name="model", seed=3):
    return save_gpt_neox(folder / name, [json.dumps(row) for row in seed_rows(40)], seed=seed, hidden=32, layers=2)


def run(config, lake, scorer, ahead, rows=ROWS):
    lake.write_bytes(lake.seeds / "seeds.json", json.dumps(rows).encode())
    fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)))
    run_pipeline(str(config), lake, [], Notes(), {"embedder": fakes["embedder"], **scorer}, ahead=ahead)


def test_models_on_servers_score_and_the_judge_judges_while_candidates_are_still_made(tmp_path):
    folder, told = small_model(tmp_path), Told()
    with chat_server(told) as server, completions_server(folder, "vllm") as models:
        served = {"model": "m", "api_base": models.url, "tokenizer": str(folder)}
        large = {**served, "template": "plain", "max_concurrency": 3}
        scoring = {"small": served, "large": large, "template": "plain", "max_length": 200}
        config = settings_of(tmp_path, server, "config", 0, judge=JUDGE, scoring=scoring)
        lakes, asked = [], []
        for name, ahead in (("after", False), ("early", True)):
            told.waits = ahead
            told.judged.clear()
            models.requests.clear()
            lakes.append(Lake.at(tmp_path / name))
            run(config, lakes[-1], {}, ahead)
            asked.append(Counter(tuple(one["prompt"]) for one in models.requests if len(one["prompt"]) > 2))
    assert told.in_time
    assert asked[1] == asked[0]
    assert differences(*lakes) == []


@pytest.mark.parametrize(
    ("lag", "judge"), [(1, JUDGE), (0, JUDGE), (0, {"agent": "j"})], ids=["lag 1", "lag 0", "lag 0, some are skipped"]
)
def test_models_in_this_process_score_some_seeds_and_the_judge_judges_while_candidates_are_still_made(
    tmp_path, lag, judge
):
    """With a lag groups of seeds, which are kept; without one provisionally, and the tables have what whole shards gave."""
    small, large, told = small_model(tmp_path), small_model(tmp_path, "large", 4), Told(SEEDS_AT_ONCE + 1)
    with chat_server(told) as server:
        scoring = {"small": str(small), "large": str(large), "template": "plain", "max_length": 200}
        sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": SEEDS_AT_ONCE + 2}
        config = settings_of(tmp_path, server, "config", lag, judge=judge, scoring=scoring, sampling=sampling)
        lakes, asked = [], []
        for name, ahead in (("after", False), ("early", True)):
            told.waits = ahead
            told.judged.clear()
            server.requests.clear()
            lakes.append(Lake.at(tmp_path / name))
            if ahead:
                same_numerics(*lakes)
            run(config, lakes[-1], {}, ahead, seed_rows(SEEDS_AT_ONCE + 2))
            asked.append(Counter(json.dumps([one["model"], one["messages"]]) for one in server.requests))
    assert told.in_time
    assert asked[1] == asked[0]
    assert differences(*lakes) == []


def test_the_judge_judges_while_the_second_model_in_this_process_still_scores(tmp_path):
    told, waited = Told(), []

    class Large(HashScorer):
        """It tells of the first seed's reference and of one candidate, and does not end before the judge has been asked."""

        def losses(self, samples, kept_chars, heard=None, groups=None):
            found = super().losses(samples, kept_chars)
            if heard:
                for number, loss in enumerate(found[:2]):
                    heard(number, loss)
                waited.append(told.judged.wait(PATIENCE_S))
            return found

    with chat_server(told) as server:
        config = settings_of(tmp_path, server, "config", 0, judge=JUDGE)
        lakes = []
        for name, ahead in (("after", False), ("early", True)):
            told.judged.clear()
            lakes.append(Lake.at(tmp_path / name))

            class Scoring(ScorerResource):
                def small(self):
                    return HashScorer("small")

                def large(self):
                    return Large("large", 1.0)

            parts = {"settings": SettingsResource(config=str(config)), "progress": ProgressResource()}
            scoring = Scoring(lake=LakeResource(root=str(lakes[-1].root)), **parts)
            run(config, lakes[-1], {"scorer": scoring}, ahead)
    assert waited
    assert all(waited)
    assert differences(*lakes) == []


def test_the_first_model_in_this_process_is_loaded_while_candidates_are_made(tmp_path):
    texts, told, loaded = [json.dumps(row) for row in seed_rows(40)], Told(), []
    folders = [
        str(save_gpt_neox(tmp_path / name, texts, seed=seed, hidden=32, layers=2))
        for seed, name in enumerate(("small", "large"))
    ]

    def script(asked):
        until = time.monotonic() + PATIENCE_S
        while asked["model"] != "j" and folders[0] not in model_cache.loaded() and time.monotonic() < until:
            time.sleep(0.01)
        loaded.append(folders[0] in model_cache.loaded())
        return told(asked)

    with chat_server(script) as server:
        scoring = {"small": folders[0], "large": folders[1], "template": "plain", "max_length": 200}
        config = settings_of(tmp_path, server, "config", 0, judge=JUDGE, scoring=scoring)
        run(config, Lake.at(tmp_path / "lake"), {}, ahead=True)
    assert loaded[0]


def test_a_calibrated_gap_waits_for_the_whole_shard(tmp_path):
    """Its rank is among all candidates: what the judge is not asked about is the same as one thing after the other."""
    told = Told()
    with chat_server(told) as server:
        judge, scoring = {"agent": "j"}, {"small": "s", "large": "l", "template": "plain", "calibration": "rank"}
        config = settings_of(tmp_path, server, "config", 0, judge=judge, scoring=scoring)
        lakes, asked = [], []
        for name, ahead in (("after", False), ("early", True)):
            server.requests.clear()
            lakes.append(Lake.at(tmp_path / name))
            fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lakes[-1].root)))
            run(config, lakes[-1], {"scorer": fakes["scorer"]}, ahead)
            asked.append(Counter(json.dumps(one["messages"]) for one in server.requests))
    assert asked[1] == asked[0]
    assert differences(*lakes) == []
