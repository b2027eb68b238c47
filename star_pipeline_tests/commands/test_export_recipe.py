"""``export --for``: each folder as its trainer reads it; TRL trains from the folder's own command. What is learnt is decoded."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.study.form import Form, TargetTexts
from star_pipeline.commands.export_recipe import export_recipe, told_export
from star_pipeline.config import StarConfig
from star_pipeline.core import tables
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.publishing.exports import NoRecord, Remark
from star_pipeline.core.publishing.recipes import RECIPES
from star_pipeline.core.records import Message
from star_pipeline.defs.asset_factory import stamped
from star_pipeline_tests.conftest import CONFIG
from star_pipeline_tests.core.publishing.test_exports import EARLIER, star_row
from star_pipeline_tests.tiny_models import ARCHITECTURES, save_model

TEXTS = [
    "Say apple. The word is apple.",
    "Below is ### Instruction: Response:\n\n",
    "Do you know fruit? I do. Be brief.",
]
CHATML = (
    "{% for m in messages %}<|endoftext|>{{ m.role }}\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|endoftext|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base"), "qwen2", TEXTS * 3, hidden=16, layers=1, initializer_range=0.02)


ROWS = [
    star_row(seed_id="1", instruction="Say apple.", response="The word is apple."),
    star_row("Be brief.", EARLIER, seed_id="2", instruction="Say plum.", response="The word is plum."),
    star_row(None, EARLIER, seed_id="3", instruction="Say fig.", response="The word is fig. " * 80),
    star_row(seed_id="4", instruction="Say pear.", response=""),
]


def lake_of(folder, model, rows=ROWS, **scoring):
    """A lake whose rows were scored for ``model``, as far as an export looks."""
    made = Lake.at(folder / "lake")
    made.write_table(tables.STAR_DATASET, tables.STAR_DATASET.to_arrow(rows))
    config = StarConfig.model_validate(
        {**CONFIG, "scoring": {"small": str(model), "large": "l", "max_length": 300, **scoring}}
    )
    made.write_table(tables.IFD_SCORES, stamped(tables.IFD_SCORES.to_arrow([]), config, tables.IFD_SCORES), "000001-x")
    return made


@pytest.fixture
def lake(base, tmp_path):
    return lake_of(tmp_path, base)


def records(folder):
    return [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]


def of_row(record):
    """(what is shown, what is learnt) of a record in any form."""
    if "segments" in record:
        assert [segment["label"] for segment in record["segments"]] == [False, True]
        return tuple(segment["text"] for segment in record["segments"])
    return record["prompt"], record["completion"]


@pytest.mark.parametrize("trainer", RECIPES)
def test_every_folder_holds_the_scored_form_the_last_answer_alone_to_learn_and_where_a_row_is_from(
    trainer, lake, base, tmp_path
):
    outcome = export_recipe(lake, trainer, str(tmp_path / "out"))
    assert (outcome.rows, outcome.records) == (4, 3)
    assert (outcome.left_out, outcome.remarks) == ({NoRecord.NO_ROOM: 1}, {Remark.CUT: 1})
    first, second, third = records(tmp_path / "out")
    begins = "<|endoftext|>Below is an instruction that describes a task."
    assert of_row(first)[0].startswith(begins)
    assert of_row(first)[0].endswith("\n\n### Instruction:\nSay apple.\n\n### Response:")
    assert of_row(first)[1] == "The word is apple.<|endoftext|>"
    assert of_row(second) == (
        "<|endoftext|>Be brief.\n\n### Instruction:\nHello\n\n### Response:\nHi\n\n### Instruction:\nSay plum.\n\n### Response:",
        "The word is plum.<|endoftext|>",
    )
    assert not of_row(third)[1].endswith("<|endoftext|>")
    assert first["metadata"] == {"seed_id": "1", "pair_id": "keep+a", "candidate_id": "c1"}
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert RECIPES[trainer].command in readme
    assert str(base) in readme
    settings = "".join(path.read_text("utf-8") for path in (tmp_path / "out").glob("train.[yp]*"))
    assert str(base) in settings
    assert re.search(r"\b300\b", settings)
    assert "generation" in (tmp_path / "out" / "chat_template.jinja").read_text("utf-8")


@pytest.mark.parametrize("trainer", RECIPES)
def test_a_tokenizers_own_template_without_generation_marks_has_the_last_answer_alone_learnt(trainer, base, tmp_path):
    import transformers

    model = shutil.copytree(base, tmp_path / "chat")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = {"default": CHATML, "tool_use": "no template for this"}  # as some have several
    tokenizer.save_pretrained(model)
    outcome = export_recipe(lake_of(tmp_path, model, template="chat"), trainer, str(tmp_path / "out"))
    assert outcome.records == 3
    first, second, _ = map(of_row, records(tmp_path / "out"))
    assert first == (
        "<|endoftext|>user\nSay apple.<|endoftext|>\n<|endoftext|>assistant\n",
        "The word is apple.<|endoftext|>",
    )
    assert second == (
        "<|endoftext|>system\nBe brief.<|endoftext|>\n<|endoftext|>user\nHello<|endoftext|>\n<|endoftext|>assistant\nHi<|endoftext|>\n"
        "<|endoftext|>user\nSay plum.<|endoftext|>\n<|endoftext|>assistant\n",
        "The word is plum.<|endoftext|>",
    )
    assert (tmp_path / "out" / "chat_template.jinja").read_text("utf-8") == CHATML


def test_the_yaml_of_axolotl_and_llamafactory_names_the_data_and_puts_no_template_around_it(lake, tmp_path):
    for trainer in ("axolotl", "llamafactory"):
        export_recipe(lake, trainer, str(tmp_path / trainer))
    axolotl = yaml.safe_load((tmp_path / "axolotl" / "train.yaml").read_text("utf-8"))
    assert axolotl["datasets"] == [{"path": "train.jsonl", "ds_type": "json", "type": "input_output"}]
    assert axolotl["chat_template_jinja"] == (tmp_path / "axolotl" / "chat_template.jinja").read_text("utf-8")
    factory = yaml.safe_load((tmp_path / "llamafactory" / "train.yaml").read_text("utf-8"))
    named = json.loads((tmp_path / "llamafactory" / "dataset_info.json").read_text("utf-8"))[factory["dataset"]]
    assert (factory["template"], factory["train_on_prompt"], factory["cutoff_len"]) == ("empty", False, 300)
    assert named["columns"] == {"prompt": "prompt", "response": "completion"}


def test_torchtune_is_told_the_model_in_its_own_words(lake, base, tmp_path):
    import transformers

    export_recipe(lake, "torchtune", str(tmp_path / "out"))
    told = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text("utf-8"))
    config = transformers.AutoConfig.from_pretrained(base)
    assert told["model"]["_component_"] == "torchtune.models.qwen2.qwen2"
    assert (told["model"]["embed_dim"], told["model"]["num_kv_heads"]) == (
        config.hidden_size,
        config.num_key_value_heads,
    )
    assert told["model"]["vocab_size"] == config.vocab_size
    assert (told["checkpointer"]["checkpoint_dir"], told["gradient_accumulation_steps"]) == (str(base), 3)
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "tune download" not in readme
    assert "the tuned model is in `tuned/epoch_2/`" in readme


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("form", [Form("alpaca"), Form("plain"), Form("plain", "newline"), Form("chat")])
def test_the_texts_are_the_tokens_that_were_scored(architecture, form, tmp_path):
    folder = save_model(tmp_path / "m", architecture, TEXTS * 3, hidden=16, layers=1)
    if form.template == "chat":
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = CHATML.replace("<|endoftext|>", tokenizer.eos_token)
        tokenizer.save_pretrained(folder)
    samples = [
        ScoringSample("Be brief.", (Message("user", "Hi"), Message("assistant", "Yes?")), "Say apple.", "The word."),
        ScoringSample(None, (), "用三句话", " space\t🎉"),
        ScoringSample(None, (), "Say fig.", "The word is fig. " * 80),
    ]
    texts = TargetTexts(str(folder), form, 200)
    for taught, written in zip(texts.taught(samples), texts.written(samples), strict=True):
        parts = [
            texts.tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (written.prompt, written.completion)
        ]
        assert ([*parts[0], *parts[1]], len(parts[1]), written.cut) == (taught.ids.tolist(), taught.taught, taught.cut)


@pytest.mark.slow
def test_trl_trains_from_the_folders_own_command_and_learns_the_last_answers_alone(lake, base, tmp_path):
    import transformers

    export_recipe(lake, "trl", str(tmp_path / "out"))
    script = (tmp_path / "out" / "train.py").read_text("utf-8")
    # what the trainer is given to learn is written down beside what it trains
    spied = "trainer.train()\n" + (
        "batch = trainer.data_collator([trainer.train_dataset[n] for n in range(len(trainer.train_dataset))])\n"
        "torch.save(batch['labels'], HERE / 'labels.pt')\n"
        "(HERE / 'losses.json').write_text(json.dumps([e['loss'] for e in trainer.state.log_history if 'loss' in e]))\n"
    )
    assert script.count("trainer.train()\n") == 1
    (tmp_path / "out" / "train.py").write_text(script.replace("trainer.train()\n", spied))
    command = [*RECIPES["trl"].command.split(), "--max-steps", "6", "--batch-size", "3", "--device-batch-size", "3"]
    command[0] = sys.executable
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--learning-rate", "0.01"],
        cwd=tmp_path / "out",
        env=quiet,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    import torch

    tuned = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "tuned")
    labels = torch.load(tmp_path / "out" / "labels.pt")
    learnt = [tuned.decode([token for token in row if token >= 0]) for row in labels.tolist()]
    assert learnt[:2] == ["The word is apple.<|endoftext|>", "The word is plum.<|endoftext|>"]
    assert ("The word is fig. " * 80).startswith(learnt[2])
    losses = json.loads((tmp_path / "out" / "losses.json").read_text())
    assert losses[-1] < losses[0]
    asked = tuned.apply_chat_template(
        [{"role": "user", "content": "Say apple."}], tokenize=False, add_generation_prompt=True
    )
    assert asked == records(tmp_path / "out")[0]["prompt"]
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "tuned").config.model_type == "qwen2"


def test_what_cannot_be_is_refused_in_one_line(lake, base, tmp_path):
    for trainer, output, words in (
        (
            "llama-factory",
            "out",
            r"expected one of trl, axolotl, llamafactory, unsloth, torchtune \(did you mean llamafactory\?\)",
        ),
        ("trl", "-", "expected the name of a folder"),
        ("trl", str(lake.root / "x"), "inside the lake"),
        ("trl", str(tmp_path / "no" / "out"), "no folder"),
    ):
        with pytest.raises(ConfigError, match=words):
            export_recipe(lake, trainer, output)
    with pytest.raises(ConfigError, match="either --format FORM"):
        told_export(str(lake.root), "x", "messages", "trl")
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r"no model that can be trained; .* --target MODEL"):
        export_recipe(lake_of(tmp_path / "other", "offline/small"), "trl", str(tmp_path / "out"))
    assert export_recipe(Lake.at(tmp_path / "other" / "lake"), "trl", str(tmp_path / "out"), str(base)).records == 3
    neox = save_model(tmp_path / "neox", "gpt_neox", TEXTS * 3, hidden=16, layers=1)
    with pytest.raises(
        ConfigError, match=r"is a gpt_neox model, which torchtune does not build; expected one of llama, .*--for trl"
    ):
        export_recipe(lake, "torchtune", str(tmp_path / "out2"), str(neox))
    empty = Lake.at(tmp_path / "empty")
    empty.write_table(tables.STAR_DATASET, tables.STAR_DATASET.to_arrow(ROWS))
    with pytest.raises(LakeError, match="no scores that say how the target was scored"):
        export_recipe(empty, "trl", str(tmp_path / "out2"))
    assert not (tmp_path / "out2").exists()
