"""Webserver, daemon and code server as three processes on PostgreSQL, each run on a machine of its own, one of which dies."""

import contextlib
import itertools
import json
import sys
from pathlib import Path

import pytest
import yaml

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.dev import environment
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core import tables
from star_pipeline.defs.jobs import LOOP
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.instance.home import CLUSTER_YAML
from star_pipeline_tests.benchmarks.kill_soak import differences
from star_pipeline_tests.conftest import fake_resources, seed_rows
from star_pipeline_tests.daemon import EAGER, FAKES, Daemon, Service, code_server, impatient
from star_pipeline_tests.elsewhere import ShardsElsewhere, kill, require_namespaces, started_here
from star_pipeline_tests.integration.test_daemon import Held, configuration, put_seeds
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.ports import free_port

ROWS = seed_rows(8)
ROOT = Path(__file__).parents[2]
"""Where the definitions and the launcher of the tests are, in an environment that has the package alone."""


def settings():
    """The shipped settings, with a launcher that starts runs elsewhere, and a daemon that looks more often."""
    made = yaml.safe_load(CLUSTER_YAML)
    made["run_launcher"] = {"module": ShardsElsewhere.__module__, "class": ShardsElsewhere.__name__}
    return impatient(yaml.safe_dump(made))


@contextlib.contextmanager
def processes(folder, env):
    """The three, as a compose file or a chart starts them; (what speaks with the webserver, the daemon's process)."""
    serving, shown = free_port(), free_port()
    workspace = folder / "workspace.yaml"
    place = {"host": "127.0.0.1", "port": serving, "location_name": FAKES}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": place}]}))
    target, options = ["-m", FAKES, "-d", str(ROOT)], {"env": env, "cwd": folder}
    commands = {
        "dagster-webserver": ["-w", str(workspace), "-h", "127.0.0.1", "-p", str(shown)],
        "dagster-daemon": ["run", "-w", str(workspace)],
    }
    with (
        code_server(target, "127.0.0.1", serving, folder / "code-server.log", **options) as server,
        contextlib.ExitStack() as stack,
    ):
        services = [server]
        for name, arguments in commands.items():
            command = [str(Path(sys.executable).with_name(name)), *arguments]
            services.append(Service(command, folder / f"{name}.log", **options))
            # with the machines that the daemon started; an orderly end takes long, and leaves nothing
            stack.callback(services[-1].kill)
        daemon = Daemon(shown, FAKES, services)
        daemon.until("definitions", daemon.loaded)
        yield daemon, services[-1].process.pid


@pytest.fixture(scope="module")
def backfill(tmp_path_factory, postgres):
    """A backfill picked in the wrong order, the machine of its first shard dead in mid-run."""
    require_namespaces()
    folder, script = tmp_path_factory.mktemp("cluster"), Held()
    with chat_server(script) as server:
        config = configuration(folder, server.url)
        shared = folder / "shared.yaml"
        shared.write_text(json.dumps({**json.loads(config.read_text()), "journal": {"postgres_env": "STAR_DATABASE"}}))
        calm, lake = Lake.at(folder / "calm"), Lake.at(folder / "lake")
        for each in (calm, lake):
            put_seeds(each, ROWS)
        fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(calm.root)), ease=1.0)
        run_pipeline(str(config), calm, [], SilentProgress(), {name: fakes[name] for name in ("scorer", "embedder")})
        lake.write_bytes(lake.dagster_home / "dagster.yaml", settings())
        more = {"STAR_DATABASE": postgres.database(), "PYTHONPATH": str(ROOT)}
        with processes(folder, {**environment(str(config), lake), **EAGER, **more}) as (daemon, own):
            assert daemon.finish(daemon.launch("take_in_seeds")) == "SUCCESS"
            first = lake.catalog_shards()[0]
            with script.hold():
                picked = daemon.backfill(LOOP, lake.catalog_shards()[::-1])
                daemon.until("plan of the first shard", lambda: lake.has_table(tables.SAMPLING_PLAN, first))
                [victim] = [run for run in daemon.runs() if run["partition"] == first]
                kill(started_here(own, victim["runId"]))
            status = daemon.finish_backfill(picked)
            yield {"lake": lake, "calm": calm, "status": status, "runs": daemon.runs(), "victim": victim["runId"],
                   "log": (folder / "dagster-daemon.log").read_text()}  # fmt: skip  # read as a table


@pytest.mark.slow
def test_the_shards_keep_their_order_and_the_killed_one_is_tried_again(backfill):
    first, second = backfill["lake"].catalog_shards()
    shards = [run for run in backfill["runs"] if run["partition"]]
    assert [(run["partition"], run["status"]) for run in shards] == [
        (first, "FAILURE"),
        (first, "SUCCESS"),
        (second, "SUCCESS"),
    ]
    assert backfill["status"] == "COMPLETED_SUCCESS"
    assert shards[0]["runId"] == backfill["victim"]
    for before, after in itertools.pairwise(shards):
        assert before["endTime"] <= after["startTime"]
    assert f"machine-{backfill['victim'][:8]} does not hold {backfill['lake'].root} any more" in backfill["log"]


@pytest.mark.slow
def test_no_run_stays_started_and_the_tables_are_those_of_one_machine(backfill):
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS", "FAILURE"}
    assert differences(backfill["calm"], backfill["lake"], specs=tables.SHARD_TABLES) == []
