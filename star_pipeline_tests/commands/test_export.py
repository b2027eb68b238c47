"""``export``: every form and file read back with ``datasets``, TRL and the project's own reader, against the final data set's rows."""

import gzip
import json
import os
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from upath import UPath

from star_pipeline.adapters.export_files import ENDINGS
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.seed_files import read_seeds
from star_pipeline.commands.export import export, print_export
from star_pipeline.core import tables
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.intake.seeds import SeedRules
from star_pipeline.core.publishing.exports import FORMS, NoRecord, Remark
from star_pipeline_tests.commands.test_run import Lakeside
from star_pipeline_tests.conftest import say
from star_pipeline_tests.program import star
from star_pipeline_tests.tiny_models import save_model

pytestmark = pytest.mark.slow

SFT = [name for name, form in FORMS.items() if form.record]
TEXTS = (
    "用三句话解释光合作用。",
    "Emoji: 🎉👩‍👩‍👧‍👦 and flags 🇫🇷",
    "one\u2028two\u2029three\u0085four\x0bfive\x0c\x1csix\r\nseven",
    'quotes " and \\ and \\u2028 and </s>',
    "  space around\t",
    "שלום עולם",
)


def turns(*texts):
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def seed_conversations():
    """Conversations of one and more turns, with and without a system prompt, one with an empty one, one that begins with the assistant."""
    system = {"role": "system", "content": "Be brief. 要简短。"}
    rows = [turns(f"{text} ({n})", f"{text}!") for n, text in enumerate(TEXTS)]
    rows += [[system, *turns("Hello", "Hi 你好", f"And now {text}", text)] for text in TEXTS[:3]]
    rows += [
        turns("One", "1", "Two", "2", "Three", "3"),
        [{"role": "system", "content": ""}, *turns("No system", "Indeed.")],
    ]
    rows += [[{"role": "assistant", "content": "How can I help?"}, *turns("With this", "Gladly.")]]
    return [{"messages": row} for row in rows]


def judge(request):
    """Replies of agent a are better than those of b, and those than a seed's own, which is best where it exclaims."""
    if not request.template.startswith("judge"):
        return say(request)
    text = request.messages[-1].content
    border = "[Start of Assistant B's" if "Assistant B" in text else "[Start of Sample B's"
    first, second = map(quality, text.split(border, 1))
    return "[C]" if first == second else "[A]" if first > second else "[B]"


def quality(part):
    return 2 if "\na on respond" in part else 1 if "\nb on respond" in part else 3 if "!" in part else 0


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    side = Lakeside(tmp_path_factory.mktemp("export"))
    side.ease = 2.0
    side.seeds(seed_conversations())
    side.run(judge)
    return side.lake


@pytest.fixture(scope="module")
def final(lake):
    """The final data set's rows, as Parquet holds them."""
    rows = pq.read_table(str(lake.table(tables.STAR_DATASET))).to_pylist()
    assert len(rows) == len(seed_conversations())
    return rows


def plain_record(form, row):
    """What a record has to be, said without the code under test."""
    said = row["messages"]
    if form == "messages":
        return {"messages": said}
    if form == "prompt-completion":
        return {"prompt": said[:-1], "completion": [said[-1]]}
    if form == "sharegpt":
        names = {"user": "human", "assistant": "gpt", "system": "system"}
        while said[0]["role"] == "assistant":
            said = said[1:]
        return {
            "id": row["seed_id"],
            "conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in said],
        }
    system = said[0]["content"] if said[0]["role"] == "system" else ""
    texts = [turn["content"] for turn in said if turn["role"] != "system"]
    history = [texts[n : n + 2] for n in range(0, len(texts) - 2, 2)]
    return {"instruction": texts[-2], "input": "", "output": texts[-1], "system": system, "history": history}


def sayable(form, row):
    said = [turn["role"] for turn in row["messages"] if turn["role"] != "system"]
    return form != "alpaca" or said[0] == "user"


def loaded(path, tmp_path):
    import datasets

    kind = "parquet" if path.suffix == ".parquet" else "json"
    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")).to_list()


@pytest.mark.parametrize("form", SFT)
@pytest.mark.parametrize("ending", ENDINGS)
def test_datasets_reads_every_form_from_every_file_row_by_row(form, ending, lake, final, tmp_path):
    path = tmp_path / f"train{ending}"
    outcome = export(lake, form, str(path))
    expected = [plain_record(form, row) for row in final if sayable(form, row)]
    assert loaded(path, tmp_path) == expected
    assert (outcome.rows, outcome.records) == (len(final), len(expected))
    assert outcome.left_out == ({NoRecord.NO_PAIRS: 1} if form == "alpaca" else {})
    first = {"alpaca": {}, "sharegpt": {Remark.OPENING_CUT: 1}}.get(form, {Remark.ASSISTANT_FIRST: 1})
    assert outcome.remarks == first


def test_scores_go_along_where_they_are_asked_for(lake, final, tmp_path):
    names = ["seed_id", "pair_id", "candidate_id", "pi", "gap", "ifd_small", "ifd_large", "source", "selection"]
    for ending in (".jsonl", ".parquet"):
        path = tmp_path / f"train{ending}"
        export(lake, "messages", str(path), with_scores=True)
        assert loaded(path, tmp_path) == [{name: row[name] for name in ("messages", *names)} for row in final]


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "messages"])
@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
def test_the_projects_own_reader_takes_an_export_for_seeds(form, ending, lake, tmp_path):
    path = tmp_path / f"again{ending}"
    export(lake, form, str(path))
    read = list(read_seeds(UPath(path), path.name, SeedRules()))
    rows = [
        row for row in lake.read_table(tables.STAR_DATASET) if form != "alpaca" or row.messages[0].role != "assistant"
    ]
    assert [(seed.instruction, seed.response) for seed in read] == [(row.instruction, row.response) for row in rows]
    before = [tuple(turn for turn in row.messages[:-2] if turn.role != "system") for row in rows]
    if form == "sharegpt":
        before = [turns[1:] if turns and turns[0].role == "assistant" else turns for turns in before]
    systems = [row.messages[0].content if row.messages[0].role == "system" else None for row in rows]
    assert [(seed.history, seed.system) for seed in read] == list(zip(before, systems, strict=True))


@pytest.fixture(scope="module")
def pairs(lake, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "dpo.jsonl"
    outcome = export(lake, "preference", str(path), with_scores=True)
    return outcome, [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def test_preference_pairs_hold_what_the_judge_said(pairs, lake, final):
    outcome, records = pairs
    assert outcome.records == len(records) > len(final) / 2
    assert outcome.records + outcome.left_out.total() == outcome.rows == len(final)
    assert [row["seed_id"] for row in records] == [
        row["seed_id"] for row in final if row["seed_id"] in {record["seed_id"] for record in records}
    ]
    candidates, verdicts = {}, {}
    for shard in lake.shards_of(tables.CANDIDATES):
        candidates |= {(row.seed_id, row.pair_id): row for row in lake.read_table(tables.CANDIDATES, shard)}
        verdicts |= {row.candidate_id: row for row in lake.read_table(tables.JUDGE_VERDICTS, shard)}
    prompts, kinds = {row["seed_id"]: row["messages"][:-2] for row in final}, set()
    for record in records:
        sides = [candidates[record["seed_id"], record[f"{name}_pair_id"]] for name in ("chosen", "rejected")]
        assert [record[name] for name in ("chosen", "rejected")] == [
            [{"role": "assistant", "content": side.response}] for side in sides
        ]
        assert sides[0].instruction == sides[1].instruction
        assert record["prompt"] == [*prompts[record["seed_id"]], {"role": "user", "content": sides[0].instruction}]
        said = [verdicts[side.candidate_id].verdict if side.slot else "reference" for side in sides]
        assert said == [record["chosen_verdict"], record["rejected_verdict"]]
        kinds.add(tuple(said))
    assert kinds == {("better", "worse"), ("better", "reference"), ("reference", "worse")}


@pytest.mark.parametrize("ending", ENDINGS)
def test_preference_pairs_are_the_same_from_every_file(ending, pairs, lake, tmp_path):
    path = tmp_path / f"dpo{ending}"
    export(lake, "preference", str(path))
    assert loaded(path, tmp_path) == [
        {name: row[name] for name in ("prompt", "chosen", "rejected")} for row in pairs[1]
    ]


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def shown(said):
    return "".join(f"<{turn['role']}>{turn['content']}\n" for turn in said)


@pytest.fixture(scope="module")
def tuner(tmp_path_factory):
    """(model, tokenizer with a chat template, settings of a trainer) for one step on the CPU."""
    import transformers

    folder = tmp_path_factory.mktemp("tuner")
    save_model(folder, "gpt2", [*TEXTS, "user assistant system"] * 3, hidden=16, layers=1, context=2048)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template, tokenizer.pad_token = TEMPLATE, tokenizer.eos_token
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    settings = {"output_dir": str(folder / "out"), "report_to": [], "use_cpu": True, "bf16": False, "max_length": 2048}
    alone = {"max_steps": 1, "per_device_train_batch_size": 2, "save_strategy": "no"}
    return model, tokenizer, {**settings, **alone, "disable_tqdm": True}


@pytest.mark.parametrize("with_scores", [False, True])
@pytest.mark.parametrize("form", ["messages", "prompt-completion"])
def test_trl_tunes_on_it(form, with_scores, lake, final, tuner, tmp_path):
    import datasets
    import trl
    from trl.data_utils import apply_chat_template, is_conversational

    path = tmp_path / "train.jsonl"
    export(lake, form, str(path), with_scores)
    data = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert all(map(is_conversational, data))
    model, tokenizer, settings = tuner
    for record, row in zip(data, final, strict=True):
        text = apply_chat_template(
            {name: record[name] for name in ("messages", "prompt", "completion") if name in record}, tokenizer
        )
        assert "".join(text[name] for name in ("text", "prompt", "completion") if name in text) == shown(
            row["messages"]
        )
    trainer = trl.SFTTrainer(model, args=trl.SFTConfig(**settings), train_dataset=data, processing_class=tokenizer)
    for tokens, row in zip(trainer.train_dataset, final, strict=True):
        assert tokenizer.decode(tokens["input_ids"]) == shown(row["messages"])
        learnt = tokenizer.decode([token for token in tokens["labels"] if token >= 0])
        assert learnt == (shown(row["messages"]) if form == "messages" else f"{row['response']}\n")
    assert trainer.train().training_loss > 0


def test_trl_tunes_on_preference_pairs(lake, pairs, tuner, tmp_path):
    import datasets
    import trl
    from trl.data_utils import maybe_extract_prompt, maybe_unpair_preference_dataset

    path = tmp_path / "dpo.parquet"
    export(lake, "preference", str(path), with_scores=True)
    data = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert [maybe_extract_prompt(record) for record in data] == data.to_list()
    assert len(maybe_unpair_preference_dataset(data.select_columns(["prompt", "chosen", "rejected"]))) == 2 * len(data)
    model, tokenizer, settings = tuner
    trainer = trl.DPOTrainer(model, args=trl.DPOConfig(**settings), train_dataset=data, processing_class=tokenizer)
    for tokens, record in zip(trainer.train_dataset, pairs[1], strict=True):
        assert tokenizer.decode(tokens["prompt_ids"]) == shown(record["prompt"]) + "<assistant>"
        for name in ("chosen", "rejected"):
            assert tokenizer.decode(tokens[f"{name}_ids"]) == f"{record[name][0]['content']}\n"
    assert trainer.train().training_loss > 0


def test_trl_learns_rewards_and_kto_from_the_same_pairs(lake, pairs, tuner, tmp_path):
    import datasets
    import transformers
    import trl

    model, tokenizer, settings = tuner
    loadeds = {}
    for form in ("reward", "kto"):
        export(lake, form, str(tmp_path / f"{form}.jsonl"), with_scores=True)
        loadeds[form] = datasets.load_dataset(
            "json", data_files=str(tmp_path / f"{form}.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
        )
    assert [row["margin"] for row in loadeds["reward"]] == [
        2.0 if (row["chosen_verdict"], row["rejected_verdict"]) == ("better", "worse") else 1.0 for row in pairs[1]
    ]
    sides = [(row[name], name == "chosen") for row in pairs[1] for name in ("chosen", "rejected")]
    assert [(row["completion"], row["label"]) for row in loadeds["kto"]] == sides
    kto = trl.KTOTrainer(
        model, args=trl.KTOConfig(**settings), train_dataset=loadeds["kto"], processing_class=tokenizer
    )
    assert kto.train().training_loss > 0
    judge_model = transformers.AutoModelForSequenceClassification.from_pretrained(model.name_or_path, num_labels=1)
    judge_model.config.pad_token_id = tokenizer.pad_token_id
    reward = trl.RewardTrainer(
        judge_model, args=trl.RewardConfig(**settings), train_dataset=loadeds["reward"], processing_class=tokenizer
    )
    assert "margin" in next(iter(reward.get_train_dataloader()))
    assert reward.train().training_loss > 0


def test_an_export_is_the_same_bytes_again_and_a_line_is_a_line_to_everybody(lake, final, tmp_path):
    for ending in ENDINGS:
        path = tmp_path / f"train{ending}"
        export(lake, "messages", str(path))
        first = path.read_bytes()
        export(lake, "messages", str(path))
        assert path.read_bytes() == first
    lines = gzip.decompress((tmp_path / "train.jsonl.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"messages": row["messages"]} for row in final]
    assert json.loads((tmp_path / "train.json").read_bytes()) == [{"messages": row["messages"]} for row in final]
    assert "用三句话" in (tmp_path / "train.jsonl").read_text("utf-8")


def test_the_records_go_to_standard_output_and_what_is_said_does_not(lake, final):
    command = ("export", "--output", "-", "--lake", lake.root)
    result = star(*command, "--format", "preference", text=False)
    assert result.returncode == 0
    assert all(json.loads(line)["chosen"] for line in result.stdout.splitlines())
    assert f"of {len(final)} rows of the final data set" in result.stderr.decode()
    result = star(*command, "--format", "sharegpt", text=False)
    assert len(json.loads(result.stdout)) == len(final)


def test_what_was_left_out_is_said_with_the_reason(lake, tmp_path, capsys):
    outcome = export(lake, "alpaca", str(tmp_path / "a.json"))
    outcome.remarks[Remark.OPENING_CUT] = 2
    print_export("alpaca", "a.json", outcome)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "11 alpaca records in a.json, of 12 rows of the final data set"
    assert said[1].startswith("left out 1: earlier turns that are no [user, assistant] pairs")
    assert said[2].startswith("2 of them without the opening turn of the assistant")


def test_an_output_that_cannot_be_is_refused_in_one_line(lake, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "link.jsonl").symlink_to(str(lake.seeds / "seeds.json"))
    (tmp_path / "seeds.json").write_text("[]")
    cases = {
        str(tmp_path): "a folder; expected the name of a file in it",
        str(tmp_path / "train"): "ends in .jsonl, .json, .parquet, .jsonl.gz, .json.gz, or - for standard output",
        str(tmp_path / "train.parquet.gz"): "ends in",
        str(tmp_path / "none" / "train.json"): "no folder",
        str(tmp_path / "pipe.jsonl"): "no regular file",
        "s3://bucket/train.json": "on a local disk",
        str(lake.seeds / "train.json"): "inside the lake",
        str(lake.table(tables.STAR_DATASET)): "inside the lake",
        str(tmp_path / "link.jsonl"): "inside the lake",
        str(tmp_path / "seeds.json"): "named like a seed file of this lake",
    }
    for output, words in cases.items():
        with pytest.raises(ConfigError, match="--output") as caught:
            export(lake, "messages", output)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "seeds.json").read_text() == "[]"
    with pytest.raises(
        ConfigError, match=r"'prompt_completions': expected one of .* \(did you mean prompt-completion\?\)"
    ):
        export(lake, "prompt_completions", str(tmp_path / "x.json"))
    with pytest.raises(LakeError, match=r"cannot write /proc/train\.json: .*; free some space or mend the permissions"):
        export(lake, "messages", "/proc/train.json")


def test_pairs_of_a_shard_that_is_being_made_again_are_left_out(lake, tmp_path):
    import shutil

    shutil.copytree(str(lake.root), tmp_path / "lake")
    copy = Lake.at(tmp_path / "lake")
    shard = copy.shards_of(tables.CANDIDATES)[0]
    rows = [replace(row, candidate_id=f"new-{row.candidate_id}") for row in copy.read_table(tables.CANDIDATES, shard)]
    copy.write_table(tables.CANDIDATES, tables.CANDIDATES.to_arrow(rows), shard)
    outcome = export(copy, "preference", str(tmp_path / "dpo.jsonl"))
    assert outcome.left_out[NoRecord.IN_THE_MAKING] == 4
    assert 0 < outcome.records <= outcome.rows - 4
