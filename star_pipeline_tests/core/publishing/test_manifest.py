"""The manifest: which configurations made what, and what of them may be published."""

import json

from star_pipeline.core.publishing.manifest import ShardOrigin, TableSource, configurations, manifest, public
from star_pipeline.core.records import AgentSpend, CatalogEntry, LeftOutRow
from star_pipeline.core.tables import STAR_DATASET

SETTINGS = {
    "agents": {
        "a": {
            "model": "hosted_vllm/m",
            "api_base": "http://inside:1/v1",
            "params": {"top_p": 1, "extra": {"proxy": "socks5://p"}},
        }
    },
    "scoring": {"small": "/home/me/models/tiny", "large": {"model": "m", "api_base": "http://inside:2"}},
    "prompts": {"own": "Read http://example.org and answer: {{ instruction }}"},
}


def origin(fingerprint, name="n", settings=None):
    return TableSource("0" * 64, fingerprint, name, settings)


def test_addresses_and_folders_stay_out_and_prompts_stay():
    said = public(SETTINGS)
    assert said["agents"]["a"] == {
        "model": "hosted_vllm/m",
        "params": {"top_p": 1, "extra": {"proxy": "(address left out)"}},
    }
    assert said["scoring"] == {"small": "tiny", "large": {"model": "m"}}
    assert said["prompts"] == SETTINGS["prompts"]
    assert "inside" not in json.dumps(said)


def test_configurations_are_counted_by_tables_the_most_first_and_settings_may_be_missing():
    text = json.dumps(SETTINGS)
    shards = [
        ShardOrigin("000001-x", "s1", {"candidates": origin("f1", settings=text), "judge_verdicts": origin("f2")}),
        ShardOrigin("000002-x", "s2", {"candidates": origin("f2"), "judge_verdicts": origin("f2")}),
    ]
    first, second = configurations(shards)
    assert (first.fingerprint, first.tables, first.settings) == ("f2", 3, None)
    assert (second.fingerprint, second.tables, second.settings) == ("f1", 1, public(SETTINGS))


def test_the_manifest_is_plain_data_and_the_same_for_the_same_lake():
    def made():
        return manifest(
            made_of="m",
            name="mine",
            lake_id="l",
            schema=STAR_DATASET.schema,
            rows=[],
            left_out=[LeftOutRow("s", "k", "c", "min_pi", "said")],
            dataset={"min_pi": 0.5},
            dataset_fingerprint="d",
            shards=[ShardOrigin("000001-x", None, {"candidates": origin("f1")})],
            sources={"x.json": "ab"},
            entries={
                "s": CatalogEntry("s", "000001-x", 0, "x.json", 1, True),
                "t": CatalogEntry("t", "k", 0, "gone.json", 1, False),
            },
            spend=[AgentSpend("a", "judge", 1, 2, 3, 0.5, 0, 0.0)],
            numerics=None,
            versions={"python": "3"},
        )

    told = made()
    assert json.loads(json.dumps(told)) == made()
    assert told["data"]["columns"]["messages"] == "list<item: struct<role: string, content: string>>"
    assert told["sources"] == [{"file": "x.json", "sha256": "ab", "seeds": 1, "rows": 0}]
    assert told["left_out"] == {"min_pi": 1}
    assert told["shards"] == [
        {
            "shard": "000001-x",
            "snapshot_id": None,
            "tables": {"candidates": {"sha256": "0" * 64, "config_fingerprint": "f1"}},
        }
    ]
