"""The lake in a bucket of a real S3 server: the same tables as in a folder, through kills of the run and of the server."""

import json
import os
import signal
import threading
from collections import Counter

import duckdb
import pytest

from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.adapters.progress import LineProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core.tables import SEED_CATALOG, SHARD_TABLES, STAR_DATASET, TASK_DOMAINS
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.integration.test_run_against_a_server import (
    STARTER,
    agents_at,
    configuration,
    same_numerics,
    scripted,
)
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.program import star, started
from star_pipeline_tests.s3_server import behind, use_bucket
from star_pipeline_tests.tiny_models import save_gpt_neox

pytestmark = pytest.mark.slow
AT_ONCE = 2
"""Requests of an agent in flight: what a kill may lose."""


@pytest.fixture(scope="module")
def lakes(s3, tmp_path_factory):
    """A local lake after a run, and one in a bucket after a run that was killed, one whose store went, and one that ended."""
    folder = tmp_path_factory.mktemp("object_storage")
    rows = STARTER.read_text("utf-8").splitlines()
    save_gpt_neox(folder / "small", rows, seed=0, hidden=16, layers=1)
    save_gpt_neox(folder / "large", rows, seed=1, hidden=16, layers=1)
    (folder / "seeds.jsonl").write_text("\n".join(rows[:12]))
    said: dict[str, str] = {}
    at, act, guard = 0, None, threading.Lock()

    def when(requests, doing):
        nonlocal at, act
        with guard:
            at, act = requests, doing

    def script(asked):
        nonlocal act
        doing = None
        with guard:
            if act and len(server.requests) >= at:
                act, doing = None, act
        if doing:
            doing()
        return scripted(asked)

    with pytest.MonkeyPatch.context() as patch, chat_server(script) as server:
        bucket = use_bucket(s3, folder / "workspace", patch)
        sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 6}
        config = configuration(
            folder, server.url, sampling=sampling, agents=agents_at(server.url, max_concurrency=AT_ONCE)
        )
        seeds = ("--seeds", folder / "seeds.jsonl")
        local = star("run", "--config", config, "--lake", folder / "lake", *seeds)
        assert local.returncode == 0, local.stderr
        alone = Counter(map(_question, server.requests))
        server.requests.clear()

        same_numerics(Lake.at(folder / "lake"), Lake.at(f"{bucket}/a/lake"))
        options = ("--config", config, "--lake", f"{bucket}/a/lake")
        with started("run", *options, *seeds, stderr=-1, stdout=-1) as process:
            when(len(alone) // 4, process.kill)
            said["killed"] = process.communicate(timeout=900)[1]
        assert process.returncode == -signal.SIGKILL
        server.settle()
        in_flight = len(server.requests)
        answered = Counter(map(_question, server.requests))

        when(in_flight + len(alone) // 4, s3.kill)
        without = star("run", *options)
        said["store gone"] = without.stderr
        assert (without.returncode, act) == (1, None)
        s3.start()
        again = star("run", *options)
        assert again.returncode == 0, again.stderr
        said["again"] = again.stderr
        yield {
            "local": Lake.at(folder / "lake"),
            "shared": Lake.at(f"{bucket}/a/lake"),
            "config": config,
            "said": said,
            "asked": [_question(request) for request in server.requests],
            "of_killed": answered,
            "alone": alone,
        }


def _question(request):
    return json.dumps(request, sort_keys=True)


def test_every_table_is_the_local_runs(lakes):
    local, shared = lakes["local"], lakes["shared"]
    for spec in SHARD_TABLES:
        assert shared.shards_of(spec) == local.shards_of(spec) != []
        for shard in local.shards_of(spec):
            assert content_hash(shared.read_arrow(spec, shard)) == content_hash(local.read_arrow(spec, shard)), (
                spec.name
            )
    for spec in (SEED_CATALOG, TASK_DOMAINS, STAR_DATASET):
        assert content_hash(shared.read_arrow(spec)) == content_hash(local.read_arrow(spec)), spec.name
    assert (shared.seeds / "seeds.jsonl").read_bytes() == (local.seeds / "seeds.jsonl").read_bytes()
    assert shared.dataset_manifest.exists()


def test_the_inspection_file_and_the_report_are_the_local_ones(lakes, tmp_path):
    views = []
    for lake in (lakes["local"], lakes["shared"]):
        with duckdb.connect(lake.local_files([lake.inspection])[0], read_only=True) as database:
            names = [
                name for (name,) in database.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
            ]
            views.append({name: database.execute(f"SELECT count(*) FROM {name}").fetchone() for name in names})
            views[-1]["said"] = database.execute("SELECT made, shard, name FROM origins ORDER BY ALL").fetchall()
    assert views[0] == views[1]
    assert lakes["shared"].report.stat().st_size > 100_000


def test_a_store_that_goes_is_said_in_one_line_and_nothing_is_paid_twice(lakes):
    last = lakes["said"]["store gone"].strip().splitlines()[-1]
    assert "does not answer; start it" in last
    assert last.endswith("run the same command to go on")
    assert "Traceback" not in lakes["said"]["store gone"] + lakes["said"]["again"]
    # what the killed run had asked may have been on its way back; of all else each question was asked once
    twice = {question for question, times in Counter(lakes["asked"]).items() if times > lakes["alone"][question]}
    assert twice <= set(lakes["of_killed"])
    assert len(twice) < len(lakes["alone"]) / 4
    assert set(lakes["asked"]) == set(lakes["alone"])


def test_commands_work_on_a_lake_in_a_bucket(lakes, tmp_path):
    root, config = lakes["shared"].root, lakes["config"]
    first = star("doctor", "--lake", root, "--config", config)
    assert "makes once what is to be made once" in first.stdout, first.stdout + first.stderr
    asked = star("query", "SELECT count(*) AS n FROM star_dataset", "--lake", root, "--format", "csv")
    assert asked.stdout.split() == ["n", "12"], asked.stderr
    page = star("report", "--lake", root, "--output", tmp_path / "page.html")
    assert page.returncode == 0, page.stderr
    texts = [
        star("export", "--format", "messages", "--output", "-", "--lake", lake.root).stdout
        for lake in (lakes["local"], lakes["shared"])
    ]
    assert texts[0] == texts[1] != ""
    for command in (("replay", "--rate", "0.1"), ("estimate", "--config", config)):
        done = star(*command, "--lake", root)
        assert done.returncode == 0, done.stderr
    compared = star("compare", lakes["local"].root, root)
    assert compared.returncode == 0, compared.stderr
    idle = star("run", "--lake", root, "--config", config)
    assert idle.stdout.startswith("Nothing new"), idle.stderr
    assert f"what has to be on a disk of this machine is in {lakes['shared'].workspace}" in idle.stderr
    assert "only this machine may run the lake" in idle.stderr


def test_another_machine_is_refused_where_the_replies_are_not_in_a_database(lakes, tmp_path):
    options = ("--lake", lakes["shared"].root, "--config", lakes["config"])
    other = star("run", *options, env={**os.environ, "STAR_WORKSPACE": str(tmp_path)})
    assert other.returncode == 1
    assert "its replies are kept on" in other.stderr
    assert "Traceback" not in other.stderr


def test_places_that_are_not_on_a_disk_are_refused_where_one_is_needed(lakes, tmp_path):
    root = lakes["shared"].root
    for command in (
        ("report", "--output", "s3://bucket/page.html", "--lake", root),
        ("export", "--format", "alpaca", "--output", "s3://bucket/train.json", "--lake", root),
        ("score", tmp_path / "in.jsonl", "s3://bucket/out.parquet"),
    ):
        done = star(*command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "on a local disk" in done.stderr


def test_a_run_asks_the_store_for_each_thing_once_however_many_shards_there_are(s3, tmp_path, monkeypatch):
    asked = []

    def heard(method, path, _, reply):
        if "/memory_bank/" not in path:  # LanceDB asks as it sees fit
            asked.append((method, path))
        return reply

    bucket, config = use_bucket(s3, tmp_path / "workspace", monkeypatch), tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "sampling": {**CONFIG["sampling"], "shard_size": 2}}))
    with behind(s3, heard) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        lake = Lake.at(f"{bucket}/lake")
        settings, root = SettingsResource(config=str(config)), LakeResource(root=str(lake.root))
        counts = []
        for seeds in (4, 6):
            lake.seeds.joinpath("seeds.json").write_bytes(json.dumps(seed_rows(seeds)).encode())
            asked.clear()
            assert run_pipeline(str(config), lake, [], LineProgress(), fake_resources(settings, root)).published
            counts.append(len(asked))
        of_tables = Counter((method, path) for method, path in asked if "/tables/" in path)
        assert lake.shards_of(SHARD_TABLES[0]) == [f"{n:06d}-seeds" for n in range(1, 4)]
    # a third shard costs no more than the first two, and what was put from here is not fetched again
    assert counts[1] <= counts[0], counts
    assert counts[1] < 120, asked
    assert {method for method, _ in of_tables} == {"PUT"}, of_tables
    assert set(of_tables.values()) == {1}, of_tables
