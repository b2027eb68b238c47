"""Several shards through real Dagster, LanceDB, DuckDB and Parquet, with fake LLMs and models."""

import itertools
import json
import shutil
import subprocess
import sys
import textwrap

import dagster as dg
import duckdb
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.core import tables
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.partitions import PRIOR_STATE
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.instance import fail_dead_runs, open_instance
from star_pipeline.instance.processes import PID_TAG, STARTED_TAG, process_tags
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows

pytestmark = pytest.mark.slow


class Loop:
    """A lake with a Dagster instance of its own and fake LLMs and models; what ``real`` names is no fake."""

    def __init__(self, tmp_path, config_file, real=(), **fakes):
        self.lake = Lake.at(tmp_path / "lake")
        self.instance = open_instance(self.lake)
        settings, root = SettingsResource(config=str(config_file)), LakeResource(root=str(self.lake.root))
        replaced = {name: fake for name, fake in fake_resources(settings, root, **fakes).items() if name not in real}
        self.defs = build_defs(replaced, str(config_file), str(self.lake.root))

    def write_seeds(self, rows, name="seeds.json"):
        self.lake.write_bytes(self.lake.seeds / name, json.dumps(rows).encode())

    def execute(self, job, shard=None, assets=None):
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=shard,
            asset_selection=[dg.AssetKey(a) for a in assets] if assets else None,
            raise_on_error=False,
        )

    @property
    def shards(self):
        return sorted(self.instance.get_dynamic_partitions(Scope().partitions.name))

    def all(self):
        assert self.execute("take_in_seeds").success
        for shard in self.shards:
            assert self.execute("process_shard", shard).success
        assert self.execute("publish").success

    def read(self, spec, shard=None):
        return self.lake.read_table(spec, shard)


@pytest.fixture
def loop(tmp_path, config_file):
    made = Loop(tmp_path, config_file)
    yield made
    made.instance.dispose()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of three shards that are done and published."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    made = Loop(folder, folder / "config.yaml")
    made.write_seeds(seed_rows(12))
    made.all()
    made.instance.dispose()
    return folder


@pytest.fixture
def finished(done, tmp_path):
    """A copy of it, to do with as one likes."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    made = Loop(tmp_path, tmp_path / "config.yaml")
    yield made
    made.instance.dispose()


def failure(result):
    [event] = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data.user_failure_data.description


def test_every_live_seed_ends_in_the_final_data_set_and_in_the_inspection_file(loop):
    loop.write_seeds(seed_rows(10) + seed_rows(2))
    loop.all()
    assert loop.shards == ["000001-seeds", "000002-seeds", "000003-seeds"]
    rows = loop.read(tables.STAR_DATASET)
    assert len(rows) == 10
    assert {row.source_row for row in rows} == set(range(1, 11))
    domains = loop.read(tables.TASK_DOMAINS)
    assert [(d.seed_id, d.candidate_id, d.shard) for d in domains] == [
        (r.seed_id, r.candidate_id, r.shard) for r in rows
    ]
    assert {d.domain for d in domains} == {0, 1}
    assert {d.near_duplicate_of for d in domains} <= {row.seed_id for row in rows}
    with duckdb.connect(str(loop.lake.inspection), read_only=True) as database:
        names = {name for (name,) in database.execute("SELECT table_name FROM information_schema.tables").fetchall()}
        assert names >= {spec.name for spec in tables.SHARD_TABLES} | {"star_dataset", "seed_catalog"}
        assert names >= {"pair_leaderboard", "probability_history", "judge_bias", "costs", "failures", "lineage"}
        for view in ("pair_leaderboard", "probability_history", "judge_bias", "costs", "failures", "lineage"):
            assert database.execute(f"SELECT count(*) FROM {view}").fetchone()[0] >= (0 if view == "failures" else 1)
        plan = database.execute("SELECT count(*) FROM sampling_plan").fetchone()[0]
        assert database.execute("SELECT count(*), count(DISTINCT candidate_id) FROM lineage").fetchone() == (plan, plan)
        assert database.execute("SELECT count(*) FROM lineage WHERE why IS NULL").fetchone() == (0,)


def test_snapshots_form_a_chain_and_memory_steers_later_shards(finished):
    loop = finished
    snapshots = [loop.read(tables.AGENT_PAIR_PROBABILITIES, shard) for shard in loop.shards]
    for before, after in itertools.pairwise(snapshots):
        assert {row.parent_snapshot_id for row in after} == {before[0].snapshot_id}
        assert {row.pair_id: row.probability for row in before} == {
            row.pair_id: row.probability_before for row in after
        }
    plans = [loop.read(tables.SAMPLING_PLAN, shard) for shard in loop.shards]
    assert {row.snapshot_id for row in plans[1]} == {snapshots[0][0].snapshot_id}
    assert not any(row.neighbour_seed_ids for row in plans[0])
    remembered = {row.seed_id for row in loop.read(tables.COMPOSITE_SCORES, loop.shards[0]) if row.selection == "best"}
    assert remembered
    assert {seed for row in plans[1] for seed in row.neighbour_seed_ids} <= remembered
    assert any(row.origin == "memory" for row in plans[1] + plans[2])


def test_a_snapshot_made_again_has_the_same_bytes_and_the_next_shard_is_told_of_its_version(finished):
    loop = finished
    first, second, _ = loop.shards
    path = loop.lake.table(tables.AGENT_PAIR_PROBABILITIES, first)
    before = path.read_bytes()
    assert loop.execute("process_shard", first, ["agent_pair_probabilities"]).success
    assert path.read_bytes() == before
    observed = loop.instance.fetch_observations(dg.AssetKey(PRIOR_STATE), limit=10).records
    versions = [
        r.asset_observation.tags["dagster/data_version"] for r in observed if r.asset_observation.partition == second
    ]
    made = loop.instance.get_latest_data_version_record(dg.AssetKey("agent_pair_probabilities"), partition_key=first)
    assert versions[0] == made.asset_materialization.tags["dagster/data_version"]
    assert len(set(versions)) == 2  # awaited, then made; the rerun changed nothing


def test_a_shard_before_its_predecessor_is_refused_naming_it_and_the_remedy(loop):
    loop.write_seeds(seed_rows(8))
    loop.execute("take_in_seeds")
    result = loop.execute("process_shard", loop.shards[1])
    assert not result.success
    assert all(words in failure(result) for words in ("000002-seeds", "000001-seeds", "star-pipeline run"))
    assert not loop.lake.has_table(tables.CANDIDATES, loop.shards[1])
    assert loop.execute("process_shard", loop.shards[0]).success
    assert loop.execute("process_shard", loop.shards[1]).success


def test_replaying_a_shard_cannot_see_the_future(finished):
    loop = finished
    first = loop.shards[0]
    before = loop.lake.table(tables.SAMPLING_PLAN, first).read_bytes()
    assert loop.execute("process_shard", first, ["sampling_plan"]).success
    assert loop.lake.table(tables.SAMPLING_PLAN, first).read_bytes() == before


def test_edited_removed_and_returned_records(loop):
    rows = seed_rows(6)
    loop.write_seeds(rows)
    loop.all()
    untouched = loop.lake.table(tables.CANDIDATES, loop.shards[0]).read_bytes()
    edited = [{**rows[0], "output": "another answer"}, *rows[2:]]
    loop.write_seeds(edited)
    assert loop.execute("take_in_seeds").success
    assert loop.shards[2:] == ["000003-seeds"]
    assert [seed.response for seed in loop.read(tables.SHARD_MANIFEST, loop.shards[2])] == ["another answer"]
    loop.execute("process_shard", loop.shards[2])
    loop.execute("publish")
    assert len(loop.read(tables.STAR_DATASET)) == 5
    assert loop.lake.table(tables.CANDIDATES, loop.shards[0]).read_bytes() == untouched
    loop.write_seeds(rows)
    loop.execute("take_in_seeds")
    loop.execute("publish")
    assert len(loop.shards) == 3
    assert len(loop.read(tables.STAR_DATASET)) == 6


def test_a_bad_seed_file_stops_the_catalogue_with_one_line_and_changes_nothing(loop):
    loop.write_seeds(seed_rows(4))
    loop.execute("take_in_seeds")
    before = loop.lake.table(tables.SEED_CATALOG).read_bytes()
    loop.write_seeds([*seed_rows(5), {"instruction": 5}])
    result = loop.execute("take_in_seeds")
    assert "seeds.json, row 6, field 'instruction'" in failure(result)
    assert loop.lake.table(tables.SEED_CATALOG).read_bytes() == before


def test_a_run_is_refused_while_another_process_holds_the_lake(loop):
    loop.write_seeds(seed_rows(4))
    loop.execute("take_in_seeds")
    code = """
        import sys, time
        from star_pipeline.adapters.lake import Lake
        from star_pipeline.adapters.lock import FileLakeLock
        with FileLakeLock(Lake.at(sys.argv[1])).hold("somebody else"):
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(loop.lake.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()
        result = loop.execute("process_shard", loop.shards[0])
        assert f"somebody else (process {holder.pid}" in failure(result)
        assert not loop.lake.has_table(tables.SEED_SHARDS, loop.shards[0])
        holder.stdin.close()
    assert loop.execute("process_shard", loop.shards[0]).success


def test_materialize_takes_the_lock_too(loop):
    loop.write_seeds(seed_rows(4))
    loop.execute("take_in_seeds")
    assets = [
        asset
        for asset in loop.defs.assets
        if isinstance(asset, dg.AssetsDefinition) and asset.key.path[-1] == "seed_shards"
    ]
    resources = loop.defs.resources
    result = dg.materialize(assets, instance=loop.instance, resources=resources, partition_key=loop.shards[0])
    assert result.success
    tags = loop.instance.get_run_by_id(result.run_id).tags
    assert tags[PID_TAG].isdigit()


def test_the_run_of_a_dead_process_is_failed_and_that_of_a_living_one_is_not(loop):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    job = loop.defs.resolve_job_def("take_in_seeds")
    tags = process_tags()
    gone = loop.instance.create_run_for_job(
        job, tags={**tags, PID_TAG: str(dead.pid)}, status=dg.DagsterRunStatus.STARTED
    )
    reused = loop.instance.create_run_for_job(
        job, tags={**tags, STARTED_TAG: "1.00"}, status=dg.DagsterRunStatus.STARTED
    )
    alive = loop.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    assert set(fail_dead_runs(loop.instance)) == {gone.run_id, reused.run_id}
    status = lambda run: loop.instance.get_run_by_id(run.run_id).status  # noqa: E731
    assert (status(gone), status(alive)) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED)


def test_the_instance_has_the_pools_limit_before_the_first_run(loop):
    assert loop.instance.event_log_storage.get_pool_limits()[0].limit == 1
    assert (loop.lake.dagster_home / "dagster.yaml").exists()
    settings = loop.instance.get_settings("concurrency")
    assert settings["pools"]["granularity"] == "run"


def test_a_damaged_table_blocks_the_next_stage_and_each_of_its_checks_says_why(finished):
    loop = finished
    first = loop.shards[0]
    verdicts, scores = (loop.lake.table(spec, first) for spec in (tables.JUDGE_VERDICTS, tables.IFD_SCORES))
    judged, whole = verdicts.read_bytes(), loop.lake.read_arrow(tables.IFD_SCORES, first)
    loop.lake.write_table(tables.IFD_SCORES, whole.slice(1), first)
    result = loop.execute("process_shard", first, ["judge_verdicts"])
    found = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert {name: (check.passed, check.severity.value) for name, check in found.items()} == {
        "correct": (False, "ERROR"),
        "unparsed_verdicts": (False, "WARN"),
        "flipped_verdicts": (False, "WARN"),
    }
    assert failure(result) == found["correct"].description
    assert "ifd_scores" in found["correct"].description
    assert all("not looked at" in check.description for name, check in found.items() if name != "correct")
    assert verdicts.read_bytes() == judged
    scores.unlink()
    assert loop.execute("process_shard", first, ["ifd_scores", "judge_verdicts"]).success
    assert verdicts.read_bytes() == judged


def test_each_table_records_the_configurations_fingerprint(finished):
    loop = finished
    from star_pipeline.config import load_config

    fingerprint = load_config(loop.defs.resources["settings"].config).fingerprint
    for spec in (*tables.SHARD_TABLES, tables.STAR_DATASET):
        shard = None if spec is tables.STAR_DATASET else loop.shards[0]
        said = loop.lake.read_arrow(spec, shard).schema.metadata
        assert said[b"config_fingerprint"].decode() == fingerprint
        # the final data set may be published, with no address of a server in it
        assert (b"config_settings" in said) == (spec in tables.SHARD_TABLES)


def preference(judged, mark):
    """The verdict of a judge that prefers the answer holding ``mark``."""
    border = "[Start of Assistant B's" if "Assistant B" in judged else "[Start of Sample B's"
    first, second = (mark in part for part in judged.split(border, 1))
    return "[C]" if first == second else "[A]" if first else "[B]"


def test_the_better_agents_pairs_earn_more_and_rise(tmp_path, config_file):
    """Agent a writes better for everybody, and the judge sees it: its pairs rise over the shards."""

    def script(request):
        text = request.messages[-1].content
        if not request.template.startswith("judge"):
            return f"{request.agent.upper()} {request.template} answers {text[-150:]}"
        return preference(text, "A respond answers")

    loop = Loop(tmp_path, config_file, script=script, ease=1.0)
    loop.write_seeds(seed_rows(24))
    loop.all()
    shards = [loop.read(tables.AGENT_PAIR_PROBABILITIES, shard) for shard in loop.shards]
    assert len(shards) == 6
    # of eight draws a shard chance decides in which one they rise, and not that they do
    assert sum(row.probability for row in shards[-1] if row.pair_id.endswith("+a")) > 0.55
    earned = {"a": 0.0, "b": 0.0}
    drawn = dict.fromkeys(earned, 0)
    for row in itertools.chain(*shards):
        earned[row.pair_id[-1]] += row.reward
        drawn[row.pair_id[-1]] += row.n_sampled
    assert earned["a"] / drawn["a"] > 1.4 * earned["b"] / drawn["b"]
    loop.instance.dispose()


def test_like_instructions_draw_the_pairs_that_were_good_for_them(tmp_path, config_file):
    """Agent a is better at poems, b at sums: the memory bank learns it, the one global probability cannot."""

    def script(request):
        text = request.messages[-1].content
        if not request.template.startswith("judge"):
            return f"<{request.agent}> {len(text)} words on that"
        verdict = preference(text, "<a>" if "poem" in text else "<b>")
        return preference(text, "<c>") if verdict == "[C]" else verdict  # the reference beats the wrong agent

    settings = json.loads(config_file.read_text())
    settings["pairs"] = {"sampled": ["keep+a", "keep+b"], "base": ["keep+c"], "include_seed": False}
    settings["agents"]["c"] = {"model": "hosted_vllm/c"}
    settings["sampling"] = {"pairs_per_seed": 1, "from_memory": 1, "shard_size": 8}
    settings["memory"] = {"neighbours": 3}
    config_file.write_text(json.dumps(settings))
    loop = Loop(tmp_path, config_file, script=script, ease=1.0)
    kinds = ("poem verse rhyme stanza number", "sum digits add total number")
    loop.write_seeds([{"instruction": f"{kinds[n % 2]} {n}", "output": f"answer {n}"} for n in range(48)])
    loop.all()
    drawn = {"poem": [], "sum": []}
    for shard in loop.shards[2:]:
        kind_of = {seed.seed_id: seed.instruction.split()[0] for seed in loop.read(tables.SEED_SHARDS, shard)}
        for row in loop.read(tables.SAMPLING_PLAN, shard):
            if row.origin == "memory":
                drawn[kind_of[row.seed_id]].append(row.pair_id)
    assert min(len(pairs) for pairs in drawn.values()) >= 10
    assert drawn["poem"].count("keep+a") > 0.9 * len(drawn["poem"])
    assert drawn["sum"].count("keep+b") > 0.9 * len(drawn["sum"])
    loop.instance.dispose()
