"""Does a trainer train from its exported folder alone? Its README's commands, in an environment of its own, three steps on a tiny model.

    python -m star_pipeline_tests.benchmarks.trainers TRAINER SCRATCH [--constraint torch==2.13.0+cpu] [--environment FOLDER] [--keep]

One command for each of trl, axolotl, llamafactory, unsloth and torchtune. The rows are those of a whole ``star-pipeline run`` of the
offline profile, and some conversations scored by a chat template without generation marks. Makes the environment (given by
``--environment``: takes that one) with the README's install line, trains, decodes what was learnt, and removes the environment. Exit 0
where every row taught its last answer and its end alone, and the loss fell; 3 where the trainer cannot be run here, with the reason.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import transformers
import yaml

from star_pipeline.commands.export_recipe import export_recipe
from star_pipeline.core.publishing.recipes import RECIPES
from star_pipeline_tests.benchmarks.trainer_labels import LABELS, SPY
from star_pipeline_tests.commands.test_export_recipe import CHATML, TEXTS, lake_of
from star_pipeline_tests.core.publishing.test_exports import EARLIER, star_row
from star_pipeline_tests.program import command
from star_pipeline_tests.tiny_models import save_model

_STEPS = 3
_LESS = {
    "axolotl": {"gradient_accumulation_steps": 2, "max_steps": _STEPS, "learning_rate": 0.01, "bf16": False, "use_cpu": True},
    "llamafactory": {"gradient_accumulation_steps": 2, "max_steps": _STEPS, "learning_rate": 0.01, "use_cpu": True},
    "torchtune": {
        "gradient_accumulation_steps": 2, "max_steps_per_epoch": 1, "device": "cpu",
        "optimizer": {"_component_": "torch.optim.AdamW", "lr": 0.01},
    },
}  # fmt: skip  # what makes a trial of the recipe: few steps, on a CPU
_FEW = f" --max-steps {_STEPS} --batch-size 2 --learning-rate 0.01"
"""The same for those that are scripts."""
_NO_GPU = re.compile(r".*(?:You need a GPU|only works on NVIDIA).*")


def main() -> int:
    """One trainer, on both lakes."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("trainer", choices=list(RECIPES))
    asked.add_argument("scratch", type=Path)
    asked.add_argument("--constraint", help="for pip, such as torch==2.13.0+cpu where there is no GPU")
    asked.add_argument("--environment", type=Path, help="one that has the trainer")
    asked.add_argument("--keep", action="store_true", help="leave the environment")
    given = asked.parse_args()
    scratch = given.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    folders = exported(given.trainer, scratch)
    environment = given.environment or scratch / f"environment-{given.trainer}"
    if not given.environment and not installed(folders[0], environment, given.constraint):
        return 3
    codes = [trained(given.trainer, folder, environment) for folder in folders]
    if not given.environment and not given.keep:
        shutil.rmtree(environment)
    return max(codes)


def exported(trainer: str, scratch: Path) -> list[Path]:
    """Folders of both lakes, which are made where they are not there yet."""
    plain, chat, lake = scratch / "model", scratch / "chat-model", scratch / "run"
    if not lake.exists():
        subprocess.run(command("run", "--config", "offline", "--lake", lake), check=True, capture_output=True)
    rows = [
        star_row(
            "Be brief." if number % 3 == 0 else None, EARLIER if number % 2 else (), seed_id=str(number),
            instruction=f"Say apple {number}.", response=f"The word is apple {number}.",
        )
        for number in range(12)
    ]  # fmt: skip  # a value each
    for folder in (plain, chat):
        if not folder.exists():
            save_model(folder, "llama", TEXTS * 3, hidden=16, layers=1, initializer_range=0.02, context=2048)
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat)
    tokenizer.chat_template = CHATML.replace("<|endoftext|>", tokenizer.eos_token)
    tokenizer.save_pretrained(chat)
    folders = [scratch / f"{trainer}-run", scratch / f"{trainer}-chat"]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        command("export", "--lake", lake, "--for", trainer, "--target", plain, "--output", folders[0]), check=True
    )
    of_chat = scratch / "chat-lake"
    of_chat.mkdir(exist_ok=True)
    export_recipe(lake_of(of_chat, chat, rows, template="chat"), trainer, str(folders[1]))
    return folders


def told(folder: Path) -> list[str]:
    """The commands that the folder's README shows: the first installs, the last trains."""
    return (folder / "README.md").read_text("utf-8").split("```bash\n")[1].split("\n```")[0].splitlines()


def inside(environment: Path) -> dict[str, str]:
    """The variables of a shell in which the environment is active, without a network or a GPU."""
    return {
        **os.environ, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(environment),
        "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1",
        "DISABLE_VERSION_CHECK": "1",
    }  # fmt: skip  # a variable each


def installed(folder: Path, environment: Path, constraint: str | None) -> bool:
    """Make the environment with the README's first line; whether that worked."""
    began = time.monotonic()
    venv.create(environment, clear=True, with_pip=True)
    variables = {**inside(environment), "PIP_NO_CACHE_DIR": "1"}
    if constraint:
        (environment / "constraint.txt").write_text(f"{constraint}\n")
        variables["PIP_CONSTRAINT"] = str(environment / "constraint.txt")
    done = subprocess.run(told(folder)[0], shell=True, env=variables, capture_output=True, text=True)
    if done.returncode:
        print(f"does not install here: {told(folder)[0]}\n{(done.stdout + done.stderr)[-2000:]}")
        return False
    size = int(subprocess.run(["du", "-sm", environment], capture_output=True, text=True).stdout.split()[0])
    print(f"{told(folder)[0]}: {time.monotonic() - began:.0f} s, {size:,} MB")
    without_cuda(environment)
    return True


def without_cuda(environment: Path) -> None:
    """torchvision and torchaudio from the package index want CUDA's libraries: beside a torch without them they break the trainer's
    import, though no trainer of texts asks them for anything."""
    python = environment / "bin" / "python"
    for name in ("torchvision", "torchaudio"):
        found = subprocess.run(
            [python, "-c", f"import importlib.util as u; s = u.find_spec({name!r}); print(s.origin if s else ''); import {name}"],
            capture_output=True, text=True, env=inside(environment),
        )  # fmt: skip  # an argument each
        if found.returncode and found.stdout.strip():
            if name == "torchvision":
                subprocess.run([python, "-m", "pip", "uninstall", "-qy", name], check=True, capture_output=True)
            else:
                for library in Path(found.stdout.strip()).parent.glob("lib/*.so"):
                    library.unlink()
            print(f"{name} does not load beside this torch, and is taken out")


def trained(trainer: str, folder: Path, environment: Path) -> int:
    """Train by the README's last line, and tell what was learnt."""
    line = told(folder)[-1]
    if trainer in _LESS:
        settings = yaml.safe_load((folder / "train.yaml").read_text("utf-8"))
        (folder / "train.yaml").write_text(yaml.safe_dump({**settings, **_LESS[trainer]}, sort_keys=False))
    else:
        script = (folder / "train.py").read_text("utf-8")
        (folder / "train.py").write_text(script.replace("trainer.train()\n", SPY))
        line += _FEW
    done = subprocess.run(
        line, shell=True, cwd=folder, env=inside(environment), capture_output=True, text=True, timeout=900
    )
    said = done.stdout + done.stderr
    if done.returncode:
        if reason := _NO_GPU.search(said):
            print(f"{folder.name}: cannot be trained here: {reason[0].strip()}")
            checked_call(folder, environment)
            return 3
        print(f"{folder.name}: exit {done.returncode}\n{said[-3000:]}")
        return 1
    if trainer == "torchtune":
        said = "".join(path.read_text() for path in folder.glob("tuned/logs/*.txt"))
    losses = [float(loss) for loss in re.findall(r"(?:'loss': '?|loss:)([0-9.]+)", said)]
    if trainer in LABELS:
        asked = subprocess.run(
            [environment / "bin" / "python", "-c", LABELS[trainer]],
            cwd=folder, env=inside(environment), capture_output=True, text=True,
        )  # fmt: skip  # an argument each
        if asked.returncode:
            print(f"{folder.name}: what was learnt cannot be read\n{asked.stderr[-2000:]}")
            return 1
    weights = sorted(str(path.relative_to(folder)) for path in folder.glob(f"{RECIPES[trainer].tuned}*.safetensors"))
    print(f"{folder.name}: losses {losses}, weights {weights}")
    return 0 if losses and losses[-1] < losses[0] and weights and right(folder, environment) else 1


def right(folder: Path, environment: Path) -> bool:
    """Whether each row's tokens are its texts', and what is learnt of them its completion alone."""
    settings = "".join(path.read_text("utf-8") for path in sorted(folder.glob("train.[yp]*")))
    model = re.search(r"[^\s\"']*/(?:chat-)?model(?=[\"'\s/])", settings)
    assert model
    tokenizer = transformers.AutoTokenizer.from_pretrained(model[0])
    records = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
    texts = [
        tuple(part["text"] for part in record["segments"])
        if "segments" in record
        else (record["prompt"], record["completion"])
        for record in records
    ]
    parts = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in pair] for pair in texts]
    expected = sorted((prompt + answer, [-100] * len(prompt) + answer) for prompt, answer in parts)
    found = sorted((row["input_ids"], row["labels"]) for row in json.loads((folder / "labels.json").read_text()))
    shown = tokenizer.decode([token for token in found[0][1] if token >= 0])
    same = found == expected
    origin = all(set(record["metadata"]) == {"seed_id", "pair_id", "candidate_id"} for record in records)
    print(
        f"{folder.name}: {len(found)} rows, {'each' if same else 'NOT each'} taught its last answer alone; one of them: {shown!r}"
    )
    if not same:
        wrong = next((row for row in found if row not in expected), None)
        print(f"  a wrong one: {wrong and tokenizer.decode(wrong[0])!r}, labels {wrong and wrong[1]}")
    return same and origin


def checked_call(folder: Path, environment: Path) -> None:
    """Of a trainer that does not start without a GPU: whether its loader has the arguments that the script gives it."""
    [loader] = environment.glob("lib/python*/site-packages/unsloth/models/loader.py")
    known = {
        argument.arg
        for part in ast.walk(ast.parse(loader.read_text("utf-8")))
        if isinstance(part, ast.ClassDef) and part.name == "FastLanguageModel"
        for method in part.body
        if isinstance(method, ast.FunctionDef) and method.name == "from_pretrained"
        for argument in (*method.args.args, *method.args.kwonlyargs)
    }
    calls = [
        part for part in ast.walk(ast.parse((folder / "train.py").read_text("utf-8"))) if isinstance(part, ast.Call)
    ]
    given = {
        str(word.arg)
        for call in calls
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "FastLanguageModel.from_pretrained"
        for word in call.keywords
    }
    print(
        f"{folder.name}: FastLanguageModel.from_pretrained knows {sorted(given & known)}, and not {sorted(given - known)}"
    )


if __name__ == "__main__":
    sys.exit(main())
