"""Two machines, one lake: in a bucket, with journal, lock and Dagster's runs in PostgreSQL. One dies in mid-shard, the other finishes."""

import json
import os
import subprocess
import threading
from collections import Counter

import psutil
import pytest

from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.config import load_config
from star_pipeline.core.tables import SEED_CATALOG, SHARD_TABLES, STAR_DATASET, TASK_DOMAINS
from star_pipeline.instance import database_of, open_instance
from star_pipeline_tests.elsewhere import kill, on, require_namespaces
from star_pipeline_tests.integration.test_run_against_a_server import (
    STARTER,
    agents_at,
    configuration,
    same_numerics,
    scripted,
)
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.program import command, star
from star_pipeline_tests.s3_server import use_bucket
from star_pipeline_tests.tiny_models import save_gpt_neox

pytestmark = pytest.mark.slow
AT_ONCE = 2
"""Requests of an agent in flight: what a kill may lose."""


def machine(name, folder, *arguments):
    """A command on a machine of this name, with a workspace of its own."""
    environment = {**os.environ, "STAR_WORKSPACE": str(folder / name)}
    return subprocess.Popen(
        on(name, command(*arguments)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def taken_over(s3, postgres, tmp_path_factory):
    require_namespaces()
    folder = tmp_path_factory.mktemp("two_machines")
    rows = STARTER.read_text("utf-8").splitlines()
    save_gpt_neox(folder / "small", rows, seed=0, hidden=16, layers=1)
    save_gpt_neox(folder / "large", rows, seed=1, hidden=16, layers=1)
    (folder / "seeds.jsonl").write_text("\n".join(rows[:12]))
    sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 6}
    refused: list[tuple[int, str]] = []
    at, first, guard = 0, None, threading.Lock()

    def script(asked):
        nonlocal first
        dying = None
        with guard:
            if first and len(server.requests) >= at:
                dying, first = first, None
        if dying:
            second = machine("machine-b", folder, "run", *shared)
            refused.append((second.communicate(timeout=600)[1], second.returncode))
            kill(psutil.Process(dying.pid))
        return scripted(asked)

    with pytest.MonkeyPatch.context() as patch, chat_server(script) as server:
        bucket = use_bucket(s3, folder / "workspace", patch)
        patch.setenv("STAR_DATABASE", postgres.database())
        seeds = ("--seeds", folder / "seeds.jsonl")
        agents = agents_at(server.url, max_concurrency=AT_ONCE, timeout_s=900)
        local = configuration(folder, server.url, sampling=sampling, agents=agents)
        done = star("run", "--config", local, "--lake", folder / "lake", *seeds)
        assert done.returncode == 0, done.stderr
        alone = Counter(map(_question, server.requests))
        server.requests.clear()

        journal = {"postgres_env": "STAR_DATABASE"}
        config = configuration(folder, server.url, sampling=sampling, agents=agents, journal=journal)
        shared = ("--config", config, "--lake", f"{bucket}/shared/lake")
        same_numerics(Lake.at(folder / "lake"), Lake.at(f"{bucket}/shared/lake"))
        with guard:
            at = len(alone) * 5 // 8
            first = started = machine("machine-a", folder, "run", *shared, *seeds)
        killed = started.communicate(timeout=900)[1]
        assert first is None, killed
        server.settle()
        of_killed = Counter(map(_question, server.requests))
        finishes = machine("machine-b", folder, "run", *shared)
        said = finishes.communicate(timeout=900)[1]
        assert finishes.returncode == 0, said
        lake, settings = Lake.at(f"{bucket}/shared/lake"), load_config(str(config))
        with open_instance(lake, database=database_of(settings)) as instance:
            statuses = Counter(run.status.value for run in instance.get_runs())
        yield {
            "local": Lake.at(folder / "lake"), "shared": lake, "refused": refused, "statuses": statuses, "alone": alone,
            "asked": Counter(map(_question, server.requests)), "of_killed": of_killed, "said": said,
            "kept": postgres.query("SELECT count(*), count(DISTINCT key) FROM star_journal.reply",
                                   database=os.environ["STAR_DATABASE"].rsplit("/", 1)[-1]),
        }  # fmt: skip  # read as a table


def _question(request):
    return json.dumps(request, sort_keys=True)


def test_a_second_machine_is_refused_and_told_who_is_at_work(taken_over):
    [(said, code)] = taken_over["refused"]
    assert code == 1
    assert "is in use by star-pipeline run (process" in said
    assert "on machine-a" in said
    assert "Traceback" not in said


def test_the_tables_are_those_of_one_machine(taken_over):
    local, shared = taken_over["local"], taken_over["shared"]
    assert len(local.catalog_shards()) == 2
    for spec in SHARD_TABLES:
        assert shared.shards_of(spec) == local.shards_of(spec) != []
        for shard in local.shards_of(spec):
            found = (content_hash(lake.read_arrow(spec, shard)) for lake in (shared, local))
            assert len(set(found)) == 1, (spec.name, shard)
    for spec in (SEED_CATALOG, TASK_DOMAINS, STAR_DATASET):
        assert content_hash(shared.read_arrow(spec)) == content_hash(local.read_arrow(spec)), spec.name


def test_what_the_dead_machine_was_answered_is_not_asked_again(taken_over):
    alone, asked = taken_over["alone"], taken_over["asked"]
    twice = {question for question, times in asked.items() if times > alone[question]}
    assert set(asked) == set(alone)
    assert twice <= set(taken_over["of_killed"])  # what was on its way back when it died
    assert len(twice) < len(alone) / 4
    [(replies, keys)] = taken_over["kept"]
    assert replies == keys == len(alone)


def test_no_run_stays_started(taken_over):
    assert set(taken_over["statuses"]) == {"SUCCESS", "FAILURE"}, taken_over["statuses"]
