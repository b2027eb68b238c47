"""Does each trainer train from its exported folder's own command? Three steps on a tiny model, in the environment that is given.

    python -m star_pipeline_tests.benchmarks.trainers SCRATCH axolotl=BIN llamafactory=BIN

BIN is the ``bin`` folder of an environment that has the trainer. Prints the losses, and what was learnt where the trainer writes it down.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import transformers
import yaml

from star_pipeline.commands.export_recipe import export_recipe
from star_pipeline.core.publishing.recipes import RECIPES
from star_pipeline_tests.commands.test_export_recipe import TEXTS, lake_of
from star_pipeline_tests.core.publishing.test_exports import EARLIER, star_row
from star_pipeline_tests.tiny_models import save_model

_STEPS = 3
_LESS = {
    "axolotl": {
        "gradient_accumulation_steps": 2, "max_steps": _STEPS, "learning_rate": 0.01, "bf16": False, "use_cpu": True,
    },
    "llamafactory": {
        "gradient_accumulation_steps": 2, "max_steps": _STEPS, "learning_rate": 0.01, "use_cpu": True,
    },
}  # fmt: skip  # what makes a trial of the recipe: few steps, on a CPU


def main(scratch: str, *environments: str) -> None:
    """Train with each of ``trainer=BIN``."""
    folder = Path(scratch).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    model = save_model(folder / "model", "llama", TEXTS * 3, hidden=16, layers=1, initializer_range=0.02)
    rows = [
        star_row(
            "Be brief." if number % 3 == 0 else None, EARLIER if number % 2 else (), seed_id=str(number),
            instruction=f"Say apple {number}.", response=f"The word is apple {number}.",
        )
        for number in range(12)
    ]  # fmt: skip  # a value each
    lake = lake_of(folder, model, rows)
    for given in environments:
        trainer, _, binaries = given.partition("=")
        out = folder / trainer
        export_recipe(lake, trainer, str(out))
        settings = yaml.safe_load((out / "train.yaml").read_text("utf-8"))
        (out / "train.yaml").write_text(yaml.safe_dump({**settings, **_LESS[trainer]}, sort_keys=False))
        environment = {
            **os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1", "AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "DISABLE_VERSION_CHECK": "1",
        }  # fmt: skip  # a variable each
        done = subprocess.run(
            RECIPES[trainer].command, shell=True, cwd=out, env=environment, capture_output=True, text=True, timeout=300
        )
        said = done.stdout + done.stderr
        losses = [float(loss) for loss in re.findall(r"'loss': '?([0-9.]+)", said)]
        print(
            f"{trainer}: exit {done.returncode}, losses {losses}, weights: {[p.name for p in out.glob('tuned/*.safetensors')]}"
        )
        if done.returncode:
            print(said[-3000:])
        for prepared in (out / "prepared").glob("*/"):  # axolotl keeps the rows as tokens
            taught = datasets.load_from_disk(str(prepared))
            tokenizer = transformers.AutoTokenizer.from_pretrained(model)
            learnt = [tokenizer.decode([token for token in row if token >= 0]) for row in taught["labels"]]
            print(f"learnt: {sorted(learnt)}")
        for shown in re.findall(r"(?:labels:|inputs:)\n.*", said):
            print(shown)


if __name__ == "__main__":
    main(*sys.argv[1:])
