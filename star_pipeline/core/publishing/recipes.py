"""What trains a target on the final data set, for the trainers that people use: configuration, script and README as texts.

Every trainer gets the very texts that the target was scored on: ``prompt`` (start token, template, all earlier turns) and ``completion``
(the last answer and what ends it), to be tokenised apart and without special tokens of the tokenizer's own. So no trainer's template
decides what is learnt, and only the completion is.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import yaml

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.publishing import torchtune

EPOCHS, BATCH, RATE, WARMUP = 3, 64, 2e-5, 0.03
"""The paper's: passes over the rows, rows an update, peak learning rate (cosine), share of the updates in which it rises."""
DATA = "train.jsonl"


@dataclass(frozen=True)
class Target:
    """``model``: Hugging Face id or folder, ``here`` where it is a folder; ``limit``: most tokens of a row, of which there are ``rows``.

    ``chat_template`` asks the tuned model as it was taught. ``architecture`` is the model's config.json, ``pad`` a token to pad with.
    """

    model: str
    here: bool
    template: str
    limit: int
    rows: int
    chat_template: str
    architecture: JsonMapping
    pad: int


@dataclass(frozen=True)
class Recipe:
    """``command`` trains, from within the folder; ``install`` gets the trainer; ``files``: name -> text, of a target.

    ``tuned`` is where the model is afterwards; ``before`` fetches a model of the hub where the trainer does not do that by itself.
    """

    command: str
    install: str
    record: Callable[[str, str], JsonObject]
    files: Callable[[Target], Mapping[str, str]]
    tuned: str = "tuned/"
    before: str = ""


def _texts(prompt: str, completion: str) -> JsonObject:
    return {"prompt": prompt, "completion": completion}


def _segments(prompt: str, completion: str) -> JsonObject:
    return {"segments": [{"label": False, "text": prompt}, {"label": True, "text": completion}]}


_SCRIPT = '''\
"""Trains the model on train.jsonl: the loss is taken on each row's completion, its last answer and what ends it."""

import argparse
import json
from pathlib import Path

{imports}

HERE = Path(__file__).resolve().parent
MODEL = {model}
LIMIT = {limit}  # tokens of a row, as when the model was scored

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--model", default=MODEL)
options.add_argument("--output", default=str(HERE / "tuned"))
options.add_argument("--epochs", type=float, default={epochs})
options.add_argument("--learning-rate", type=float, default={rate})
options.add_argument("--batch-size", type=int, default={batch}, help="rows an update")
options.add_argument("--device-batch-size", type=int, default=1, help="rows computed at once; divides the batch size")
options.add_argument("--max-steps", type=int, default=-1, help="-1: all")
options.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
given = options.parse_args()

{load}
tokenizer.chat_template = (HERE / "chat_template.jinja").read_text("utf-8")
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token


def taught(row):
    """Token ids, and labels that leave out all but the completion."""
    prompt, answer = (
        tokenizer(row[name], add_special_tokens=False)["input_ids"] for name in ("prompt", "completion")
    )
    return {{"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}}


with open(HERE / "train.jsonl", encoding="utf-8") as file:
    rows = [taught(json.loads(line)) for line in file]
trainer = trl.SFTTrainer(
    model,
    args=trl.SFTConfig(
        output_dir=given.output,
        num_train_epochs=given.epochs,
        max_steps=given.max_steps,
        learning_rate=given.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps={warmup},  # a share of the updates
        per_device_train_batch_size=given.device_batch_size,
        gradient_accumulation_steps=max(given.batch_size // given.device_batch_size, 1),
        bf16=given.bf16,
        max_length=None,  # no row is longer than LIMIT
        dataset_kwargs={{"skip_prepare_dataset": True}},  # the rows are tokens already
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=datasets.Dataset.from_list(rows),
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model(given.output)
tokenizer.save_pretrained(given.output)
'''
_TRL_IMPORTS = "import datasets\nimport torch\nimport transformers\nimport trl"
_TRL_LOAD = """\
tokenizer = transformers.AutoTokenizer.from_pretrained(given.model)
model = transformers.AutoModelForCausalLM.from_pretrained(given.model, dtype="float32")"""
_UNSLOTH_IMPORTS = "from unsloth import FastLanguageModel  # before those that it speeds up\n\n" + (
    "import datasets\nimport torch\nimport trl"
)
_UNSLOTH_LOAD = """\
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name=given.model,
    use_exact_model_name=True,  # and no copy of it under Unsloth's own name
    max_seq_length=LIMIT,
    load_in_4bit=False,
    full_finetuning=True,
)"""


def _script(imports: str, load: str) -> Callable[[Target], Mapping[str, str]]:
    def files(target: Target) -> Mapping[str, str]:
        text = _SCRIPT.format(
            imports=imports, load=load, model=json.dumps(target.model), limit=target.limit,
            epochs=EPOCHS, rate=RATE, batch=BATCH, warmup=WARMUP,
        )  # fmt: skip  # a value each
        return {"train.py": text}

    return files


def _axolotl(target: Target) -> Mapping[str, str]:
    settings = {
        "base_model": target.model,
        "datasets": [{"path": DATA, "ds_type": "json", "type": "input_output"}],
        "train_on_inputs": False,
        "sequence_len": target.limit,
        "sample_packing": False,
        "dataset_prepared_path": "prepared",
        "val_set_size": 0,
        "chat_template": "jinja",
        "chat_template_jinja": target.chat_template,
        "num_epochs": EPOCHS,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": BATCH,
        "learning_rate": RATE,
        "lr_scheduler": "cosine",
        "warmup_ratio": WARMUP,
        "optimizer": "adamw_torch",
        "bf16": "auto",
        "logging_steps": 1,
        "output_dir": "tuned",
    }
    return {"train.yaml": _yaml(settings)}


def _llamafactory(target: Target) -> Mapping[str, str]:
    settings = {
        "model_name_or_path": target.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": ".",
        "dataset": "star_dataset",
        "template": "empty",  # the texts are whole: no template of the trainer's own
        "cutoff_len": target.limit,
        "train_on_prompt": False,
        "packing": False,
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": BATCH,
        "learning_rate": RATE,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": WARMUP,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "output_dir": "tuned",
        "report_to": "none",
    }
    named = {"file_name": DATA, "formatting": "alpaca", "columns": {"prompt": "prompt", "response": "completion"}}
    return {
        "train.yaml": _yaml(settings),
        "dataset_info.json": json.dumps({"star_dataset": named}, indent=2) + "\n",
    }


def _torchtune(target: Target) -> Mapping[str, str]:
    folder = target.model if target.here else "model"
    recipe = EPOCHS, BATCH, RATE, WARMUP
    settings = torchtune.settings(
        target.model, folder, target.architecture, target.limit, target.rows, recipe, target.pad
    )
    return {"train.yaml": _yaml(settings), "star_rows.py": torchtune.MODULE}


def _yaml(settings: JsonObject) -> str:
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "trl": Recipe("python train.py", "pip install trl datasets", _texts, _script(_TRL_IMPORTS, _TRL_LOAD)),
        "axolotl": Recipe("axolotl train train.yaml", "pip install axolotl", _segments, _axolotl),
        "llamafactory": Recipe(
            "llamafactory-cli train train.yaml && cp chat_template.jinja tuned/",
            "pip install llamafactory",
            _texts,
            _llamafactory,
        ),
        "unsloth": Recipe("python train.py", "pip install unsloth", _texts, _script(_UNSLOTH_IMPORTS, _UNSLOTH_LOAD)),
        "torchtune": Recipe(
            f"tune run full_finetune_single_device --config train.yaml && cp chat_template.jinja tuned/epoch_{EPOCHS - 1}/",
            "pip install torchtune 'torchao<0.15'",  # later ones have lost what torchtune 0.6 imports
            _texts,
            _torchtune,
            tuned=f"tuned/epoch_{EPOCHS - 1}/",
            before="tune download {model} --output-dir model --ignore-patterns '*.bin'",
        ),
    }
)


def folder_files(name: str, target: Target, front: str = "") -> dict[str, str]:
    """The texts beside the data, by their names in the folder; ``front`` is what the README begins with.

    Raises ConfigError where the trainer cannot train the target.
    """
    recipe = RECIPES[name]
    return {
        **recipe.files(target),
        "chat_template.jinja": target.chat_template,
        "README.md": front + _readme(name, target),
    }


def _readme(name: str, target: Target) -> str:
    recipe = RECIPES[name]
    before = "" if target.here or not recipe.before else recipe.before.format(model=target.model) + "\n"
    return f"""# Train {target.model} on {target.rows:,} rows

```bash
{recipe.install}
{before}{recipe.command}
```

Run it in this folder; the tuned model is in `{recipe.tuned}`. The recipe is the paper's: {EPOCHS} epochs, {BATCH} rows an update, a
learning rate of {RATE:g} that falls by a cosine, all weights.

`{DATA}` holds each row as the target was scored on it (template `{target.template}`, at most {target.limit:,} tokens, start token
first): what comes before the last answer, and the last answer with what ends it. The loss is taken on the latter alone,
and no text is put around either, so that no answer is learnt twice and no word of the user. `metadata` (`seed_id`, `pair_id`,
`candidate_id`) says where a row comes from; the trainer leaves it aside. `chat_template.jinja` asks the tuned model as it was taught.
"""
