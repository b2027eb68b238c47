"""An evening with a real webserver and daemon: the seed sensor, a killed process, an edited file, and the data set that follows."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core import tables
from star_pipeline.defs.jobs import LOOP
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.benchmarks.kill_soak import differences
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.daemon import dagster_ui
from star_pipeline_tests.integration.test_ahead import questions
from star_pipeline_tests.llm_server import Reply, chat_server
from star_pipeline_tests.ports import free_port

FIRST = seed_rows(8)
EDITED = [{**FIRST[0], "output": "Another answer altogether."}, *FIRST[2:]]  # one edited, one deleted


def answers(asked):
    text = asked["messages"][-1]["content"]
    if "Final Verdict" in text:
        return Reply(f"Compared.\n[{'ABC'[len(text) % 3]}]", delay_s=0.1)
    return Reply(f"{asked['model']} says {text[-120:]}", delay_s=0.1)


class Held:
    """``answers``, which are kept back within ``hold``: who waits for one is in the midst of its work, however slow we are to look."""

    def __init__(self):
        self._may = threading.Event()
        self._may.set()

    def __call__(self, asked):
        self._may.wait(900)
        return answers(asked)

    @contextlib.contextmanager
    def hold(self):
        self._may.clear()
        try:
            yield
        finally:
            self._may.set()


def configuration(folder, url, **changes):
    agents = {name: {"model": f"hosted_vllm/{name}", "api_base": url, "timeout_s": 900} for name in "ab"}
    path = folder / "config.yaml"
    path.write_text(json.dumps({**CONFIG, "agents": agents, "sensor": {"settle_s": 1}, **changes}))
    return path


def put_seeds(lake, rows):
    lake.prepare()
    lake.write_bytes(lake.seeds / "seeds.json", json.dumps(rows).encode())


def snapshots(lake):
    return {shard: lake.read_table(tables.AGENT_PAIR_PROBABILITIES, shard) for shard in lake.catalog_shards()}


def undisturbed(folder, config, server):
    """The same seeds and the same edit through ``run``; returns (lake, requests for the edit)."""
    lake, settings = Lake.at(folder / "calm"), SettingsResource(config=str(config))
    fakes = fake_resources(settings, LakeResource(root=str(lake.root)), ease=1.0)
    before = 0
    for rows in (FIRST, EDITED):
        put_seeds(lake, rows)
        before = len(server.requests)
        run_pipeline(str(config), lake, [], SilentProgress(), {name: fakes[name] for name in ("scorer", "embedder")})
    return lake, len(server.requests) - before


@pytest.fixture(scope="module")
def evening(tmp_path_factory):
    """What happened: shards 1 and 2 by the sensor, the process of shard 1 killed while 2 waits behind it, then the seed file edited."""
    folder, script = tmp_path_factory.mktemp("evening"), Held()
    with chat_server(script) as server:
        config, lake = configuration(folder, server.url), Lake.at(folder / "lake")
        calm, edit = undisturbed(folder, config, server)
        put_seeds(lake, FIRST)
        with dagster_ui(lake, config, folder / "log", eager=True) as daemon:

            def shard(key):
                return [run for run in daemon.runs() if run["partition"] == key]

            def ended(run):
                return run["endTime"] is not None

            with script.hold():
                daemon.turn_on("seed_files")
                daemon.until("plan of shard 1", lambda: lake.has_table(tables.SAMPLING_PLAN, "000001-seeds"))
                daemon.until("run of shard 2", lambda: shard("000002-seeds"))
                [victim] = shard("000001-seeds")
                os.kill(daemon.process(victim["runId"]), signal.SIGKILL)
            daemon.until("shard 2", lambda: lake.has_table(tables.AGENT_PAIR_PROBABILITIES, "000002-seeds"))
            sent = len(server.requests)
            put_seeds(lake, EDITED)
            daemon.until("shard 3", lambda: any(map(ended, shard("000003-seeds"))))
            daemon.until("data set", lambda: any("star_dataset" in str(run["assetSelection"]) and run["status"] == "SUCCESS"
                                                 and run["startTime"] > max(r["endTime"] for r in shard("000003-seeds"))
                                                 for run in daemon.runs()))  # fmt: skip  # read as a table
            time.sleep(12)  # one more tick of the sensor and of the data set's
            yield {
                "lake": lake,
                "calm": calm,
                "runs": daemon.runs(),
                "victim": victim["runId"],
                "sent": len(server.requests) - sent,
                "needed": edit,
            }


@pytest.mark.slow
def test_shards_ran_in_order_though_one_process_was_killed(evening):
    shards = [run for run in evening["runs"] if run["partition"]]
    assert [(run["partition"], run["status"]) for run in shards] == [
        ("000001-seeds", "FAILURE"),
        ("000001-seeds", "SUCCESS"),
        ("000002-seeds", "SUCCESS"),
        ("000003-seeds", "SUCCESS"),
    ]
    assert shards[0]["runId"] == evening["victim"]
    for before, after in itertools.pairwise(shards):
        assert before["endTime"] <= after["startTime"]


@pytest.mark.slow
def test_the_snapshots_are_those_of_an_undisturbed_run(evening):
    assert snapshots(evening["lake"]) == snapshots(evening["calm"])


@pytest.mark.slow
def test_the_edited_record_alone_was_paid_for_and_the_deleted_one_left(evening):
    assert evening["sent"] == evening["needed"] < 15
    rows = evening["lake"].read_table(tables.STAR_DATASET)
    assert len(rows) == 7
    live = {entry.seed_id for entry in evening["lake"].catalog_rows() if entry.live}
    assert {row.seed_id for row in rows} == live
    assert rows == evening["calm"].read_table(tables.STAR_DATASET)


@pytest.mark.slow
def test_the_data_set_followed_when_the_shards_rested_and_not_before(evening):
    shards = [run for run in evening["runs"] if run["partition"]]
    for run in evening["runs"]:
        if "star_dataset" in str(run["assetSelection"]):
            assert not any(shard["startTime"] < run["startTime"] < shard["endTime"] for shard in shards)


def test_a_lake_is_served_once_also_when_the_server_has_become_another_program(tmp_path):
    code = """
import os, sys
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import hold_for_good
lake = Lake.at(sys.argv[1])
lake.prepare()
hold_for_good(lake, "star-pipeline dev at http://127.0.0.1:1")
os.execv(sys.executable, [sys.executable, "-c", "print('serving', flush=True); import time; time.sleep(600)"])
"""
    star = [
        str(Path(sys.executable).with_name("star-pipeline")),
        "dev",
        "--lake",
        str(tmp_path),
        "--port",
        str(free_port()),
    ]
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "serving\n"
        second = subprocess.run(star, capture_output=True, text=True, timeout=300)
        assert second.returncode == 1
        assert f"is served by star-pipeline dev at http://127.0.0.1:1 (process {first.pid} on" in second.stderr
        assert second.stderr.count("\n") == 1
        first.kill()
    with subprocess.Popen(star, stderr=subprocess.PIPE, text=True) as third:
        assert "the UI comes up" in third.stderr.readline()
        third.send_signal(signal.SIGTERM)
        third.communicate(timeout=300)


LAG = 2


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    """A backfill with a lag, its third shard killed while it works or waits: what happened, beside the same in one process."""
    folder = tmp_path_factory.mktemp("lag")
    rows = seed_rows(14)
    rows += [{**row, "output": f"Otherwise. {row['output']}"} for row in rows[:2]]
    script = Held()
    with chat_server(script) as server:
        config = configuration(folder, server.url, evolution={"rate": 0.8, "lag": LAG})
        calm, lake = Lake.at(folder / "calm"), Lake.at(folder / "lake")
        for each in (calm, lake):
            put_seeds(each, rows)
        fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(calm.root)), ease=1.0)
        models = {name: fakes[name] for name in ("scorer", "embedder")}
        run_pipeline(str(config), calm, [], SilentProgress(), models, ahead=False)
        needed = questions(server.requests)
        server.requests.clear()
        with dagster_ui(lake, config, folder / "log", eager=True) as daemon:
            assert daemon.finish(daemon.launch("take_in_seeds")) == "SUCCESS"

            def begun():
                found = [run for run in daemon.runs() if run["partition"] == lake.catalog_shards()[2]]
                return found and found[0]["status"] == "STARTED" and daemon.process(found[0]["runId"]) and found[0]

            with script.hold():
                backfill = daemon.backfill(LOOP, lake.catalog_shards()[::-1])
                victim = daemon.until("run of shard 3", begun)
                os.kill(daemon.process(victim["runId"]), signal.SIGKILL)
            status = daemon.finish_backfill(backfill)
            runs = [run for run in daemon.runs() if run["partition"]]
        yield {"lake": lake, "calm": calm, "runs": runs, "victim": victim, "status": status,
               "needed": needed, "asked": questions(server.requests), "log": folder / "log"}  # fmt: skip  # read as a table


@pytest.mark.slow
def test_with_a_lag_several_shards_are_in_work_at_once_and_begin_in_order(overlapping):
    runs, shards = overlapping["runs"], overlapping["lake"].catalog_shards()
    assert overlapping["status"] == "COMPLETED_SUCCESS"
    # in which order they were launched: of two processes that start together either may be the first to say so
    launched = sorted(runs, key=lambda run: run["launchTime"])
    assert list(dict.fromkeys(run["partition"] for run in launched)) == shards
    assert [run["status"] for run in runs].count("FAILURE") == 1
    spans = [(run["startTime"], run["endTime"]) for run in runs]
    most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
    assert 2 <= most <= LAG + 1
    ends = {run["partition"]: run["endTime"] for run in runs if run["status"] == "SUCCESS"}
    assert sorted(shards, key=ends.__getitem__) == shards


@pytest.mark.slow
def test_they_give_the_same_bytes_as_one_after_the_other(overlapping):
    assert differences(overlapping["calm"], overlapping["lake"], specs=tables.SHARD_TABLES) == []


@pytest.mark.slow
def test_a_question_is_asked_again_only_where_it_was_under_way_when_the_process_was_killed(overlapping):
    more = overlapping["asked"] - overlapping["needed"]
    assert overlapping["asked"].keys() == overlapping["needed"].keys()
    assert more.total() <= 2 * 16
