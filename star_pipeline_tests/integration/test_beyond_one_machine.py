"""Runs whose journal and lock are in a real PostgreSQL, which goes away in their midst: real calls, Dagster, tables; fake models."""

import json
import subprocess
import sys
import threading
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
from star_pipeline.core.errors import LakeError, StarError
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.journals import add, run
from star_pipeline_tests.llm_server import chat_server


class Side:
    """A lake and its configuration. ``at_request`` names a request (the how-manieth) at which ``then`` is called."""

    def __init__(self, folder, database, monkeypatch):
        monkeypatch.setenv("STAR_DATABASE", database)
        self.folder, self.asked = folder, Counter()
        self.at_request, self.then, self.guard = 0, lambda: None, threading.Lock()

    def answer(self, asked):
        with self.guard:  # each request sees a number of its own
            self.asked[json.dumps([asked["model"], asked["messages"]])] += 1
            number = self.asked.total()
        if number == self.at_request:
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


def test_a_run_stops_before_it_pays_for_what_an_older_journal_holds(side):
    lake = side.lake("lake")
    run(lake.journal_folder(None), lambda journal: add(journal, 1), lake.lake_id)
    with chat_server(side.answer) as server, pytest.raises(LakeError, match=r"1 replies that are not in PostgreSQL "):
        side.run("lake", server, SHARED)
    assert not side.asked


def test_doctor_tells_what_the_database_holds_and_what_is_wrong_with_it(side, monkeypatch, capsys):
    lake = side.lake("lake")
    config = side.folder / "config.yaml"
    config.write_text(json.dumps({**CONFIG, "journal": SHARED}))

    def told():
        app(["doctor", "--config", str(config), "--lake", str(lake.root)], standalone_mode=False)
        return capsys.readouterr().out.splitlines()

    [well] = [line for line in told() if " journal: " in line]
    assert "fine" in well
    assert "($STAR_DATABASE): 0 replies; this lake spent 0.0000 USD" in well
    monkeypatch.delenv("STAR_DATABASE")
    [wrong] = [line for line in told() if "STAR_DATABASE" in line]
    assert wrong.startswith("wrong database: journal.postgres_env: STAR_DATABASE is not set")


def test_doctor_looks_at_all_that_needs_no_server_where_one_does_not_answer(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STAR_DATABASE", "postgresql://star:hushed@127.0.0.1:9/star")
    lake, config = Lake.at(f"{bucket}/lake"), tmp_path / "config.yaml"
    lake.seeds.joinpath("s.json").write_bytes(b'[{"instruction": "", "output": "x"}]')
    config.write_text(json.dumps({**CONFIG, "journal": SHARED}))

    def told():
        app(["doctor", "--config", str(config), "--lake", str(lake.root)], standalone_mode=False)
        said = capsys.readouterr().out
        assert "hushed" not in said
        return said.splitlines()

    lines = told()
    wrong = [line.removeprefix("wrong ").split(":")[0] for line in lines if line.startswith("wrong")]
    assert wrong == ["database", "seeds", "models", "models"]  # the configuration's models are not there
    assert any(line.startswith("fine  store: ") for line in lines)
    assert "row 1, field 'instruction': empty" in next(line for line in lines if " seeds: " in line)
    assert lines[-2] == "not looked at, since database cannot be asked: lock, dagster, journal"
    # and where the store is out of reach too
    monkeypatch.setenv("AWS_REGION", "us east")
    lines = told()
    wrong = [line.removeprefix("wrong ").split(":")[0] for line in lines if line.startswith("wrong")]
    assert wrong == ["store", "database", "models", "models"]
    assert lines[-2].startswith("not looked at, since database and store cannot be asked: lake, lock, dagster, seeds, ")


def test_doctor_looks_at_seeds_while_another_holds_the_lake(side, capsys, tmp_path):
    lake, config = side.lake("lake"), tmp_path / "config.yaml"
    config.write_text(json.dumps(CONFIG))
    lake.prepare()
    lake.write_bytes(lake.seeds / "s.json", b'[{"instruction": "", "output": "x"}]')
    code = (
        "import sys; from star_pipeline.adapters.lake import Lake; from star_pipeline.adapters.lock import FileLakeLock\n"
        "with FileLakeLock(Lake.at(sys.argv[1])).hold('run 1'): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(lake.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        app(["doctor", "--config", str(config), "--lake", str(lake.root)], standalone_mode=False)
        said = capsys.readouterr().out
        holder.stdin.close()
    assert f"wrong lock: {lake.root} is in use by run 1 (process {holder.pid}" in said
    assert "wrong seeds: " in said
    assert "not looked at" not in said
