"""A study with a real small model: in Dagster as at the console, and through a kill in mid-evaluation."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.adapters.model_size import model_size
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring.numerics import settled_in
from star_pipeline.adapters.study_files import read_arm, study_rows
from star_pipeline.commands.estimate import run_estimate
from star_pipeline.commands.study import run_study
from star_pipeline.config import load_config
from star_pipeline.core.errors import LakeBusy
from star_pipeline.core.study.tables import STUDY_RESULTS, STUDY_TABLES
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.scope import Scope
from star_pipeline.inspection.build import open_inspection
from star_pipeline.instance import open_instance
from star_pipeline_tests.commands.test_study import configured, run
from star_pipeline_tests.conftest import seed_rows
from star_pipeline_tests.journals import read_spend
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.program import started
from star_pipeline_tests.tiny_models import save_model

pytestmark = pytest.mark.slow
ARMS = ("seeds", "longest")


class Graders:
    """A judge whose grade is a matter of the text; from the request number ``stops_at`` on it does not answer until it may."""

    def __init__(self):
        self.stops_at, self.seen, self.stopped, self.may_go_on = None, 0, threading.Event(), threading.Event()
        self.guard = threading.Lock()

    def __call__(self, request):
        with self.guard:
            self.seen += 1
            stops = self.stops_at and self.seen >= self.stops_at
        if stops:
            self.stopped.set()
            self.may_go_on.wait(900)
        return f"[[{1 + len(request['messages'][-1]['content']) % 10}]]"


@pytest.fixture(scope="module")
def graders():
    return Graders()


@pytest.fixture(scope="module")
def home(tmp_path_factory, graders):
    """(a lake that was run, a study's configuration)"""
    folder = tmp_path_factory.mktemp("studied")
    lake = Lake.at(folder / "lake")
    run(lake, configured(folder), seed_rows(12))
    texts = [text for row in seed_rows(12) for text in row.values()]
    model = save_model(folder / "model", "gpt_neox", [*texts, "Below is ### Instruction: Response:\n\n"] * 3)
    asked = [{"instruction": f"Tell me of thing {n}.", "input": "", "output": f"Thing {n} is good."} for n in range(8)]
    (folder / "asked.json").write_text(json.dumps(asked))
    questions = [str(folder / "asked.json")]
    tune = {"epochs": 1, "batch_size": 4, "device_batch_size": 4, "learning_rate": 1e-3, "device": "cpu"}
    evaluate = {"held_out": questions, "answers": {"questions": questions, "max_tokens": 6}, "grades": {}}
    with chat_server(graders) as server:
        config = configured(folder, "s", arms=list(ARMS), seeds=[0, 1], tune=tune, evaluate=evaluate)
        settings = json.loads((folder / "s.json").read_text())
        for agent in settings["agents"].values():
            agent |= {"api_base": server.url, "max_concurrency": 2, "timeout_s": 900, "params": {"max_tokens": 20}}
            agent |= {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
        settings["scoring"] = {"small": str(model), "large": str(model), "template": "alpaca", "device": "cpu"}
        (folder / "s.json").write_text(json.dumps(settings))
        settled_in(lake.numerics, "auto", "cpu")  # each copy would settle them by how fast the machine is just then
        yield lake, config


@pytest.fixture
def copied(home, tmp_path):
    def copy(name):
        lake = Lake.at(tmp_path / name)
        shutil.copytree(str(home[0].root), str(lake.root))
        return lake

    return copy


def tables(lake):
    free = {"attempts", "prompt_tokens", "completion_tokens", "cost_usd"}  # of this command's own calls
    return {
        spec.name: [
            {name: value for name, value in row.items() if name not in free}
            for row in lake.read_arrow(spec).to_pylist()
        ]
        for spec in STUDY_TABLES
    }


@pytest.fixture(scope="module")
def studied(home, tmp_path_factory):
    """A lake with a study that nothing came in the way of."""
    lake = Lake.at(tmp_path_factory.mktemp("plain") / "lake")
    shutil.copytree(str(home[0].root), str(lake.root))
    run_study(home[1], lake, SilentProgress())
    return lake


@pytest.fixture(scope="module")
def told(studied):
    return tables(studied)


def says(instance, text):
    """Whether the log of one of the instance's runs does."""
    return any(text in entry.user_message for run in instance.get_runs() for entry in instance.all_logs(run.run_id))


JOB = """
import sys
from star_pipeline.adapters.lake import Lake
from star_pipeline.defs.build import build_defs
from star_pipeline.instance import open_instance
with open_instance(Lake.at(sys.argv[2])) as instance:
    build_defs(None, *sys.argv[1:]).resolve_job_def("study").execute_in_process(instance=instance)
"""
"""What Dagster does with the job, in a process of its own."""


def test_a_study_killed_while_it_is_judged_ends_with_the_same_tables_and_others_are_refused_or_wait(
    home, copied, graders, told
):
    """The command is killed while the job, in another process, waits for it: the job goes on, and the command finds all there."""
    lake, quiet = copied("killed"), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    graders.seen, graders.stops_at = 0, 5
    command, job = started("study", "--config", home[1], "--lake", lake.root, **quiet), None
    try:
        while not graders.stopped.wait(0.2):
            assert command.poll() is None, command.communicate()[0]
        with pytest.raises(
            LakeBusy, match=rf"is being studied by star-pipeline study \(process {command.pid} on .*; wait"
        ):
            run_study(home[1], lake, SilentProgress())
        job = subprocess.Popen([sys.executable, "-c", JOB, home[1], str(lake.root)], **quiet)
        with open_instance(lake) as instance:
            while not says(instance, f"(process {command.pid} on "):
                assert job.poll() is None, job.communicate()[0]
                time.sleep(0.2)
        assert not lake.has_table(STUDY_RESULTS)
        before = {path: path.stat().st_mtime_ns for path in (lake.study / "models").glob("*/model.safetensors")}
        assert len(before) == 5  # the untuned one too
        graders.seen = 0
    finally:
        command.send_signal(signal.SIGKILL)
        command.communicate(timeout=300)
        graders.stops_at = None
        graders.may_go_on.set()
        said = job.communicate(timeout=900)[0] if job else ""
    assert command.returncode == -signal.SIGKILL
    assert job.returncode == 0, said
    assert tables(lake) == told
    assert len(told["study_grades"]) == len(told["study_answers"]) == 40
    assert 0 < graders.seen < 40  # what was graded before is in the journal
    graders.seen = 0
    run_study(home[1], lake, SilentProgress())
    assert tables(lake) == told
    assert graders.seen == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with open_instance(lake) as instance:
        assert [run.status.value for run in instance.get_runs(dg.RunsFilter(job_name="study"))] == [
            "SUCCESS",
            "SUCCESS",
            "FAILURE",
        ]
        # of the killed one those that it had made
        assert len(instance.fetch_materializations(dg.AssetKey("study_models"), limit=20).records) == 12


def test_estimate_tells_before_what_a_study_then_asks_and_trains(home, studied, told):
    lake = studied
    study = run_estimate(home[1], home[0], []).study
    assert (study.trainings, study.rows, study.answers) == (4, 12, 40)
    assert [(line.agent, line.stage, line.calls) for line in study.agents] == [
        ("j", "grade", len(told["study_grades"]))
    ]
    [(target, flops)] = study.flops.items()
    assert flops == pytest.approx(6 * model_size(target).parameters * study.tokens, rel=1e-3)
    paid = [
        row
        for row in read_spend(lake.journal_folder(load_config(home[1]).journal), lake.lake_id)
        if row.stage == "grade"
    ]
    assert 0 < sum(row.cost_usd for row in paid) < study.most_usd
    assert study.usd < study.most_usd
    after = run_estimate(home[1], lake, [])
    assert any("as counted in study_arms" in text for text in after.assumptions)
    rows = {arm: len(read_arm(lake, arm)) for arm in ARMS}
    assert after.study.rows == max(rows.values())


def test_estimate_of_a_run_does_not_fail_for_questions_that_are_missing(home, tmp_path):
    settings = json.loads(Path(home[1]).read_text())
    settings["study"]["evaluate"]["answers"]["questions"] = [str(tmp_path / "none.json")]
    config = tmp_path / "c.json"
    config.write_text(json.dumps(settings))
    study = run_estimate(str(config), home[0], []).study
    assert (study.answers, study.usd, study.trainings) == (None, None, 4)
    assert "none.json" in study.problem


def make(defs, instance, asset, partition=None, scope=Scope()):
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[scope.key(asset)],
        partition_key=partition,
        raise_on_error=False,
    )


def failed(result):
    [event] = [event for event in result.all_events if event.is_step_failure]
    return event.event_specific_data.user_failure_data.description


def test_the_assets_make_what_the_command_makes(home, copied, told):
    lake = copied("assets")
    defs = build_defs(None, home[1], str(lake.root))
    models = defs.resolve_asset_graph().get(dg.AssetKey("study_models"))
    keys = models.partitions_def.get_partition_keys()
    assert sorted(keys) == ["longest|0", "longest|1", "seeds|0", "seeds|1"]
    with dg.DagsterInstance.ephemeral() as instance:
        assert "has no training set of seeds, longest; materialise study_arms" in failed(
            make(defs, instance, "study_models", keys[0])
        )
        assert make(defs, instance, "study_arms").success
        for key in keys[1:]:
            assert make(defs, instance, "study_models", key).success
        said = failed(make(defs, instance, "study_results"))
        arm, seed = keys[0].split("|")
        assert f"is not tuned on the arm {arm} as it is now with seed {seed}; expected its folder" in said
        assert not lake.has_table(STUDY_RESULTS)
        made = make(defs, instance, "study_models", keys[0])
        [event] = made.get_asset_materialization_events()
        shown = {name: value.value for name, value in event.materialization.metadata.items()}
        assert shown["rows"] == 12
        assert shown["updates"] == 3
        assert shown["mean_loss"] > 0
        assert shown["model"].startswith(str(lake.study / "models"))
        results = make(defs, instance, "study_results")
        assert results.success
        [event] = results.get_asset_materialization_events()
        shown = {name: value.value for name, value in event.materialization.metadata.items()}
        assert shown["conclusion"]
        assert all(f"- {row['words']}" in shown["words"] for row in told["study_results"])
        [picture] = [value for name, value in shown.items() if name.startswith("plot_")]
        assert "data:image/svg+xml" in picture
    [check] = results.get_asset_check_evaluations()
    assert (check.check_name, check.severity) == ("an_arm_is_better", dg.AssetCheckSeverity.WARN)
    rows = [row for row in study_rows(lake, STUDY_RESULTS) if row.part == "all"]
    ahead, behind = ([row for row in rows if row.shown == shown] for shown in ("better", "worse"))
    assert check.passed == (bool(ahead) and not behind)
    assert any(row.words in check.description for row in rows)
    assert tables(lake) == told
    with open_inspection(lake) as database:
        assert database.execute("SELECT words FROM study_results").fetchall() == [
            (row.words,) for row in study_rows(lake, STUDY_RESULTS)
        ]


def test_the_job_makes_all_of_it_in_one_run_and_the_ui_shows_each_asset_as_made(home, studied, tmp_path, told):
    lake = Lake.at(tmp_path / "job")  # with the models, which are taken
    shutil.copytree(str(studied.root), str(lake.root))
    for spec in STUDY_TABLES:
        lake.table(spec).unlink()
    scope = Scope(("x",))  # as of one of several lakes in a project
    defs = build_defs(None, home[1], str(lake.root), scope.prefix)
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("x_study").execute_in_process(instance=instance).success
        assert tables(lake) == told
        assert instance.get_materialized_partitions(scope.key("study_models")) == {
            f"{arm}|{seed}" for arm in ARMS for seed in (0, 1)
        }
        for name in ("study_arms", "study_results"):
            assert instance.get_latest_materialization_event(scope.key(name))
        event = instance.get_latest_materialization_event(scope.key("study_results"))
        again = make(defs, instance, "study_results", scope=scope)  # and the asset by itself comes to the same version
        [mine] = again.get_asset_materialization_events()
        version = "dagster/data_version"
        assert event.asset_materialization.tags[version] == mine.materialization.tags[version]


def test_no_job_of_the_loop_and_no_automation_makes_a_study(home):
    defs = build_defs(None, home[1], str(home[0].root))
    study = {dg.AssetKey(name) for name in ("study_arms", "study_models", "study_results")}
    graph = defs.resolve_asset_graph()
    assert study <= graph.get_all_asset_keys()
    for job in ("calibrate", "take_in_seeds", "process_shard", "publish", "resample", "rescore", "rejudge"):
        assert not study & defs.resolve_job_def(job).asset_layer.executable_asset_keys
    assert {graph.get(key).automation_condition for key in study} == {None}
    for sensor in defs.sensors:
        if isinstance(sensor, dg.AutomationConditionSensorDefinition):
            assert not study & sensor.asset_selection.resolve(graph)


def test_without_the_extra_the_run_ends_with_the_command_that_installs_it(home, copied, monkeypatch):
    lake = copied("bare")
    defs = build_defs(None, home[1], str(lake.root))
    find = __import__("importlib.util").util.find_spec
    with dg.DagsterInstance.ephemeral() as instance:
        assert make(defs, instance, "study_arms").success
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, *more: None if name == "trl" else find(name, *more)
        )
        said = failed(make(defs, instance, "study_models", "seeds|0"))
    assert said == 'tuning needs the package trl, which is not installed; pip install "star-pipeline[study]"'


def test_a_study_at_the_console_and_the_assets_keep_each_other_out(home, copied):
    lake = copied("held")
    with FileLakeLock(lake).hold_study("somebody"):
        code = (
            "import sys; from star_pipeline.adapters.lake import Lake; from star_pipeline.adapters.lock import FileLakeLock\n"
            "with FileLakeLock(Lake.at(sys.argv[1])).hold_study('run 1'): pass"
        )
        done = subprocess.run([sys.executable, "-c", code, str(lake.root)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "is being studied by somebody (process " in done.stderr
