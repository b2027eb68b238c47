"""What ``run`` does on a living lake: after edits, losses, kills and other configurations. LLMs and models are fakes."""

import io
import json
import shutil
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from rich.console import Console

from star_pipeline.adapters.fakes import ScriptedChat
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.commands.run import RunFailed, run_pipeline
from star_pipeline.commands.summary import print_summary
from star_pipeline.core import tables
from star_pipeline.core.errors import AgentDown, ConfigError, SeedError
from star_pipeline.defs.resources import ChatResource, LakeResource, SettingsResource
from star_pipeline.instance import open_instance
from star_pipeline_tests.conftest import CONFIG, fake_resources, say, seed_rows


def prefers_a(request):
    """A judge that sees which answer comes from agent a."""
    if not request.template.startswith("judge"):
        return say(request)
    text = request.messages[-1].content
    border = "[Start of Assistant B's" if "Assistant B" in text else "[Start of Sample B's"
    first, second = ("\na on respond" in part for part in text.split(border, 1))
    return "[C]" if first == second else "[A]" if first else "[B]"


class Notes:
    def __init__(self):
        self.said = []

    def stage(self, name, total, later=0.0): ...

    def advance(self, count=1): ...

    def note(self, text):
        self.said.append(text)


class Lakeside:
    """A lake that is run with fakes; ``asked`` counts the LLM requests of the last run, ``ease`` is the fake scorer's."""

    def __init__(self, folder):
        self.lake, self.config = Lake.at(folder / "lake"), folder / "config.yaml"
        self.ease = 0.0
        self.configure()

    def configure(self, **changes):
        self.config.write_text(json.dumps({**CONFIG, **changes}))

    def seeds(self, rows, name="seeds.json"):
        self.lake.write_bytes(self.lake.seeds / name, json.dumps(rows).encode())

    def run(self, script=say, **again):
        chats, settings = [], SettingsResource(config=str(self.config))

        class Chat(ChatResource):
            def chat(self):
                chats.append(ScriptedChat(script))
                return chats[-1]

        fakes = fake_resources(settings, LakeResource(root=str(self.lake.root)), ease=self.ease)
        self.notes = Notes()
        outcome = run_pipeline(
            str(self.config),
            self.lake,
            [],
            self.notes,
            {**fakes, "chat": Chat(settings=settings, lake=fakes["chat"].lake)},
            again,
        )
        self.asked = sum(len(chat.requests) for chat in chats)
        return outcome

    def files(self):
        """Content of every table file."""
        root = Path(str(self.lake.root))
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted((root / "tables").rglob("*.parquet"))}


@pytest.fixture
def side(tmp_path):
    made = Lakeside(tmp_path)
    made.seeds(seed_rows(12))
    return made


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of the same lake, run once: three shards, done and published."""
    made = Lakeside(tmp_path_factory.mktemp("done"))
    made.seeds(seed_rows(12))
    made.run()
    return made.config.parent


@pytest.fixture
def finished(done, tmp_path):
    """A copy of it, to do with as one likes."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return Lakeside(tmp_path)


def test_a_second_run_is_idle_and_asks_nothing(side):
    assert side.run().shards == ("000001-seeds", "000002-seeds", "000003-seeds")
    assert side.asked > 30
    before = side.files()
    assert side.run().idle
    assert (side.asked, side.files()) == (0, before)


def test_a_lost_table_is_made_again_from_there_and_later_snapshots_are_refolded_without_a_call(finished):
    finished.lake.table(tables.COMPOSITE_SCORES, "000001-seeds").unlink()
    assert finished.run().shards == ("000001-seeds",)
    assert finished.asked == 0
    # other verdicts in shard 1 change its snapshot, so the later ones are folded anew
    finished.lake.table(tables.JUDGE_VERDICTS, "000001-seeds").unlink()
    outcome = finished.run(prefers_a)
    assert outcome.shards == side_shards(finished)
    assert [said for said in finished.notes.said if "the snapshot before" in said] == [
        f"shard {shard} ({n} of 3): agent_pair_probabilities, the snapshot before has changed"
        for n, shard in enumerate(side_shards(finished)[1:], 2)
    ]
    chain = [finished.lake.read_table(tables.AGENT_PAIR_PROBABILITIES, shard)[0] for shard in side_shards(finished)]
    assert [row.parent_snapshot_id for row in chain[1:]] == [row.snapshot_id for row in chain[:-1]]


def side_shards(side):
    return tuple(side.lake.catalog_shards())


def test_a_lost_dagster_instance_costs_nothing(finished):
    before = finished.files()
    shutil.rmtree(str(finished.lake.dagster_home))
    finished.run()
    assert finished.asked == 0
    assert finished.files() == before
    with open_instance(finished.lake) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("candidates")) == set(side_shards(finished))


def test_a_lost_memory_bank_is_filled_again_without_a_call(finished):
    shutil.rmtree(str(finished.lake.memory_bank))
    finished.run()
    assert finished.asked == 0
    best = sum(
        row.selection == "best"
        for shard in side_shards(finished)
        for row in finished.lake.read_table(tables.COMPOSITE_SCORES, shard)
    )
    embedding = "sentence-transformers/all-MiniLM-L6-v2"
    assert len(LanceMemoryBank(str(finished.lake.memory_bank), embedding).nearest([[0.1] * 64], 100, 99)[0]) == best


def test_manifests_that_no_catalogue_knows_do_not_stand_in_the_way(finished):
    orphan = finished.lake.table(tables.SHARD_MANIFEST, "000004-zzz")
    orphan.write_bytes(finished.lake.table(tables.SHARD_MANIFEST, "000001-seeds").read_bytes())
    finished.seeds(seed_rows(2, offset=50), "more.json")
    assert finished.run().shards == ("000004-more",)
    assert not orphan.exists()


def test_seeds_that_left_before_their_shard_was_drawn_are_not_paid_for_and_may_come_back(side):
    def down(request):
        raise AgentDown("agent a has not answered once")

    with pytest.raises(RunFailed, match="has not answered once"):
        side.run(down)
    side.lake.seeds.joinpath("seeds.json").unlink()
    side.seeds(seed_rows(3, offset=90), "right.json")
    for shard in side_shards(side):
        side.lake.table(tables.SAMPLING_PLAN, shard).unlink(missing_ok=True)
    outcome = side.run()
    assert len(outcome.shards) == 4
    assert side.asked < 40
    assert [len(side.lake.read_table(tables.CANDIDATES, shard)) for shard in side_shards(side)[:3]] == [0, 0, 0]
    assert len(side.lake.read_table(tables.STAR_DATASET)) == 3
    side.seeds(seed_rows(12))
    side.run()
    assert len(side.lake.read_table(tables.STAR_DATASET)) == 15


def test_a_plan_that_nobody_paid_for_is_drawn_again_by_another_configuration(side):
    def down(request):
        raise AgentDown("agent b has not answered once")

    with pytest.raises(RunFailed):
        side.run(down)
    only_a = {"sampled": ["keep+a", "a+a"], "base": ["keep+a"]}
    side.configure(pairs=only_a, agents={"a": {"model": "hosted_vllm/a"}}, judge={"agent": "a"})
    side.run()
    assert {row.response_agent for row in side.lake.read_table(tables.SAMPLING_PLAN, "000001-seeds")} == {"a", "seed"}


def test_a_paid_plan_stays_when_the_pairs_change_and_the_new_pair_enters_at_its_share(finished):
    before = finished.files()
    finished.seeds(seed_rows(2, offset=50), "more.json")
    finished.configure(pairs={"sampled": ["keep+a", "b+a", "a+b", "b+b", "a+a"], "base": ["keep+b"]})
    assert finished.run().shards == ("000004-more",)
    assert {
        name: content for name, content in finished.files().items() if "000004" not in name and name.count("/") == 2
    }.items() <= before.items()
    plan = finished.lake.read_table(tables.AGENT_PAIR_PROBABILITIES, "000004-more")
    assert {row.pair_id: row.probability_before for row in plan}["a+a"] == pytest.approx(1 / 5)


def test_bad_rows_are_kept_with_their_reason_where_skipping_is_asked(side):
    side.seeds([*seed_rows(2, offset=70), {"instruction": 5, "output": "x"}], "mixed.json")
    with pytest.raises(SeedError, match=r"mixed\.json, row 3, field 'instruction'"):
        side.run()
    side.configure(seeds={"on_bad_row": "skip"})
    outcome = side.run()
    assert len(outcome.update.rejected) == 1
    [row] = side.lake.read_table(tables.REJECTED_ROWS)
    assert (row.source, row.source_row) == ("mixed.json", 3)
    assert "expected text" in row.reason


def test_half_a_character_in_a_reply_is_one_failed_row_not_a_lost_shard(side):
    side.run(lambda request: "half \ud83d" if request.agent == "a" and request.template == "respond" else say(request))
    rows = [row for shard in side_shards(side) for row in side.lake.read_table(tables.CANDIDATES, shard)]
    assert {row.error_kind for row in rows if row.pair_id.endswith("+a")} <= {"malformed_reply"}
    assert any(row.status == "failed" for row in rows)
    assert len(side.lake.read_table(tables.STAR_DATASET)) == 12


def test_a_partial_file_of_a_killed_process_is_swept(side):
    partial = side.lake.root / "tables" / "candidates" / f".000001-seeds.parquet.{2**22 + 1}.partial"
    side.lake.write_bytes(partial, b"half")
    side.run()
    assert not partial.exists()


def test_a_shard_is_judged_again_when_asked_and_later_snapshots_follow_without_a_call(side):
    side.ease = 1.0  # every gap is positive, so that every verdict counts
    side.run()
    paid, before = side.asked, side.files()
    assert side.run(prefers_a, rejudge=["000002-seeds"]).shards == ("000002-seeds", "000003-seeds")
    assert 0 < side.asked < paid / 3
    same = {name for name, content in side.files().items() if before[name] == content}
    assert {name.split("/")[1] for name in same if "000002" in name} == {
        "seed_shards",
        "sampling_plan",
        "candidates",
        "ifd_scores",
        "shard_manifest",
    }
    assert {name for name in before if "000001" in name} <= same
    assert {name.split("/")[1] for name in before if "000003" in name and name not in same} == {
        "agent_pair_probabilities"
    }
    assert side.run().idle


def test_a_paid_plan_is_drawn_anew_only_when_told(finished):
    finished.configure(pairs={"sampled": ["keep+a", "a+a"], "base": ["keep+b"]})
    assert finished.run().idle
    finished.run(resample=["000003-seeds"])
    drawn = {
        row.pair_id for row in finished.lake.read_table(tables.SAMPLING_PLAN, "000003-seeds") if row.origin != "base"
    }
    assert drawn <= {"keep+a", "a+a", "seed"}
    assert "keep+a" not in {row.origin for row in finished.lake.read_table(tables.SAMPLING_PLAN, "000002-seeds")}
    assert len(finished.lake.read_table(tables.STAR_DATASET)) == 12


def test_all_shards_are_scored_again_without_generating(finished):
    plans = {
        name: content for name, content in finished.files().items() if "candidates" in name or "sampling_plan" in name
    }
    kinds = set()
    finished.run(lambda request: kinds.add(request.template) or say(request), rescore=["all"])
    assert kinds <= {"judge_answers", "judge_samples"}
    assert plans.items() <= finished.files().items()


def test_a_shard_that_is_not_there_cannot_be_made_again(finished):
    with pytest.raises(ConfigError, match=r"--rejudge 7: no such shard; expected one of 000001-seeds, .* or all"):
        finished.run(rejudge=["7"])


def test_a_damaged_table_stops_the_shard_before_anything_wrong_is_written(finished):
    shard = "000002-seeds"
    table = finished.lake.read_arrow(tables.CANDIDATES, shard)
    finished.lake.write_table(tables.CANDIDATES, table.slice(1), shard)
    finished.lake.table(tables.COMPOSITE_SCORES, shard).unlink()
    lost = table.column("candidate_id")[0].as_py()
    with pytest.raises(
        RunFailed,
        match=rf"composite_scores: candidates: 1 of \d+ candidates are missing \({lost}\); .*star-pipeline run",
    ):
        finished.run()
    assert not finished.lake.has_table(tables.COMPOSITE_SCORES, shard)
    with open_instance(finished.lake) as instance:
        [failed] = [
            record.evaluation
            for record in instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(dg.AssetKey("composite_scores"), "correct"), limit=1
            )
        ]
    assert (failed.passed, failed.blocking, failed.severity) == (False, True, dg.AssetCheckSeverity.ERROR)
    # the remedy that the line names
    finished.lake.table(tables.CANDIDATES, shard).unlink()
    finished.run()
    assert len(finished.lake.read_table(tables.STAR_DATASET)) == 12


def test_odd_shares_are_warnings_in_one_line_each_and_nothing_stops(side):
    side.configure(checks={"least_rows": 4, "fallbacks": 0.0})
    outcome = side.run(lambda request: "" if request.agent == "a" else say(request))
    said = {line.split(": ")[0]: line for line in outcome.warnings}
    assert {"candidates, failed_candidates", "composite_scores, fallbacks"} <= set(said)
    assert all("\n" not in line for line in outcome.warnings)
    assert (
        "expected at most 10% (checks.failed_candidates); look at the reasons" in said["candidates, failed_candidates"]
    )
    assert "so in 3 shards" in said["candidates, failed_candidates"]
    assert side.run().warnings == ()


def likes_the_reference(request):
    """A judge for whom no candidate is better: where the reference's gap is not positive, its seed falls back to it."""
    if not request.template.startswith("judge"):
        return say(request)
    text = request.messages[-1].content
    border = "[Start of Assistant B's" if "Assistant B" in text else "[Start of Sample B's"
    return "[A]" if "b on respond" in text.split(border, 1)[0] else "[B]"


def test_a_change_of_the_settings_under_dataset_publishes_again_without_a_call(side):
    side.run(likes_the_reference)
    tables_before = {name: content for name, content in side.files().items() if name.count("/") == 2}
    whole = side.lake.read_table(tables.STAR_DATASET)
    assert 0 < sum(row.selection != "best" for row in whole) < 12
    side.configure(dataset={"fallbacks": "drop", "top_share": 0.5})
    outcome = side.run(likes_the_reference)
    assert (outcome.published, outcome.shards, outcome.warnings, side.asked) == (True, (), (), 0)
    assert {name: content for name, content in side.files().items() if name.count("/") == 2} == tables_before
    best = sorted((row for row in whole if row.selection == "best"), key=lambda row: (-row.pi, -row.gap, row.seed_id))
    kept = {row.seed_id for row in best[: (len(best) + 1) // 2]}
    assert {row.seed_id for row in side.lake.read_table(tables.STAR_DATASET)} == kept
    left_out = side.lake.read_table(tables.LEFT_OUT_ROWS)
    assert {row.seed_id for row in left_out} == {row.seed_id for row in whole} - kept
    assert {row.reason for row in left_out} == {"fallback", "top_share"}
    said = summary_of(side, outcome)
    own = sum(row.pair_id == "seed" for row in side.lake.read_table(tables.STAR_DATASET))
    assert f"final rows {len(kept)}: " in said
    assert (f" {own} unchanged seed" in said) == bool(own)
    assert "By mean π no sampled pair is clearly ahead" in said
    assert f"{12 - len(kept)} left out by the settings under dataset" in said
    assert "have no row" not in said
    assert side.run().idle
    side.configure()
    side.run()
    assert side.lake.read_table(tables.STAR_DATASET) == whole
    assert side.lake.read_table(tables.LEFT_OUT_ROWS) == []
    with open_instance(side.lake) as instance:
        made = instance.fetch_materializations(dg.AssetKey("task_domains"), limit=3).records
    computed = [record.asset_materialization.metadata["embeddings_computed"].value for record in reversed(made)]
    assert computed == [sum(row.selection != "best" for row in whole), 0, 0]


def summary_of(side, outcome):
    console = Console(width=200, record=True, file=io.StringIO())
    assert print_summary(console, side.lake, outcome)
    return " ".join(console.export_text().split())


def test_near_duplicates_above_the_limit_are_left_out(side):
    side.configure(dataset={"near_duplicates": 1, "near_duplicate_similarity": 0.5})
    side.run()
    domains = {row.seed_id: row.near_duplicate_of for row in side.lake.read_table(tables.TASK_DOMAINS)}
    assert 0 < len(set(domains.values())) < 12
    assert {row.seed_id for row in side.lake.read_table(tables.STAR_DATASET)} == set(domains.values())
    side.configure(dataset={"near_duplicates": 1, "near_duplicate_similarity": 1.0})
    side.run()
    assert side.lake.read_table(tables.LEFT_OUT_ROWS) == []


def test_a_data_set_from_which_everything_is_left_out_is_empty_and_said(side):
    side.configure(dataset={"min_pi": 1.0})
    outcome = side.run()
    assert any(
        "the final data set is empty: all 12 rows were left out (12 by min_pi)" in line for line in outcome.warnings
    )
    assert side.lake.read_table(tables.STAR_DATASET) == []
    assert "12 left out" in summary_of(side, outcome)


def test_an_inspection_file_of_another_version_or_none_of_ours_is_made_again(finished):
    path = finished.lake.local(finished.lake.inspection)
    with duckdb.connect(path) as database:
        database.execute("CREATE OR REPLACE MACRO layout() AS 'another'")
    assert (finished.run().published, finished.asked) == (True, 0)
    Path(path).write_bytes(b"half")
    assert (finished.run().published, finished.asked) == (True, 0)
    assert not finished.run().published
    with duckdb.connect(path, read_only=True) as database:
        assert database.execute("SELECT count(*) FROM pair_leaderboard").fetchone()[0] > 0


def test_a_data_set_that_is_not_what_its_manifest_names_is_published_again(finished):
    files = {path: path.read_bytes() for path in Path(str(finished.lake.root), "star_dataset").iterdir()}
    assert {path.name for path in files} == {"star_dataset.parquet", "README.md", "manifest.json"}
    for path in files:
        path.write_bytes(b"half")
        outcome = finished.run()
        assert (outcome.published, finished.asked) == (True, 0)
        assert {path: path.read_bytes() for path in files} == files
