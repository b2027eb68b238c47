"""``run`` reads a seed file once: to check it, to put its records into shards, and to name its content."""

import json
import os
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.seed_state import content_digest, list_seed_files
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core.errors import SeedError
from star_pipeline.core.tables import SEED_CATALOG, SHARD_MANIFEST
from star_pipeline.defs.assets.seed_catalog import SEED_FILES
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.instance import open_instance
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows

opened: list[Counter[str]] = []


def _note(event, args):
    if opened and event == "open" and isinstance(args[0], str) and not args[2] & os.O_ACCMODE:
        opened[-1][args[0]] += 1


@contextmanager
def opens():
    """Path -> how often it is opened to be read."""
    if not getattr(sys, "_star_opens_noted", False):
        sys.addaudithook(_note)  # for the process's life; silent outside of this block
        sys._star_opens_noted = True
    opened.append(Counter())
    try:
        yield opened[-1]
    finally:
        opened.pop()


class Silent:
    def stage(self, name, total, later=0.0): ...

    def advance(self, count=1): ...

    def note(self, text): ...


@pytest.fixture
def run(tmp_path):
    lake, config = Lake.at(tmp_path / "lake"), tmp_path / "config.yaml"
    config.write_text(json.dumps(CONFIG))
    lake.prepare()
    fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)))

    def go(*seeds):
        return run_pipeline(str(config), lake, [str(path) for path in seeds], Silent(), fakes)

    go.lake = lake
    return go


def rested(path, text):
    """A file that was written a while ago, as users' files were."""
    Path(path).write_text(text)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return str(path)


def test_each_seed_file_is_opened_once_in_a_run_and_each_copy_once(run, tmp_path):
    lake = run.lake
    there = rested(lake.seeds / "there.json", json.dumps(seed_rows(3)))
    given = rested(tmp_path / "given.jsonl", "\n".join(map(json.dumps, seed_rows(3, offset=10))))
    with opens() as counted:
        outcome = run(given)
    assert (outcome.taken_in, outcome.update.added, len(outcome.shards)) == (("given.jsonl",), 6, 2)
    copy = str(lake.seeds / "given.jsonl")
    # the copy is read where it is made, and its hash is looked up again as long as its time of change may deceive
    copies = {path: count for path, count in counted.items() if path.endswith(f"/{Path(copy).name}") and path != given}
    assert (counted[there], counted[given]) == (1, 1)
    assert sum(count for path, count in copies.items() if path != copy) == 1
    assert counted[copy] <= 1
    # the catalogue is that of an asset which reads for itself, and names what was read
    assert [row.seed_id for shard in lake.catalog_shards() for row in lake.read_table(SHARD_MANIFEST, shard)] == [
        entry.seed_id for entry in lake.read_table(SEED_CATALOG)
    ]
    with open_instance(lake) as instance:
        [record] = instance.fetch_materializations(dg.AssetKey("seed_catalog"), limit=5).records
    assert record.asset_materialization.metadata[SEED_FILES].value == content_digest(lake, list_seed_files(lake))
    os.utime(copy, (1_600_000_000, 1_600_000_000))
    with opens() as counted:
        assert run(given).idle
    assert (counted[there], counted[given]) == (1, 1)
    assert not list((tmp_path / "lake" / "seeds").glob(".*"))


def test_a_bad_file_leaves_the_lake_as_it_was(run, tmp_path):
    lake = run.lake
    good = rested(tmp_path / "good.json", json.dumps(seed_rows(9)))
    bad = rested(tmp_path / "worse.json", json.dumps([*seed_rows(9, offset=20), {"instruction": 3, "output": "x"}]))
    with pytest.raises(SeedError, match=r"/worse\.json, row 10, field 'instruction'"):
        run(good, bad)
    assert not lake.shards_of(SHARD_MANIFEST)
    assert not list((tmp_path / "lake" / "seeds").iterdir())


def test_an_edit_between_two_runs_is_read_again(run):
    path = run.lake.seeds / "a.json"
    rested(path, json.dumps(seed_rows(3)))
    assert run().update.added == 3
    rested(path, json.dumps(seed_rows(3, offset=6)))  # of the same size and time
    assert (run().update.added, run.lake.catalog_shards()) == (3, ["000001-a", "000002-a"])
