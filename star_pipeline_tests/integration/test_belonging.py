"""One stage of a shard made again alone, as a click in the UI does: nothing that contradicts itself is published, and it is mended."""

import json
import shutil
import subprocess
import sys
import textwrap

import dagster as dg
import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.consistency import misfits
from star_pipeline.adapters.dataset_files import dataset_problem, read_manifest
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.adapters.snapshots import stale_tables
from star_pipeline.commands.doctor import _dataset
from star_pipeline.commands.export import export
from star_pipeline.core import tables
from star_pipeline.core.errors import LakeError
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.instance import open_instance
from star_pipeline_tests.commands.test_run import Lakeside, prefers_a
from star_pipeline_tests.conftest import fake_resources, say, seed_rows

pytestmark = pytest.mark.slow
FIRST, SECOND = "000001-seeds", "000002-seeds"


class Clicked(Lakeside):
    """A lake of two shards, done and published, and clicks in the UI."""

    def __init__(self, folder):
        super().__init__(folder)
        self.ease = 1.0  # every gap is positive, so that every verdict counts

    def click(self, job, shard, assets=None, script=prefers_a, ease=1.0):
        """The line of the failure, or nothing where the run ended well."""
        settings, root = SettingsResource(config=str(self.config)), LakeResource(root=str(self.lake.root))
        defs = build_defs(fake_resources(settings, root, script, ease=ease), str(self.config), str(self.lake.root))
        with open_instance(self.lake) as instance:
            result = defs.resolve_job_def(job).execute_in_process(
                instance=instance,
                partition_key=shard,
                asset_selection=[dg.AssetKey(name) for name in assets] if assets else None,
                raise_on_error=False,
            )
        failed = [event for event in result.all_events if event.is_step_failure]
        return failed[0].step_failure_data.user_failure_data.description if failed else ""

    def published(self):
        return {path.name: path.read_bytes() for path in (self.lake.root / "star_dataset").iterdir()}

    def contradictions(self):
        found = []
        for shard in (FIRST, SECOND):
            given = {row.candidate_id: row.pi_llm for row in self.lake.read_table(tables.JUDGE_VERDICTS, shard)}
            held = self.lake.read_table(tables.COMPOSITE_SCORES, shard)
            found += [row for row in held if given.get(row.candidate_id, row.pi_llm) != row.pi_llm]
        return found


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    made = Clicked(tmp_path_factory.mktemp("done"))
    made.seeds(seed_rows(8))
    made.run()
    return made.config.parent


@pytest.fixture
def side(done, tmp_path):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return Clicked(tmp_path)


def test_verdicts_made_again_alone_are_not_published_and_named_by_doctor_and_mended_by_run_without_a_call(
    side, tmp_path
):
    before = side.published()
    assert side.click("process_shard", FIRST, ["judge_verdicts"]) == ""
    assert side.contradictions()
    for assets in (None, ["star_dataset"]):
        said = side.click("publish", None, assets)
        assert f"composite_scores[{FIRST}] was made from other judge_verdicts than are there now" in said
        assert "star-pipeline run" in said
        assert "\n" not in said
    assert side.published() == before
    assert [good for good, text in _dataset(side.lake) if f"composite_scores[{FIRST}]" in text] == [False]
    with pytest.raises(LakeError, match="left out 4: shard not done"):  # the second shard's give no pairs anyway
        export(side.lake, "preference", str(tmp_path / "pairs.jsonl"))
    outcome = side.run(prefers_a)
    assert (outcome.published, side.asked, side.contradictions()) == (True, 0, [])
    assert (list(stale_tables(side.lake))[1:], dataset_problem(side.lake, read_manifest(side.lake))) == ([], "")
    assert side.run(prefers_a).idle


@pytest.mark.parametrize(
    ("assets", "ease", "misfit"),
    [
        (["ifd_scores"], 2.0, "judge_verdicts[000001-seeds] was made from other ifd_scores"),
        (["candidates"], 1.0, "ifd_scores[000001-seeds] was made from other candidates"),
    ],
)
def test_what_is_paid_or_scored_again_alone_is_not_published_either(side, assets, ease, misfit):
    before = side.published()
    assert side.click("process_shard", FIRST, assets, lambda request: f"other {say(request)}", ease) == ""
    assert misfit in side.click("publish", None)
    assert side.published() == before
    assert side.run().shards[0] == FIRST
    assert not [misfit for shard in (FIRST, SECOND) for misfit in misfits(side.lake, shard)]


def test_tables_that_do_not_say_what_they_were_made_from_are_judged_by_what_they_hold(side):
    for spec in tables.SHARD_TABLES:  # as an earlier version wrote them
        path = str(side.lake.table(spec, FIRST))
        table = pq.read_table(path)
        kept = {
            key: value for key, value in table.schema.metadata.items() if key not in (b"data_version", b"made_from")
        }
        pq.write_table(table.replace_schema_metadata(kept), path)
    assert misfits(side.lake, FIRST) == []
    assert side.click("publish", None) == ""
    side.click("process_shard", FIRST, ["judge_verdicts"])
    assert [str(found) for found in misfits(side.lake, FIRST)] == [
        f"composite_scores[{FIRST}] was made from other judge_verdicts than are there now"
    ]
    side.click("process_shard", SECOND, ["ifd_scores"], ease=2.0)
    assert {found.table for found in misfits(side.lake, SECOND)} == {"judge_verdicts", "composite_scores"}


def test_an_unchanged_judge_publishes_nothing_again(side):
    before = side.published(), side.lake.inspection.read_bytes()
    outcome = side.run(rejudge=["all"])
    assert (outcome.shards, outcome.published) == ((FIRST, SECOND), False)
    assert (side.published(), side.lake.inspection.read_bytes()) == before
    assert side.run(prefers_a, rejudge=["all"]).published


def test_a_paid_plan_that_would_be_another_one_now_is_told_by_doctor_and_a_query(side):
    side.run(prefers_a, rejudge=[FIRST])
    [told] = stale_tables(side.lake)
    assert (told.shard, told.asset) == (SECOND, "sampling_plan")
    assert all(good for good, _ in _dataset(side.lake))
    import duckdb

    with duckdb.connect(str(side.lake.inspection), read_only=True) as database:
        assert database.execute("SELECT shard, asset, because, remedy FROM out_of_date").fetchall() == [
            (told.shard, told.asset, told.because, told.remedy)
        ]


PUBLISHER = """
    import sys
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.lock import FileLakeLock
    from star_pipeline.adapters.dataset_files import write_dataset
    lake, word = Lake.at(sys.argv[1]), sys.argv[2]
    for number in range(40):
        with FileLakeLock(lake).hold_publishing(word):
            write_dataset(lake, f"{word} {number}".encode() * 1000, f"{word} {number}".encode(), {"data": {"rows": 1}, "by": word})
"""


def test_two_publishers_never_leave_data_card_and_manifest_of_different_runs(side):
    command = [sys.executable, "-c", textwrap.dedent(PUBLISHER), str(side.lake.root)]
    both = [subprocess.Popen([*command, word]) for word in ("one", "two")]
    assert [process.wait(600) for process in both] == [0, 0]
    card, told = side.lake.dataset_card.read_text(), json.loads(side.lake.dataset_manifest.read_text())
    assert (card, dataset_problem(side.lake, told)) == (f"{told['by']} 39", "")


def test_the_memory_bank_follows_the_scores(side):
    side.click("process_shard", FIRST, ["judge_verdicts", "composite_scores"])
    assert side.run(prefers_a).shards[0] == FIRST
    bank = LanceMemoryBank(str(side.lake.memory_bank), side_embedding(side))
    best = {row.candidate_id for row in side.lake.read_table(tables.COMPOSITE_SCORES, FIRST) if row.selection == "best"}
    instructions = {row.candidate_id: row.instruction for row in side.lake.read_table(tables.CANDIDATES, FIRST)}
    assert set(bank.kept_vectors(instructions)) == best


def side_embedding(side):
    from star_pipeline.config import load_config

    return load_config(str(side.config)).memory.embedding
