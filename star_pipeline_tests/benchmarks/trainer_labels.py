"""Small scripts that a trainer's own environment runs in the exported folder: the rows as that trainer learns them, in labels.json."""

SPY = """\
batch = [trainer.data_collator([row]) for row in trainer.train_dataset]
kept = [{"input_ids": row["input_ids"][0].tolist(), "labels": row["labels"][0].tolist()} for row in batch]
(HERE / "labels.json").write_text(json.dumps(kept))
trainer.train()
"""
"""In place of the line that trains, in a script."""
_WRITTEN = """
import json
rows = [{"input_ids": [int(n) for n in row[0]], "labels": [int(n) for n in row[1]]} for row in rows]
open("labels.json", "w").write(json.dumps(rows))
"""
LABELS = {
    "axolotl": """
import datasets, pathlib
[prepared] = [path for path in pathlib.Path("prepared").iterdir() if path.is_dir()]
rows = [(row["input_ids"], row["labels"]) for row in datasets.load_from_disk(str(prepared))]
"""
    + _WRITTEN,
    "llamafactory": """
import yaml
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
model, data, training, *_ = get_train_args({**yaml.safe_load(open("train.yaml")), "output_dir": "asked"})
tokenizer = load_tokenizer(model)["tokenizer"]
template = get_template_and_fix_tokenizer(tokenizer, data)
made = get_dataset(template, model, data, training, stage="sft", tokenizer=tokenizer)["train_dataset"]
rows = [(row["input_ids"], row["labels"]) for row in made]
"""
    + _WRITTEN,
    "torchtune": """
from omegaconf import OmegaConf
from torchtune import config
told = OmegaConf.load("train.yaml")
made = config.instantiate(told.dataset, config.instantiate(told.tokenizer))
rows = [(row["tokens"], row["labels"]) for row in (made[n] for n in range(len(made)))]
"""
    + _WRITTEN,
}
"""By trainer; the others' scripts are spied on."""
