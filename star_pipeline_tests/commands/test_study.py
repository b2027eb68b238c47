"""A study's arms of a lake with something of everything, against a program of its own on the Parquet files."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.adapters.progress import LineProgress
from star_pipeline.adapters.snapshots import stale_tables
from star_pipeline.adapters.study_arms import make_arms
from star_pipeline.adapters.study_files import read_arm, studied_since, study_rows
from star_pipeline.cli import app
from star_pipeline.commands.run import run_pipeline
from star_pipeline.commands.study import run_study
from star_pipeline.config import load_config
from star_pipeline.core.errors import ConfigError, LakeBusy, LakeError, StarError
from star_pipeline.core.study.flow import Measured, TunedModel
from star_pipeline.core.study.names import RULES
from star_pipeline.core.study.records import StudyLoss
from star_pipeline.core.study.tables import STUDY_ARMS, STUDY_LEFT_OUT, STUDY_RESULTS
from star_pipeline.core.tables import CANDIDATES, SHARD_TABLES
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.inspection.build import open_inspection
from star_pipeline.instance import fail_dead_runs, open_instance
from star_pipeline.instance.processes import why_dead
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.elsewhere import kill, on, require_namespaces
from star_pipeline_tests.inspection.conftest import mixed

TEXT = "Name the seven hills on which the old city stands and say in a word what each is known for today."
SYSTEM = {"system": "Be brief.", "history": [["Hello", "Good day"]]}


def configured(folder: Path, name: str = "c", **study) -> str:
    models = {"a": "hosted_vllm/one", "b": "hosted_vllm/two", "j": "hosted_vllm/three"}
    settings = {
        **CONFIG,
        "agents": {agent: {"model": model} for agent, model in models.items()},
        "sampling": {"pairs_per_seed": 3, "from_memory": 1, "shard_size": 16, "seed": 5},
        "judge": {"agent": "j"},
        "study": {"arms": list(RULES), **study},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(settings))
    return str(path)


def run(lake: Lake, config: str, rows) -> None:
    lake.prepare()
    lake.write_bytes(lake.seeds / "seeds.json", json.dumps(rows).encode())
    settings, root = SettingsResource(config=config), LakeResource(root=str(lake.root))
    run_pipeline(config, lake, [], LineProgress(), fake_resources(settings, root, mixed, 0.3))


SEEDS = [
    *seed_rows(36),
    {"instruction": "Say something of your own accord.", "input": "", "output": ""},
    {"instruction": f"Please: {TEXT}", "input": "", "output": "I will not."},
    *({**row, **SYSTEM} for row in seed_rows(4, 60)),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A lake that was run, its folder, and a file of questions of which two are in the seeds."""
    folder = tmp_path_factory.mktemp("study")
    asked = [
        {"question_id": 81, "category": "x", "turns": [TEXT, "Shorter."]},
        {"prompt": "explain topic 3 in 5 sentences"},
    ]
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)))
    lake = Lake.at(folder / "lake")
    run(lake, configured(folder), SEEDS)
    return folder, lake


def words_counted(texts):
    return [max(len(text.split()), 1) for text in texts]


@pytest.fixture
def made(home, tmp_path):
    """Of a configuration of the study: the lake, what was made, and each arm's rows off its file."""
    folder, lake = home
    copy = Lake.at(tmp_path / "lake")
    shutil.copytree(str(lake.root), str(copy.root))

    def make(**study):
        settings = load_config(configured(folder, "s", **study))
        found = make_arms(copy, settings, LineProgress(), words_counted)
        arms = {arm.arm: pq.read_table(str(copy.arm(arm.arm))).to_pylist() for arm in found.arms}
        return copy, found, arms

    return make


def plainly(lake: Lake, rule: str) -> dict[str, str | None]:
    """seed_id -> candidate_id by the rule alone, in SQL on the Parquet files; None: no candidate has a value."""
    tables = {
        name: f"read_parquet('{lake.root}/tables/{name}/*.parquet')"
        for name in ("candidates", "ifd_scores", "composite_scores")
    }
    value = {
        "longest": "n_tokens_small",
        "ifd": "ifd_small",
        "likely": "-nll_given_small",
        "judge": "nullif(greatest(pi_llm, 0), 0)",
        "gap": "nullif(greatest(pi_dual, 0), 0)",
        "random": "1.0",
    }[rule]
    second = {"gap": "coalesce(s.gap, 0) DESC,", "random": "drawn(candidate_id),"}.get(rule, "")
    with duckdb.connect() as database:
        database.create_function(
            "drawn",
            lambda name: hashlib.sha256(f'["study",5,"{name}"]'.encode()).hexdigest()[:16],
            ["VARCHAR"],
            "VARCHAR",
        )
        return dict(
            database.execute(
                f"SELECT seed_id, candidate_id FROM (SELECT c.seed_id, candidate_id, {value} AS value, row_number() OVER "
                f"(PARTITION BY c.seed_id ORDER BY {value} DESC NULLS LAST, {second} candidate_id) AS place "
                f"FROM {tables['candidates']} c JOIN {tables['ifd_scores']} i USING (candidate_id) "
                f"JOIN {tables['composite_scores']} s USING (candidate_id) WHERE c.status = 'ok' AND trim(c.response) <> '') "
                "WHERE place = 1 AND value IS NOT NULL"
            ).fetchall()
        )


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in ("seeds", "star")])
def test_an_arm_is_what_a_program_of_its_own_chooses_from_the_parquet_files(made, rule):
    lake, _, arms = made()
    wanted = plainly(lake, rule)
    chosen = {row["seed_id"]: row["candidate_id"] for row in arms[rule] if row["choice"] == "rule"}
    assert chosen == {
        seed: candidate for seed, candidate in wanted.items() if seed in {r["seed_id"] for r in arms[rule]}
    }
    assert len(chosen) > 20
    fallen = [row for row in arms[rule] if row["choice"] != "rule"]
    with duckdb.connect() as database:
        slots = dict(
            database.execute(
                f"SELECT seed_id, any_value(candidate_id) FILTER (slot = 0 AND status = 'ok') FROM read_parquet('{lake.root}/tables/"
                "candidates/*.parquet') GROUP BY seed_id"
            ).fetchall()
        )
    for row in fallen:
        reference = slots[row["seed_id"]]
        assert row["choice"] == ("fallback_base" if reference else "fallback_seed")
        assert reference in (None, row["candidate_id"])


def test_the_texts_are_the_candidates_and_star_is_the_final_data_set(made):
    lake, _, arms = made()
    with duckdb.connect() as database:
        made_of = f"read_parquet('{lake.root}/tables/candidates/*.parquet')"
        texts = {
            c: (i, r)
            for c, i, r in database.execute(f"SELECT candidate_id, instruction, response FROM {made_of}").fetchall()
        }
        star = {
            row[0]: row[1:]
            for row in database.execute(
                f"SELECT seed_id, instruction, response, messages FROM '{lake.root}/star_dataset/star_dataset.parquet'"
            ).fetchall()
        }
        own = {s: (i, r) for s, i, r in database.execute(
            f"SELECT seed_id, instruction, response FROM read_parquet('{lake.root}/tables/seed_shards/*.parquet')"
        ).fetchall()}  # fmt: skip
    for name, rows in arms.items():
        for row in rows:
            said = row["instruction"], row["response"]
            wanted = (
                own[row["seed_id"]] if row["candidate_id"] is None or name == "seeds" else texts[row["candidate_id"]]
            )
            assert said == wanted
            assert [m["role"] for m in row["messages"]][-2:] == ["user", "assistant"]
            assert tuple(m["content"] for m in row["messages"][-2:]) == said
            assert row["n_tokens"] == max(len(row["response"].split()), 1)
    for row in arms["star"]:
        assert (row["instruction"], row["response"], row["messages"]) == star[row["seed_id"]]
    with_system = [row for row in arms["random"] if row["messages"][0]["role"] == "system"]
    assert {tuple(m["content"] for m in row["messages"][:3]) for row in with_system} == {
        ("Be brief.", "Hello", "Good day")
    }
    assert len(with_system) == 4


def test_every_arm_has_the_same_seeds_in_the_same_order_and_what_is_left_out_is_listed(made, home):
    asked = str(home[0] / "asked.jsonl")
    lake, found, arms = made(evaluate={"answers": {"questions": [asked]}})
    orders = {tuple(row["seed_id"] for row in rows) for rows in arms.values()}
    assert len(orders) == 1
    assert len(next(iter(orders))) == len(SEEDS) - 3
    assert found.questions == 2
    left = study_rows(lake, STUDY_LEFT_OUT)
    assert sorted(row.reason for row in left) == ["empty_response", "overlap", "overlap"]
    details = " ".join(row.detail for row in left)
    assert "the seed shares with question 81 of asked.jsonl: name the seven hills on which" in details
    assert "question 2 of asked.jsonl: explain topic 3 in 5 sentences" in details
    told = study_rows(lake, STUDY_ARMS)
    assert [row.arm for row in told] == list(RULES)
    for row in told:
        assert (row.rows, row.tokens) == (len(arms[row.arm]), sum(r["n_tokens"] for r in arms[row.arm]))
        assert (row.left_out_overlap, row.left_out_empty, row.left_out_elsewhere) == (2, 1, 0)
    assert {row.arm: row.as_star for row in told}["star"] == len(arms["star"])
    assert {row.arm: row.own for row in told}["seeds"] == len(arms["seeds"])


def test_an_arm_is_the_same_whatever_others_are_asked_for_and_on_every_run(made):
    _, whole, _ = made()
    _, again, _ = made()
    lake, two, _ = made(arms=["ifd", "random"])
    digests = {arm.arm: arm.digest for arm in whole.arms}
    assert {arm.arm: arm.digest for arm in again.arms} == digests
    assert {arm.arm: arm.digest for arm in two.arms} == {name: digests[name] for name in ("ifd", "random")}
    assert {path.stem for path in (lake.study / "arms").glob("*.parquet")} == {"ifd", "random"}
    assert len(set(digests.values())) > 5


def test_of_equal_tokens_each_arm_ends_within_a_row_of_the_shortest(made):
    _, whole, rows_before = made()
    _, found, arms = made(equalise="tokens")
    least = min(arm.tokens for arm in whole.arms)
    order = sorted((row["seed_id"] for row in rows_before["star"]), key=lambda seed: hashlib.sha256(
        f'["study",5,"{seed}"]'.encode()).hexdigest()[:16])  # fmt: skip
    for arm in found.arms:
        rows = arms[arm.arm]
        assert arm.tokens == sum(row["n_tokens"] for row in rows) <= least
        kept = {row["seed_id"] for row in rows}
        assert kept == set(order[: len(kept)])
        if arm.left_out_tokens:
            [following] = [r for r in rows_before[arm.arm] if r["seed_id"] == order[len(kept)]]
            assert arm.tokens + following["n_tokens"] > least
    assert any(arm.left_out_tokens for arm in found.arms)
    assert any(arm.tokens == least for arm in found.arms)


def another(lake: Lake, folder: Path) -> Lake:
    """A lake of the same seeds but for the last shard's, in which every candidate says something else."""
    other = Lake.at(folder)
    shutil.copytree(str(lake.root / "tables"), str(other.root / "tables"))
    shard = lake.shards_of(CANDIDATES)[-1]
    for spec in SHARD_TABLES:
        other.table(spec, shard).unlink()
    for path in Path(str(other.root), "tables").glob("*/*.parquet"):
        # without what the files say of each other, they are judged by their content alone
        table = pq.read_table(path).replace_schema_metadata(None)
        if path.parent.name == "candidates":
            said = pa.array([text and f"Elsewhere: {text}" for text in table["response"].to_pylist()])
            table = table.set_column(table.column_names.index("response"), "response", said)
        pq.write_table(table, path)
    return other


def test_another_lake_is_an_arm_of_the_seeds_that_both_have(made, home, tmp_path):
    other = another(home[1], tmp_path / "other")
    _, whole, before = made(arms=["seeds", "star"])
    lake, found, arms = made(arms=["seeds", "star"], lakes={"no_evolution": str(other.root)})
    last = lake.shards_of(CANDIDATES)[-1]
    wanted = {r["seed_id"]: r for r in before["star"] if r["shard"] != last}
    assert {row["seed_id"] for row in arms["no_evolution"]} == set(wanted)
    assert [row["seed_id"] for row in arms["no_evolution"]] == [row["seed_id"] for row in arms["seeds"]]
    for row in arms["no_evolution"]:
        star = wanted[row["seed_id"]]
        own = star["choice"] == "fallback_seed"
        assert row["response"] == (star["response"] if own else f"Elsewhere: {star['response']}")
        assert row["messages"][-1]["content"] == row["response"]
        assert (row["candidate_id"], row["n_tokens"]) == (star["candidate_id"], max(len(row["response"].split()), 1))
    assert [arm.rule for arm in found.arms] == ["seeds", "star", "lake"]
    assert found.arms[0].left_out_elsewhere == whole.arms[0].rows - len(wanted) > 0
    with pytest.raises(ConfigError, match=r"study\.lakes\.x: .* holds no selected rows"):
        made(lakes={"x": str(tmp_path / "nowhere")})


def test_where_every_seed_is_a_question_nothing_is_left(made, home):
    questions = home[0] / "all.json"
    questions.write_text(json.dumps([row for row in SEEDS if row["output"]]))
    with pytest.raises(StarError, match=r"no seed is left to train on \(41 overlap .*, 1 have an empty response\)"):
        made(evaluate={"held_out": [str(questions)]})


TASK = """
task: toy
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{q}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


def task(folder: Path, monkeypatch) -> dict[str, object]:
    """lm-eval's own task of three questions, each the instruction of a seed, of which two are asked."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "hub")
    rows = [
        {"q": f"explain topic {n} in {n % 7 + 2} sentences", "choices": ["Yes.", "No."], "label": 1} for n in (6, 7, 8)
    ]
    (folder / "toy.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "toy.yaml").write_text(TASK.format(file=folder / "toy.jsonl"))
    return {"tasks": ["toy"], "include_path": str(folder), "limit": 2}


def test_the_questions_of_tasks_need_lm_eval_where_there_are_some_and_are_told_where_they_cannot_be_had(
    made, tmp_path, monkeypatch
):
    wanted = task(tmp_path, monkeypatch)
    (tmp_path / "toy.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"'toy' cannot be run: .*; expected a task whose data is on this machine"):
        made(evaluate={"lm_eval": wanted})
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "lm_eval" else find(name, *more)
    )
    made()
    with pytest.raises(ConfigError, match=r"needs the package lm-eval, which is not installed; pip install"):
        made(evaluate={"lm_eval": wanted})


def test_the_command_prints_a_table_and_fills_the_inspection_file(home, tmp_path, monkeypatch):
    folder, lake = home
    asked = str(folder / "asked.jsonl")
    config = configured(
        folder,
        "cli",
        arms=["seeds", "longest", "star"],
        evaluate={"lm_eval": task(tmp_path, monkeypatch), "answers": {"questions": [asked]}},
    )
    said = CliRunner().invoke(
        app, ["study", "--arms-only", "--config", config, "--lake", str(lake.root)], catch_exceptions=False
    )
    assert said.exit_code == 0
    assert "longest" in said.stdout
    assert (
        "seeds left out of every arm: 4 overlap with the evaluation's questions, 1 have an empty response (4 questions looked for, "
        "2 of lm-eval's tasks" in said.stdout
    )
    details = " ".join(row.detail for row in study_rows(lake, STUDY_LEFT_OUT))
    assert "the seed shares with question 0 of lm-eval's toy: explain topic 6 in 8 sentences" in details
    assert "the seed shares with question 1 of lm-eval's toy: explain topic 7 in 2 sentences" in details
    [kept] = (lake.study / "measured").glob("lm_eval_questions-*.json")
    assert json.loads(kept.read_text())[0] == [
        "toy", 0, ["Question: explain topic 6 in 8 sentences\nAnswer:", "explain topic 6 in 8 sentences"], ["Yes.", "No."],
    ]  # fmt: skip
    assert said.stdout.split("\n")[-2] == f"report {lake.report}"
    assert "Does the data make a better model? nothing measured yet\n" in said.stdout
    assert b'<section id="study"' in (lake.root / "report.html").read_bytes()
    assert not studied_since(lake, lake.report)
    with open_inspection(lake) as database:
        assert database.execute("SELECT arm, rows FROM study_arms").fetchall() == [
            (arm, len(SEEDS) - 5) for arm in ("seeds", "longest", "star")
        ]
        assert database.execute("SELECT count(*) FROM study_left_out").fetchone() == (5,)
        assert database.execute("SELECT count(*) FROM study_results").fetchone() == (0,)
    make_arms(lake, load_config(config), LineProgress())
    assert studied_since(lake, lake.report)  # arms made by the asset: the next run makes the page again


def test_without_a_study_or_a_lake_that_was_run_one_line_says_what_to_do(home, tmp_path):
    with pytest.raises(ConfigError, match="no study is configured; add to the configuration a section"):
        run_study("laptop", Lake.at(tmp_path), LineProgress())
    with pytest.raises(LakeError, match=r"no shard that is done.*run: star-pipeline run"):
        run_study(configured(home[0], "e"), Lake.at(tmp_path), LineProgress())
    with pytest.raises(LakeError, match="no shard that is done"):
        run_study(configured(home[0], "e"), Lake.at(tmp_path / "none"), LineProgress())
    assert not (tmp_path / "none").exists()


def test_a_changed_arm_is_not_trained_on(made):
    lake, found, _ = made(arms=["seeds"])
    assert len(read_arm(lake, "seeds")) == found.arms[0].rows
    path = str(lake.arm("seeds"))
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(LakeError, match=r"seeds\.parquet: its rows are not those .*star-pipeline study"):
        read_arm(lake, "seeds")
    with pytest.raises(LakeError, match="is not there"):
        read_arm(lake, "star")


class _Tuner:
    """Tunes nothing: the stages that come after the arms see each training once, seed by seed."""

    def __init__(self):
        self.seen = []

    def tune(self, training):
        self.seen.append((training.seed, training.arm))
        return TunedModel(training, f"{training.digest}-{training.seed}", "")


class _Losses:
    def measure(self, models):
        better = {"star": -0.3}
        rows = [
            StudyLoss(
                m.training.target, m.training.arm, m.training.seed, f"q{n}", "q", None,
                2 + n / 7 + better.get(m.training.arm, 0) + ((n * 13 + m.training.seed) % 5) / 100, 9, "ok",
            )
            for m in models
            for n in range(12)
        ]  # fmt: skip
        return Measured(losses=rows)


def test_what_comes_after_the_arms_fits_into_one_place(home, tmp_path):
    folder, lake = home
    copy, tuner = Lake.at(tmp_path / "lake"), _Tuner()
    shutil.copytree(str(lake.root), str(copy.root))
    config = configured(folder, "seam", arms=["star", "seeds"], seeds=[1, 2])
    run_study(config, copy, LineProgress(), stages_of=lambda *_: (tuner, [_Losses()]))
    assert tuner.seen == [(1, "star"), (1, "seeds"), (2, "star"), (2, "seeds"), (1, "untuned")]
    [star] = [row for row in study_rows(copy, STUDY_RESULTS) if row.arm == "star"]
    assert (star.shown, star.baseline, star.target, star.seeds, star.n) == ("better", "seeds", "s", 2, 12)
    assert star.difference == pytest.approx(-0.3)
    with open_inspection(copy) as database:
        assert database.execute("SELECT words FROM study_results WHERE arm = 'star'").fetchone() == (star.words,)
        assert database.execute("SELECT count(*) FROM study_losses").fetchone() == (60,)


class _Stopped(_Tuner):
    """Fails, or is interrupted, at the second training."""

    def __init__(self, why):
        super().__init__()
        self.why = why

    def tune(self, training):
        if len(self.seen) == 1 and self.why == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
        elif len(self.seen) == 1:
            raise self.why
        return super().tune(training)


def recorded(lake, name):
    """The partitions of an asset of the study that Dagster knows of, and how often it was made."""
    with open_instance(lake) as instance:
        return (
            instance.get_materialized_partitions(dg.AssetKey(name)),
            len(instance.fetch_materializations(dg.AssetKey(name), limit=9).records),
        )


@pytest.mark.parametrize("why", [ConfigError("no such weights"), RuntimeError("a fault"), "Ctrl-C"])
def test_what_the_command_makes_is_recorded_as_it_comes_and_what_stops_it_is_raised_as_it_is(home, tmp_path, why):
    folder, lake = home
    copy = Lake.at(tmp_path / "lake")
    shutil.copytree(str(lake.root), str(copy.root))
    shutil.rmtree(str(copy.dagster_home), ignore_errors=True)  # what other studies of it have left there
    config = configured(folder, "rec", arms=["star", "seeds"], seeds=[1])
    given = [_Losses()]
    with pytest.raises(KeyboardInterrupt if why == "Ctrl-C" else type(why)) as raised:
        run_study(config, copy, LineProgress(), stages_of=lambda *_: (_Stopped(why), given))
    assert why == "Ctrl-C" or raised.value is why
    assert recorded(copy, "study_arms")[1] == 1
    assert recorded(copy, "study_models") == ({"star|1"}, 1)
    assert recorded(copy, "study_results")[1] == 0
    with open_instance(copy) as instance:
        [run] = instance.get_runs(dg.RunsFilter(job_name="study"))
        assert run.status.value in ("FAILURE", "CANCELED")
    run_study(config, copy, LineProgress(), stages_of=lambda *_: (_Tuner(), given))
    assert recorded(copy, "study_models") == ({"star|1", "seeds|1"}, 3)
    assert recorded(copy, "study_results")[1] == 1
    with open_instance(copy) as instance:
        [check] = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("study_results"), "an_arm_is_better"), limit=2
        )
        assert check.status.value == "SUCCEEDED"


STUDY_ELSEWHERE = """
import sys, time
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.study import run_study
class Trains:
    def tune(self, training):
        print("training", flush=True)
        time.sleep(600)
run_study(sys.argv[1], Lake.at(sys.argv[2]), SilentProgress(), stages_of=lambda *_: (Trains(), []))
"""


def test_a_study_whose_machine_died_is_failed_by_who_comes_next_and_not_before(home, tmp_path):
    require_namespaces()
    folder, lake = home
    copy, config = Lake.at(tmp_path / "lake"), configured(folder, "died", arms=["star", "seeds"], seeds=[1])
    shutil.copytree(str(lake.root), str(copy.root))
    shutil.rmtree(str(copy.dagster_home), ignore_errors=True)
    command = on("machine-a", [sys.executable, "-c", STUDY_ELSEWHERE, config, str(copy.root)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as machine, open_instance(copy) as instance:
        try:
            assert machine.stdout.readline() == "training\n"
            [run] = instance.get_runs(dg.RunsFilter(job_name="study"))
            assert (run.status, why_dead(instance, run)) == (dg.DagsterRunStatus.STARTED, None)
            with pytest.raises(LakeBusy, match=r"is being studied by star-pipeline study \(process \d+ on machine-a"):
                run_study(config, copy, LineProgress(), stages_of=lambda *_: (_Tuner(), [_Losses()]))
            with FileLakeLock(copy).hold("star-pipeline run"):  # who holds the lake itself says nothing of the study
                assert fail_dead_runs(instance) == []
        finally:
            kill(psutil.Process(machine.pid))  # by SIGKILL
        assert re.fullmatch(
            rf"process \d+ on machine-a does not study {copy.root} any more .killed.*", why_dead(instance, run)
        )
        run_study(config, copy, LineProgress(), stages_of=lambda *_: (_Tuner(), [_Losses()]))
        assert [one.status.value for one in instance.get_runs(dg.RunsFilter(job_name="study"))] == [
            "SUCCESS",
            "FAILURE",
        ]


def shown_of_the_study(lake):
    """What DuckDB, the report and ``doctor``'s source say of the results."""
    with open_inspection(lake) as database:
        dated = database.execute("SELECT DISTINCT out_of_date FROM study_summary").fetchall()
        why = database.execute("SELECT because FROM out_of_date WHERE asset = 'study_results'").fetchall()
    return dated, why, (lake.root / "report.html").read_text()


def test_results_of_other_arms_than_are_there_now_are_said_to_be_out_of_date(home, tmp_path):
    folder, lake = home
    copy = Lake.at(tmp_path / "lake")
    shutil.copytree(str(lake.root), str(copy.root))
    (folder / "more.json").write_text(json.dumps(seed_rows(1)))
    few = configured(folder, "few", arms=["star", "seeds"], evaluate={"held_out": [str(folder / "more.json")]})
    all_of_them = configured(folder, "whole", arms=["star", "seeds"])
    run_study(all_of_them, copy, LineProgress(), stages_of=lambda *_: (_Tuner(), [_Losses()]))
    run_study(all_of_them, copy, LineProgress(), arms_only=True)
    dated, why, page = shown_of_the_study(copy)
    assert (dated, why) == ([(False,)], [])  # the same rows again
    assert "Out of date" not in page
    _, _, section = run_study(few, copy, LineProgress(), arms_only=True)  # without a seed that is a question now
    dated, [[because]], page = shown_of_the_study(copy)
    assert dated == [(True,)]
    assert because == "of other training sets (star, seeds) than are there now"
    assert section.fact.value == "out of date: star is best"
    assert f"Out of date: these results are {because}; measure those with star-pipeline study" in page
    assert [(row.asset, row.remedy) for row in stale_tables(copy)] == [("study_results", "star-pipeline study")]
    run_study(few, copy, LineProgress(), stages_of=lambda *_: (_Tuner(), [_Losses()]))
    assert shown_of_the_study(copy)[:2] == ([(False,)], [])
    # an earlier version's results do not say what they were made of
    table = copy.read_arrow(STUDY_RESULTS)
    copy.write_table(STUDY_RESULTS, table.replace_schema_metadata(None))
    assert not list(stale_tables(copy))
    run_study(few, copy, LineProgress(), arms_only=True)
    assert list(stale_tables(copy))


def test_the_asset_is_in_the_graph_where_a_study_is_configured_and_makes_the_same(home, tmp_path):
    folder, lake = home
    copy = Lake.at(tmp_path / "lake")
    shutil.copytree(str(lake.root), str(copy.root))
    config = configured(folder, "asset")
    defs = build_defs(None, config, str(copy.root))
    node = defs.resolve_asset_graph().get(dg.AssetKey("study_arms"))
    assert node.group_name == "6_study"
    assert len(node.description) > 60
    assert {key.path[-1] for key in node.parent_keys} >= {"seed_catalog", "composite_scores", "candidates"}
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("study_arms")], raise_on_error=False
        )
    assert result.success
    assert len(study_rows(copy, STUDY_ARMS)) == len(RULES)
    plain = build_defs(None, "laptop", str(copy.root)).resolve_asset_graph()
    assert dg.AssetKey("study_arms") not in plain.get_all_asset_keys()
