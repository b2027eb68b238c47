"""A scoring model whose weights are replaced under its name: a lake never mixes scores of both, and says what to do."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.scoring.weights import weights_of
from star_pipeline.adapters.scoring_weights import METADATA, changed_since, settle_weights
from star_pipeline.commands.run import RunFailed, run_pipeline
from star_pipeline.core.errors import ModelError
from star_pipeline.core.tables import IFD_SCORES
from star_pipeline.defs.resources import ChatResource, LakeResource, SettingsResource
from star_pipeline_tests.commands.test_run import Notes
from star_pipeline_tests.conftest import CONFIG, fake_resources, say, seed_rows
from star_pipeline_tests.tiny_models import save_model

TEXTS = [row["instruction"] + row["output"] for row in seed_rows(20)]


class Side:
    """A lake with fakes for the LLMs and real scoring models."""

    def __init__(self, folder):
        self.lake, self.config, self.model = Lake.at(folder / "lake"), folder / "config.yaml", folder / "small"
        save_model(self.model, "gpt2", TEXTS, seed=1, hidden=16, layers=1)
        save_model(folder / "large", "gpt2", TEXTS, seed=2)
        save_model(folder / "other", "gpt2", TEXTS, seed=3, hidden=16, layers=1)
        shutil.copytree(self.model, folder / "first")
        self._others = folder
        scoring = {"small": str(self.model), "large": str(folder / "large"), "template": "plain", "device": "cpu"}
        self.config.write_text(json.dumps({**CONFIG, "scoring": scoring}))

    def put(self, name):
        shutil.copy(self._others / name / "model.safetensors", self.model / "model.safetensors")

    def seeds(self, count):
        self.lake.write_bytes(self.lake.seeds / "seeds.json", json.dumps(seed_rows(count)).encode())

    def run(self, **again):
        settings = SettingsResource(config=str(self.config))
        fakes = fake_resources(settings, LakeResource(root=str(self.lake.root)))
        self.asked, self.notes = 0, Notes()

        class Chat(ChatResource):
            def chat(chat):
                return Counting(self)

        fakes["chat"] = Chat(settings=settings, lake=fakes["chat"].lake)
        return run_pipeline(
            str(self.config), self.lake, [], self.notes, {name: fakes[name] for name in ("chat", "embedder")}, again
        )

    def stated(self):
        """What each shard's scores say of the small model."""
        found = {}
        for shard in self.lake.shards_of(IFD_SCORES):
            metadata = pq.read_schema(str(self.lake.table(IFD_SCORES, shard))).metadata
            found[shard] = json.loads(metadata.get(METADATA.encode(), b"{}")).get(str(self.model))
        return found

    def recorded(self):
        return json.loads(self.lake.numerics.read_text("utf-8")).get("weights", {}).get(str(self.model))

    def forget(self):
        """As a lake of a version that recorded no weights."""
        for shard in self.lake.shards_of(IFD_SCORES):
            path = str(self.lake.table(IFD_SCORES, shard))
            table = pq.read_table(path)
            kept = {key: value for key, value in table.schema.metadata.items() if key != METADATA.encode()}
            pq.write_table(table.replace_schema_metadata(kept), path)
        numerics = json.loads(self.lake.numerics.read_text("utf-8"))
        del numerics["weights"]
        self.lake.numerics.write_bytes(json.dumps(numerics).encode())


class Counting:
    def __init__(self, side):
        self._side = side

    async def complete(self, request):
        from star_pipeline.adapters.fakes import ScriptedChat

        self._side.asked += 1
        return await ScriptedChat(say).complete(request)

    async def aclose(self): ...


@pytest.fixture
def side(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Side(tmp_path)


def test_scores_of_other_weights_do_not_join_a_lake_unless_all_are_made_again(side, monkeypatch):
    side.seeds(8)
    side.run()
    before = weights_of(str(side.model), "plain")
    assert set(side.stated().values()) == {before} == {side.recorded()}

    side.put("other")
    now = weights_of(str(side.model), "plain")
    side.run()  # nothing to score: said, and no more
    assert [note for note in side.notes.said if "has changed" in note and "--rescore all" in note]
    side.seeds(12)
    with pytest.raises(
        ModelError, match=f"2 shards, the first 000001-seeds, scored with {before}, and it is now {now}"
    ):
        side.run()
    assert side.asked == 0
    with pytest.raises(ModelError, match="000002-seeds scored with"):
        side.run(rescore=["000001-seeds"])

    with monkeypatch.context() as without_preflight:
        without_preflight.setattr("star_pipeline.commands.run.settle_weights", lambda *_: None)  # as Dagster's own runs
        with pytest.raises(RunFailed, match="has changed: 2 shards"):
            side.run()
    assert len(side.stated()) == 2

    side.run(rescore=["all"])
    assert len(side.stated()) == 3
    assert set(side.stated().values()) == {now} == {side.recorded()}
    assert side.run().idle
    assert not [note for note in side.notes.said if "has changed" in note]


def test_a_lake_made_before_weights_were_recorded_goes_on_without_scoring_again(side):
    side.seeds(8)
    side.run()
    side.forget()
    scores = {shard: side.lake.table(IFD_SCORES, shard).read_bytes() for shard in side.stated()}
    side.seeds(12)
    side.run()
    assert [note for note in side.notes.said if "2 shards were scored before weights were recorded" in note]
    assert scores.items() <= {shard: side.lake.table(IFD_SCORES, shard).read_bytes() for shard in side.stated()}.items()
    side.put("other")
    side.seeds(16)
    with pytest.raises(ModelError, match="3 shards"):
        side.run()


def test_an_interrupted_rescoring_is_not_taken_for_a_finished_one(tmp_path):
    lake, notes = Lake.at(tmp_path), Notes()

    def scored(shard, weights):
        table = IFD_SCORES.to_arrow([]).replace_schema_metadata({METADATA: json.dumps({"m": weights})})
        lake.write_table(IFD_SCORES, table, shard)

    shards = ["000001-seeds", "000002-seeds"]
    for shard in shards:
        scored(shard, "first")
    settle_weights(lake, {"m": "first"}, (), notes)
    settle_weights(lake, {"m": "other"}, shards, notes)  # asked for all,
    scored(shards[0], "other")  # and killed after the first shard
    for present, left in (("other", shards[1]), ("first", shards[0])):
        with pytest.raises(ModelError, match=f"{left} scored with"):
            settle_weights(lake, {"m": present}, (), notes)
        assert left in changed_since(lake, {"m": present})
    settle_weights(lake, {"m": "other"}, shards[1:], notes)
    scored(shards[1], "other")
    settle_weights(lake, {"m": "other"}, (), notes)
    assert json.loads(lake.numerics.read_text("utf-8")) == {"weights": {"m": "other"}}
    assert not notes.said
