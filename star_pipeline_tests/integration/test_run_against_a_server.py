"""``star-pipeline run`` as a user types it: an OpenAI-compatible server on loopback, small real models, real kills."""

import hashlib
import json
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml

from star_pipeline.adapters.lake import Lake
from star_pipeline.core import tables
from star_pipeline_tests.batch_server import Fate, batch_server
from star_pipeline_tests.conftest import seed_rows
from star_pipeline_tests.llm_server import Reply, chat_server
from star_pipeline_tests.oracle import disagreements
from star_pipeline_tests.program import command, star, started
from star_pipeline_tests.tiny_models import save_gpt_neox

pytestmark = pytest.mark.slow

STARTER = Path(__file__).resolve().parents[2] / "star_pipeline" / "adapters" / "offline" / "starter_seeds.jsonl"
LENGTHS = {"good": 40, "mid": 34, "bad": 28}


def noise(*parts):
    return int(hashlib.sha256("\x1f".join(parts).encode()).hexdigest(), 16)


def scripted(asked):
    """``good`` writes better (more), ``bad`` worse, and fails now and then; the judge sees it, and errs now and then."""
    text, model = asked["messages"][-1]["content"], asked["model"]
    if "[Final Verdict]" in text:
        head = "[Start of Assistant B's Answer]" if "Assistant B" in text else "[Start of Sample B's Instruction]"
        first, second = (len(part.split("Answer]\n")[1].split("\n[End")[0].split()) for part in text.split(head, 1))
        if noise(text) % 23 == 0 and "seed" not in asked:
            return "I cannot say."
        if noise(text) % 11 == 0:
            return "The first.\n[A]"
        return "They differ.\n" + ("[C]" if first == second else "[A]" if first > second else "[B]")
    if text.endswith("Rewritten instruction:"):
        return text.split("<instruction>\n")[1].split("\n</instruction>")[0] + f" Take step {noise(text) % 9}."
    if model == "bad" and noise(text) % 9 < 2:
        return Reply("half", finish_reason="length") if noise(text) % 2 else ""
    words = text.split() * 2
    random.Random(noise(model, text)).shuffle(words)
    return " ".join((words * 20)[: LENGTHS[model]])


def agents_at(url, **more):
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    return {name: {"model": f"hosted_vllm/{name}", "api_base": url, **price, **more} for name in LENGTHS}


def configuration(folder, url, **changes):
    settings = {
        "name": "e2e",
        "agents": agents_at(url),
        "pairs": {
            "sampled": ["keep+good", "keep+bad", "mid+good", "good+mid", "mid+bad", "bad+mid"],
            "base": ["keep+mid"],
        },
        "sampling": {"pairs_per_seed": 3, "from_memory": 1, "shard_size": 24},
        "scoring": {
            "small": str(folder / "small"),
            "large": str(folder / "large"),
            "template": "plain",
            "max_length": 300,
        },
        "judge": {"agent": "mid"},
        "evolution": {"rate": 0.02, "floor": 0.01},
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def same_numerics(one, other):
    """A lake that is to be scored as another was: by itself it settles on the library that is the faster just then."""
    other.write_bytes(other.numerics, one.numerics.read_bytes())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    texts = STARTER.read_text("utf-8").splitlines()
    save_gpt_neox(folder / "small", texts, seed=0, hidden=32, layers=2)
    save_gpt_neox(folder / "large", texts, seed=1, hidden=48, layers=2)
    return folder


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    """A lake after a run, with a lag, on 84 starter seeds, 3 of them twice, and the server's requests."""
    folder = tmp_path_factory.mktemp("run")
    rows = [json.loads(line) for line in STARTER.read_text("utf-8").splitlines()]
    rows = rows[:72] + [row for row in rows if row.get("history")][:12]
    rows = list({json.dumps(row): row for row in rows}.values())
    (folder / "seeds.json").write_text(json.dumps(rows + rows[:3]))
    with chat_server(scripted) as server:
        config = configuration(models, server.url, evolution={"rate": 0.02, "floor": 0.01, "lag": 1})
        options = ("--config", config, "--lake", folder / "lake", "--seeds", folder / "seeds.json")
        # from nothing to the end of the interpreter, whose last words are looked at too
        result = subprocess.run(command("run", *options), capture_output=True, text=True, timeout=1800)
        print(result.stdout, result.stderr)
        assert result.returncode == 0, result.stderr
        sent = len(server.requests)
        again = star("run", "--config", config, "--lake", folder / "lake")
        yield {
            "lake": Lake.at(folder / "lake"),
            "config": config,
            "rows": rows,
            "result": result,
            "again": again,
            "sent": sent,
            "sent_in_all": len(server.requests),
        }


def test_an_independent_program_agrees_with_every_number(finished):
    assert disagreements(Path(str(finished["lake"].root)), finished["config"], ifd_rows=60) == []


def test_every_seed_has_its_row_and_duplicates_are_counted(finished):
    rows = finished["lake"].read_table(tables.STAR_DATASET)
    assert len(rows) == len(finished["rows"])
    assert "3 duplicate records dropped" in finished["result"].stdout


def test_the_summary_tells_what_was_made_what_failed_and_where_things_are(finished):
    said = finished["result"].stdout
    for words in (
        "seeds",
        "candidates",
        "failed (",
        "cut_off",
        "empty_reply",
        "best",
        "keep+good",
        "USD",
        "star_dataset.parquet",
        "inspect.duckdb",
    ):
        assert words in said, words
    assert "Traceback" not in finished["result"].stderr
    assert "nanobind" not in finished["result"].stderr
    assert "shard 000001-seeds (1 of 4)" in finished["result"].stderr


def test_a_second_run_with_nothing_new_does_nothing_and_says_so(finished):
    assert finished["again"].returncode == 0
    assert finished["again"].stdout.startswith("Nothing new")
    assert finished["sent_in_all"] == finished["sent"]


def test_the_requests_sent_are_those_the_tables_tell_of(finished):
    with duckdb.connect(str(finished["lake"].inspection), read_only=True) as database:
        assert database.execute("SELECT sum(requests) FROM costs").fetchone()[0] == finished["sent"]
        cost, tokens = database.execute(
            "SELECT sum(cost_usd), sum(prompt_tokens) * 1e-6 + sum(completion_tokens) * 2e-6 FROM costs"
        ).fetchone()
    assert cost == pytest.approx(tokens)
    assert cost > 0


def test_runs_partitions_and_metadata_are_on_the_lakes_own_instance(finished):
    import dagster as dg

    from star_pipeline.instance import open_instance

    with open_instance(finished["lake"]) as instance:
        shards = instance.get_dynamic_partitions("seed_shards")
        assert len(shards) == 4
        for name in ("candidates", "memory_bank", "agent_pair_probabilities"):
            assert instance.get_materialized_partitions(dg.AssetKey(name)) == set(shards)
        [last] = instance.fetch_materializations(dg.AssetKey("candidates"), limit=1).records
        metadata = last.asset_materialization.metadata
        assert {"dagster/row_count", "preview", "cost_usd", "failures", "path"} <= set(metadata)
        assert len(instance.get_runs()) == 6


def test_queries_print_tables_csv_json_and_parquet(finished):
    lake = finished["lake"].root
    assert "winners" in star("query", "--list").stdout
    assert "keep+good" in star("query", "winners", "--lake", lake).stdout
    for table in ("star_dataset", "seed_shards", "sampling_plan", "lineage"):
        assert star("query", f"SELECT * FROM {table} LIMIT 3", "--lake", lake).returncode == 0
    broken = star("query", "SELECT CAST(pair_id AS INT) FROM star_dataset", "--lake", lake)
    assert (broken.returncode, broken.stderr.count("\n")) == (2, 1)
    count = "SELECT count(*) AS n FROM star_dataset"
    assert star("query", count, "--lake", lake, "--format", "csv").stdout.split() == ["n", str(len(finished["rows"]))]
    assert json.loads(star("query", count, "--lake", lake, "--format", "json").stdout) == [{"n": len(finished["rows"])}]
    raw = star("query", count, "--lake", lake, "--format", "parquet", text=False).stdout
    import io

    assert pq.read_table(io.BytesIO(raw)).to_pylist() == [{"n": len(finished["rows"])}]


def test_a_run_that_is_stopped_says_so_and_a_second_one_beside_it_is_refused(models, tmp_path):
    (tmp_path / "seeds.json").write_text(json.dumps(seed_rows(8)))
    goes_on = threading.Event()  # the first does not end while the second looks, however long that takes
    with chat_server(lambda asked: goes_on.wait(600) and "late") as server:
        config = configuration(models, server.url, agents=agents_at(server.url, timeout_s=900))
        options = ("--config", config, "--lake", tmp_path / "lake")
        with subprocess.Popen(
            command("run", *options, "--seeds", tmp_path / "seeds.json"), stderr=subprocess.PIPE, text=True
        ) as run:
            while not server.requests:
                assert run.poll() is None, run.stderr.read()
                time.sleep(0.1)
            second = star("run", *options)
            run.send_signal(signal.SIGTERM)
            said = run.communicate(timeout=600)[1]  # it waits for no reply
        goes_on.set()
        assert second.returncode == 1
        assert f"in use by star-pipeline run (process {run.pid}" in second.stderr
        assert run.returncode == 130, said
        assert "run the same command to go on" in said
        assert "Traceback" not in said


def once(event, act):
    """What acts at the first such call: a second signal would interrupt the farewell."""
    left = [act]
    return lambda call: left.pop()() if call == event and left else None


def test_a_run_in_batches_that_is_killed_goes_on_with_what_its_provider_has(models, tmp_path):
    (tmp_path / "seeds.json").write_text(json.dumps(seed_rows(6)))
    with batch_server(scripted) as server:
        server.fate = lambda number: Fate(looks=2)
        agents = agents_at(server.url, mode="batch", params={"max_tokens": 400})
        config = configuration(models, server.url, agents=agents, budget={"usd": 5.0})
        options = ("--config", config, "--lake", tmp_path / "lake", "--seeds", tmp_path / "seeds.json")
        # killed while its first batch is created, of which it never hears; then while it waits for one
        for event in ("batch", "look"):
            with started("run", *options, stderr=subprocess.PIPE) as run:
                server.meanwhile = once(event, lambda: run.send_signal(signal.SIGKILL))  # called here
                said = run.communicate(timeout=900)[1]
            server.meanwhile = lambda call: None
            assert run.returncode == -signal.SIGKILL
            server.settle()
        assert "Traceback" not in said
        assert "Warning" not in said
        done = star("run", *options)
        assert done.returncode == 0, done.stderr
        assert re.search(r"going on with batch batch_\d, which was sent \d+ s ago", said + done.stderr)
        assert len(server.keys) == len(set(server.keys))
        assert server.requests == []
    with duckdb.connect(str(Lake.at(tmp_path / "lake").inspection), read_only=True) as database:
        requests, cost, tokens = database.execute(
            "SELECT sum(requests), sum(cost_usd), sum(prompt_tokens) * 1e-6 + sum(completion_tokens) * 2e-6 FROM costs"
        ).fetchone()
    assert requests == len(server.keys)
    assert cost == pytest.approx(tokens / 2)
