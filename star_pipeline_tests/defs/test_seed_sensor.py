"""The seed sensor on a real lake and instance; the runs it requests are executed here, one after the other."""

import json
import os
import time

import dagster as dg
import obstore
import pytest

from star_pipeline.adapters import seed_state
from star_pipeline.adapters.fakes import ScriptedChat
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.core import tables
from star_pipeline.core.errors import AgentDown
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import ChatResource, LakeResource, SettingsResource
from star_pipeline.defs.seed_sensor import Cursor
from star_pipeline.instance import open_instance
from star_pipeline_tests.conftest import CONFIG, fake_resources, say, seed_rows


class Watched:
    """A lake that the sensor watches; ``asked`` counts the LLM requests since it was last set to 0."""

    def __init__(self, folder, root=None):
        self.lake, self.config = Lake.at(root or folder / "lake"), folder / "config.yaml"
        self.configure()
        self.instance, self.script, self.chats = open_instance(self.lake), say, []
        settings, root = SettingsResource(config=str(self.config)), LakeResource(root=str(self.lake.root))
        watched = self

        class Chat(ChatResource):
            def chat(self):
                watched.chats.append(ScriptedChat(lambda request: watched.script(request)))
                return watched.chats[-1]

        overrides = {**fake_resources(settings, root), "chat": Chat(settings=settings, lake=root)}
        self.defs = build_defs(overrides, str(self.config), str(self.lake.root))
        self.cursor, self.keys = None, []

    def configure(self, **changes):
        self.config.write_text(json.dumps({**CONFIG, "sensor": {"settle_s": 0}, **changes}))

    def seeds(self, rows, name="seeds.json"):
        path = self.lake.seeds / name
        self.lake.write_bytes(path, json.dumps(rows).encode())
        aged = (
            time.time_ns() - 3_600_000_000_000 + len(self.keys) * 1_000_000
        )  # hashes of a file just written are not kept
        os.utime(str(path), ns=(aged, aged))

    def tick(self):
        """One tick: (requests, what the tick says)."""
        resources = {name: self.defs.resources[name] for name in ("lake", "settings")}
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources) as context:
            result = self.defs.resolve_sensor_def("seed_files")(context)
        self.cursor = result.cursor
        return result.run_requests, result.skip_reason.skip_message if result.skip_reason else ""

    def execute(self, request):
        """Run what was requested, as the daemon would; a key that was there before is dropped, as the daemon does."""
        if request.run_key in self.keys:
            return None
        self.keys.append(request.run_key)
        return self.defs.resolve_job_def(request.job_name).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            tags=request.tags,
            raise_on_error=False,
        )

    def settle(self, most=30):
        """Tick and run until nothing is requested twice in a row; returns (what was run, the last tick's words)."""
        ran, quiet, said = [], 0, ""
        for _ in range(most):
            requests, said = self.tick()
            results = [(request, self.execute(request)) for request in requests]
            ran += [request.partition_key or request.job_name for request, result in results if result]
            quiet = 0 if any(result for _, result in results) else quiet + 1
            if quiet == 2:
                return ran, said
        raise AssertionError(f"the sensor goes on and on: {ran}")

    @property
    def asked(self):
        return sum(len(chat.requests) for chat in self.chats)

    def files(self, *but):
        found = (self.lake.root / "tables").rglob("*.parquet")
        return {str(path): path.read_bytes() for path in found if not any(word in str(path) for word in but)}


def test_seeds_that_another_client_puts_into_a_bucket_are_taken_in(bucket, tmp_path):
    watched = Watched(tmp_path, f"{bucket}/lake")
    other = obstore.store.from_url(f"{bucket}/lake/seeds", client_options={"allow_http": True})
    try:
        assert watched.settle() == ([], "no seed files yet; put one under seeds/; every shard is done")
        rows = seed_rows(4)
        obstore.put(other, "one.json", json.dumps(rows).encode())
        assert watched.settle()[0] == ["take_in_seeds", "000001-one"]
        # of the same size, and within the same second of the store's clock
        obstore.put(other, "one.json", json.dumps(rows).replace("0", "9", 1).encode())
        assert watched.settle()[0][0] == "take_in_seeds"
        obstore.put(other, "deep/two.json", json.dumps(seed_rows(4, offset=50)).encode())
        obstore.put(other, "half.json.part", b"[")
        assert "take_in_seeds" in watched.settle()[0]
        assert {entry.source for entry in watched.lake.catalog_rows()} == {"one.json", "deep/two.json"}
        obstore.delete(other, "deep/two.json")
        watched.settle()
        assert {entry.source for entry in watched.lake.catalog_rows() if entry.live} == {"one.json"}
    finally:
        watched.instance.dispose()


@pytest.fixture
def watched(tmp_path):
    made = Watched(tmp_path)
    yield made
    made.instance.dispose()


def test_it_is_off_until_somebody_turns_it_on():
    assert build_defs().resolve_sensor_def("seed_files").default_status == dg.DefaultSensorStatus.STOPPED


def test_new_files_become_shards_that_run_in_order_once_and_never_again(watched):
    assert watched.settle() == ([], "no seed files yet; put one under seeds/; every shard is done")
    watched.seeds(seed_rows(10))
    ran, _ = watched.settle()
    assert ran == ["take_in_seeds", "000001-seeds", "000002-seeds", "000003-seeds"]
    asked = watched.asked
    assert asked > 20
    assert watched.settle() == ([], "the seed files are as the catalogue knows them; every shard is done")
    assert watched.asked == asked


def test_only_what_changed_is_run_and_deleted_records_leave_the_final_data_set(watched):
    rows = seed_rows(8)
    watched.seeds(rows)
    watched.settle()
    before, asked = watched.files("catalog", "rejected"), watched.asked
    watched.seeds(
        [*rows[:3], {**rows[3], "output": "edited"}, *rows[5:], *seed_rows(1, offset=60)]
    )  # 3 edited, 4 gone, 60 new
    ran, _ = watched.settle()
    assert ran == ["take_in_seeds", "000003-seeds"]
    assert before.items() <= watched.files().items()
    per_seed = asked / 8
    assert watched.asked - asked <= 2 * per_seed + 6
    assert watched.defs.resolve_job_def("publish").execute_in_process(instance=watched.instance).success
    final = watched.lake.read_table(tables.STAR_DATASET)
    assert len(final) == 8
    assert {row["instruction"] for row in (rows[4],)}.isdisjoint(
        seed.instruction
        for shard in watched.lake.catalog_shards()
        for seed in watched.lake.read_table(tables.SEED_SHARDS, shard)
        if seed.seed_id in {row.seed_id for row in final}
    )


def test_a_file_replaced_and_put_back_is_looked_at_each_time(watched):
    first, second = seed_rows(4), seed_rows(4, offset=20)
    watched.seeds(first)
    assert watched.settle()[0] == ["take_in_seeds", "000001-seeds"]
    watched.seeds(second)
    assert watched.settle()[0] == ["take_in_seeds", "000002-seeds"]
    for rows, place in ((first, 0), (second, 1), (first, 0)):
        watched.seeds(rows)
        assert watched.settle()[0] == ["take_in_seeds"]
        live = {entry.shard for entry in watched.lake.catalog_rows() if entry.live}
        assert live == {watched.lake.catalog_shards()[place]}


def test_a_rename_and_a_deletion_reach_the_catalogue_and_no_shard_runs(watched):
    watched.seeds(seed_rows(4))
    watched.seeds(seed_rows(4, offset=20), "other.json")
    watched.settle()
    asked = watched.asked
    os.rename(str(watched.lake.seeds / "seeds.json"), str(watched.lake.seeds / "renamed.json"))
    assert watched.settle()[0] == ["take_in_seeds"]
    assert {entry.source for entry in watched.lake.catalog_rows()} == {"renamed.json", "other.json"}
    (watched.lake.seeds / "renamed.json").unlink()
    assert watched.settle()[0] == ["take_in_seeds"]
    assert sum(entry.live for entry in watched.lake.catalog_rows()) == 4
    assert watched.asked == asked


def test_a_touched_file_and_temporary_names_are_nothing_new(watched):
    watched.seeds(seed_rows(4))
    watched.settle()
    os.utime(str(watched.lake.seeds / "seeds.json"), (1e9, 1e9))
    for name in (".seeds.json.swp", ".hidden.json", "seeds.json.part", "notes.txt"):
        (watched.lake.seeds / name).write_text("[{")
    assert watched.settle()[0] == []


def test_a_file_that_is_being_written_is_neither_read_nor_requested(watched, monkeypatch):
    watched.configure(
        sensor={"settle_s": 3600}
    )  # none rests so long by itself, whatever else the machine does meanwhile
    hashed = []
    original = seed_state._hash
    monkeypatch.setattr(seed_state, "_hash", lambda path, seen: hashed.append(path.name) or original(path, seen))
    path = watched.lake.seeds / "growing.json"
    for size in range(1, 5):
        path.write_text(json.dumps(seed_rows(8))[: 100 * size])
        requests, said = watched.tick()
        assert (requests, hashed) == ([], [])
        assert "growing.json has rested" in said
    path.write_text(json.dumps(seed_rows(4)))
    assert watched.tick()[0] == watched.tick()[0] == []
    os.utime(str(path), (time.time() - 7200, time.time() - 7200))
    assert watched.tick()[0] == []  # a new time of change: one tick more
    assert [request.job_name for request in watched.tick()[0]] == ["take_in_seeds"]


def test_a_bad_file_is_said_in_one_line_asked_for_once_and_goes_on_when_mended(watched):
    watched.seeds(seed_rows(4))
    watched.settle()
    watched.seeds([*seed_rows(2, offset=30), {"instruction": 5}], "bad.json")
    ran, said = watched.settle()
    assert ran == ["take_in_seeds"]
    assert "bad.json, row 3, field 'instruction'" in said
    assert "\n" not in said
    assert watched.settle()[0] == []
    watched.seeds(seed_rows(3, offset=30), "bad.json")
    assert watched.settle()[0] == ["take_in_seeds", "000002-bad"]


def test_a_shard_that_failed_holds_the_later_ones_back_until_it_was_run_again(watched):
    def down(request):
        raise AgentDown("agent a has not answered once")

    watched.script = down
    watched.seeds(seed_rows(16))
    ran, said = watched.settle()
    # the first ones are queued together; what was refused for want of its predecessor comes again
    assert ran == ["take_in_seeds", "000001-seeds", "000002-seeds", "000003-seeds", "000004-seeds"]
    assert "shard 000001-seeds failed" in said
    assert "has not answered once" in said
    assert watched.settle()[0] == []
    watched.script = say
    job = watched.defs.resolve_job_def("process_shard")
    assert job.execute_in_process(instance=watched.instance, partition_key="000001-seeds").success
    assert watched.settle()[0] == ["000002-seeds", "000003-seeds", "000004-seeds"]


def test_what_a_shard_has_already_is_not_made_again(watched):
    watched.seeds(seed_rows(4))
    job = watched.defs.resolve_job_def("process_shard")
    watched.defs.resolve_job_def("take_in_seeds").execute_in_process(instance=watched.instance)
    names = ("seed_shards", "sampling_plan", "candidates")
    job.execute_in_process(
        instance=watched.instance, partition_key="000001-seeds", asset_selection=[dg.AssetKey(name) for name in names]
    )
    paid = watched.asked
    candidates = watched.lake.table(tables.CANDIDATES, "000001-seeds").read_bytes()
    assert watched.settle()[0] == ["000001-seeds"]
    assert watched.lake.table(tables.CANDIDATES, "000001-seeds").read_bytes() == candidates
    assert paid < watched.asked


def test_it_stands_aside_while_run_is_at_work_on_the_lake(watched):
    watched.seeds(seed_rows(4))
    watched.tick()
    with FileLakeLock(watched.lake).hold("star-pipeline run"):
        requests, said = watched.tick()
    assert requests == []
    assert f"star-pipeline run (process {os.getpid()}" in said
    assert watched.settle()[0] == ["take_in_seeds", "000001-seeds"]


def test_the_cursor_stays_small_and_a_broken_one_starts_afresh(watched):
    for number in range(300):
        watched.seeds(seed_rows(1, offset=number), f"part-{number:03}.json")
    watched.tick()
    watched.tick()
    assert len(watched.cursor) < 300
    assert Cursor.parse("{]").text == Cursor.parse('{"unknown": 1}').text == Cursor().text


def test_ten_thousand_files_are_read_once(watched, monkeypatch):
    for number in range(10_000):
        path = str(watched.lake.seeds / f"{number:05}.json")
        with open(path, "w") as file:
            json.dump(seed_rows(1, offset=number), file)
        os.utime(path, (1e9, 1e9))
    read = []
    original = seed_state._hash
    monkeypatch.setattr(seed_state, "_hash", lambda path, seen: read.append(path.name) or original(path, seen))
    watched.tick()
    assert [request.job_name for request in watched.tick()[0]] == ["take_in_seeds"]
    assert len(read) == 10_000
    watched.tick()
    os.utime(str(watched.lake.seeds / "00042.json"), (2e9, 1.1e9))
    watched.tick()
    watched.tick()
    assert read[10_000:] == ["00042.json"]
