"""What the data set card tells, and what it does not; its front matter as the hub's and `datasets`' own classes read it."""

import json
import warnings
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import yaml

from star_pipeline.config import load_config
from star_pipeline.config.dataset import DatasetConfig
from star_pipeline.config.models import StarConfig
from star_pipeline.core.publishing.card import CardFacts, dataset_card
from star_pipeline.core.publishing.manifest import Configuration, public
from star_pipeline.core.records import LeftOutRow, Message, StarRow, TaskDomain
from star_pipeline.core.tables import STAR_DATASET

TURNS = (Message("user", "Bake bread"), Message("assistant", "So."))


def row(number, selection="best", pi=0.5):
    return StarRow(
        f"s{number}", TURNS, "Bake bread", "So.", "a+b", pi, pi, 1.0, 0.9, 0.8, 0.1, "000001-x", "x.json", number + 1,
        f"c{number}", selection,
    )  # fmt: skip  # read as a table


ROWS = [row(0, pi=0.2), row(1, pi=0.4), row(2, "fallback_base", None)]
DOMAINS = [
    TaskDomain(f"s{n}", f"c{n}", "000001-x", n // 2, ("bread, oven", "other")[n // 2], None, None, f"s{n}")
    for n in range(3)
]


def facts(settings=None, name="mine", **changes):
    settings = settings or load_config("local").deciding
    table = STAR_DATASET.to_arrow(ROWS)
    told = {
        "name": name,
        "schema": STAR_DATASET.schema,
        "num_bytes": table.nbytes,
        "download_size": 123,
        "dataset": DatasetConfig().model_dump(mode="json"),
        "domains": DOMAINS,
        "left_out": [],
        "verdicts": {"better": 6, "worse": 2, "inconsistent": 2, "skipped": 5},
        "flipped": 2,
        "configurations": [Configuration("f00", name, public(json.loads(json.dumps(settings))), 7)],
    }
    return CardFacts(**{**told, **changes})


def card(**scoring):
    settings = load_config("local").model_dump(mode="json")
    settings["scoring"] |= scoring
    return dataset_card(ROWS, facts(StarConfig.model_validate(settings).deciding))


def test_the_scoring_models_are_named():
    assert "(small): EleutherAI/pythia-410m; beside it (large): EleutherAI/pythia-1.4b; template `alpaca`" in card()


def test_what_the_gap_is_of_is_told_where_it_is_not_the_papers():
    assert "π_dual is the gap over the p95" in card(calibration="none", least_tokens=1)
    told = card(
        large={"model": "org/l", "template": "chat"}, calibration="rank_by_length", least_tokens=5, start="newline"
    )
    assert "beside it (large): org/l (template `chat`); template `alpaca`" in told
    assert (
        "among responses of like length in the shard (IFD after a newline; responses of fewer than 5 tokens have none)"
        in told
    )


def test_a_servers_address_and_keys_variable_stay_out():
    small = {"model": "org/m", "api_base": "http://inside.example:8000/v1", "api_key_env": "INSIDE_KEY"}
    made = card(small=small, large="org/l@http://inside.example/v1")
    assert "(small): org/m (on a server); beside it (large): org/l (on a server); template `alpaca`" in made
    assert "inside" not in made.lower()
    assert "127.0.0.1" not in made


def test_front_matter_is_what_the_hub_and_datasets_read(tmp_path):
    import datasets  # takes seconds
    import huggingface_hub as hub

    made = dataset_card(ROWS, facts(dataset={**DatasetConfig().model_dump(), "license": "cc-by-4.0"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = hub.DatasetCard(made).data.to_dict()
    assert (read["license"], read["size_categories"], read["task_categories"]) == (
        "cc-by-4.0",
        ["n<1K"],
        ["text-generation"],
    )
    assert "language" not in read
    folder = tmp_path / "star_dataset"
    folder.mkdir()
    pq.write_table(STAR_DATASET.to_arrow(ROWS), folder / "star_dataset.parquet")
    (folder / "manifest.json").write_text('{"not": "data"}')
    (folder / "README.md").write_text(made)
    plain = datasets.load_dataset(
        "parquet", data_files=str(folder / "star_dataset.parquet"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert read["dataset_info"]["features"] == plain.features._to_yaml_list()
    assert datasets.Features._from_yaml_list(read["dataset_info"]["features"]) == plain.features
    whole = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "d"))
    assert list(whole) == ["train"]
    assert (whole["train"].features, whole["train"].num_rows) == (plain.features, 3)
    assert whole["train"][0]["messages"] == [{"role": turn.role, "content": turn.content} for turn in TURNS]


def test_no_licence_is_claimed_where_none_is_chosen_and_any_name_is_good_yaml():
    for name in ("a: b # c", "- x", "名前", "'quoted\"", "two\nlines | bar"):
        front = yaml.safe_load(dataset_card(ROWS, facts(name=name)).split("---\n")[1])
        assert "license" not in front
        assert front["pretty_name"].startswith(" ".join(name.split()))


def test_the_body_counts_selections_scores_domains_verdicts_and_what_was_left_out():
    out = [LeftOutRow("s9", "k", "c9", "min_pi", "said")] * 2
    knobs = DatasetConfig(min_pi=0.1, near_duplicates=2).model_dump()
    made = dataset_card(ROWS, facts(left_out=out, dataset=knobs))
    for line in (
        "| fallback_base | 1 | the reference, since no candidate had a positive π |",
        "| a+b | 3 | 100.0% |",
        "| `pi` | 2 | 0.3000 | 0.2100 | 0.2500 | 0.3000 | 0.3500 | 0.3900 |",
        "| 0 | bread, oven | 2 | 66.7% |",
        "2 of 10 (20.0%) turned round",
        "| better | 6 |",
        "least π: 0.1; at most 2, the best, of a group of near-duplicates",
        "| min_pi | 2 |",
        "responds with `respond`",
    ):
        assert line in made
    assert not [line for line in made.splitlines() if line.startswith("|") and not line.endswith("|")]


def test_a_difference_that_scoring_machines_were_allowed_is_told():
    told = dataset_card([row(1)], facts(differences={"sha256:ab in float32 on cpu": 2.1e-7}))
    assert (
        "under sha256:ab in float32 on cpu: mean losses of one text differ between them by up to 2.1e-07 nats." in told
    )
    assert "differ between them" not in dataset_card([row(1)], facts())


def test_an_empty_data_set_has_a_card_and_several_configurations_are_told_apart():
    used = [Configuration("f00", "one", None, 7), *facts().configurations]
    made = dataset_card([], facts(domains=[], verdicts={}, configurations=used))
    assert "0 samples" in made
    assert "### one (`f00`)\n\nIts settings were not kept." in made
    assert "### mine (`f00`)" in made
    assert yaml.safe_load(made.split("---\n")[1])["dataset_info"]["splits"][0]["num_examples"] == 0


def test_the_offline_profiles_data_is_said_to_be_no_training_data():
    assert "no training data" in dataset_card(ROWS, facts(load_config("offline").deciding))
    assert "no training data" not in dataset_card(ROWS, facts())


def test_rows_of_one_conversation_are_to_be_trained_on_by_their_last_answers():
    settings = load_config("local").model_dump(mode="json")
    settings["seeds"] |= {"turns": "every"}
    told = facts(StarConfig.model_validate(settings).deciding)
    alone, together = (dataset_card(rows, told) for rows in (ROWS, [ROWS[0], replace(ROWS[1], source_row=1), ROWS[2]]))
    for card_ in (alone, together):
        assert "`star-pipeline export --for trl --output recipe`" in card_
        assert "target, EleutherAI/pythia-410m, as it was scored (template `alpaca`, at most 2,048 tokens)" in card_
        assert (
            'SFTTrainer(model="EleutherAI/pythia-410m", train_dataset=pairs, args=SFTConfig(max_length=2048))' in card_
        )
    assert "Train on the last answer of each row only" not in alone
    assert "**Train on the last answer of each row only.**" in together
    assert "every answer of a conversation is a seed" in together


def test_the_seeds_own_responses_and_the_reference_are_called_what_they_are():
    settings = load_config("local").deciding
    reference = settings["pairs"]["base"][0]
    rows = [replace(ROWS[0], pair_id="seed"), replace(ROWS[1], pair_id=reference), ROWS[2]]
    made = dataset_card(rows, facts(settings))
    assert "| seed (the seed's own response, unchanged) | 1 | 33.3% |" in made
    assert f"| {reference} (the reference) | 1 | 33.3% |" in made
    assert "LLMs wrote the responses, all but 1 of the seeds' own" in made
    assert "| skipped | 5 | not asked" in made


@pytest.mark.parametrize(("judge", "words"), [
    ({}, "judge: `qwen`, asked in both orders; a reversal counts as tie"),
    ({"agent": None, "agents": ["qwen", "llama"]}, "judge: `qwen`, `llama` (the majority decides), asked in both orders;"),
    ({"mode": "logprobs", "margin": 0.5}, "log-odds for one letter are read in both orders; their margin counts as a tie up to 0.5"),
    ({"mode": "json"}, "asked in both orders as JSON; a reversal counts as tie"),
])  # fmt: skip  # read as a table
def test_who_judged_and_how_is_told(judge, words):
    settings = load_config("local").model_dump(mode="json")
    settings["judge"] |= judge
    assert words in dataset_card(ROWS, facts(StarConfig.model_validate(settings).deciding))
