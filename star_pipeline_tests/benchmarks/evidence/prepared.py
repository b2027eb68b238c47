"""What a study with real models is made of: files of seeds and of held-out questions off the tape, and the product's configuration."""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, JUDGE, TEN

SEEDS_BY = "text_davinci_003"
"""Whose answers the seeds have, as Alpaca's 52,000 do."""
REFERENCES = ("mt_bench", "vicuna_bench")


def usable(rows: Sequence[JsonMapping], longest: int) -> list[JsonMapping]:
    """The recorded questions that all LLMs answered, in an order drawn by their text. Vicuna's are FastChat's, and held out with those."""
    fit = [
        row for row in rows
        if len(row["instruction"]) <= longest and row["dataset"] != "vicuna"
        and all(row["answers"].get(name, {}).get("output", "").strip() for name in (*TEN, CHATGPT, SEEDS_BY))
    ]  # fmt: skip  # a condition a line
    return sorted(fit, key=lambda row: hashlib.sha256(row["instruction"].encode()).hexdigest())


def fastchat_references(folder: Path, longest: int) -> list[JsonObject]:
    """First turns with GPT-4's reference answers to them, in an order drawn by their text."""
    found = []
    for name in REFERENCES:
        lines = (folder / f"{name}_question.jsonl").read_text("utf-8").splitlines()
        asked = {row["question_id"]: row for row in map(json.loads, lines)}
        for line in (folder / f"{name}_reference_gpt-4.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            question = asked[row["question_id"]]
            answer = row["choices"][0]["turns"][0]
            if len(question["turns"][0]) <= longest:
                found.append({"instruction": question["turns"][0], "output": answer, "category": "fastchat"})
    return sorted(found, key=lambda row: hashlib.sha256(row["instruction"].encode()).hexdigest())


def configured(options: argparse.Namespace) -> tuple[Path, Path]:
    """(configuration, seed file), written under OUT."""
    wanted = yaml.safe_load(options.settings.read_text("utf-8"))
    sizes, pipeline = wanted["sizes"], wanted["pipeline"]
    rows = usable([json.loads(line) for line in options.tape.read_text("utf-8").splitlines()], sizes["longest"])
    taught, held_out = rows[: sizes["seeds"]], rows[-sizes["held_out"] :]
    if len(rows) < len(taught) + len(held_out):
        raise SystemExit(f"{options.tape}: {len(rows)} usable questions, too few for {sizes}")
    files = {
        "seeds.json": [{"instruction": row["instruction"], "output": row["answers"][SEEDS_BY]["output"]} for row in taught],
        "held_out.json": [{"instruction": row["instruction"], "output": row["reference"], "category": "tape"} for row in held_out],
        "fastchat.json": fastchat_references(options.fastchat, 2 * sizes["longest"])[: sizes["fastchat"]],
    }  # fmt: skip  # a file a line
    for name, records in files.items():
        (options.out / name).write_text(json.dumps(records), "utf-8")
    pipeline |= {
        "agents": {name: {"model": f"hosted_vllm/{name}", "api_base": options.url} for name in (CHATGPT, JUDGE, *TEN)},
        "pairs": {**pipeline["pairs"], "sampled": [f"keep+{name}" for name in TEN], "base": [f"keep+{CHATGPT}"]},
        "scoring": {**pipeline["scoring"], "small": str(options.small.resolve()), "large": str(options.large.resolve())},
        "judge": {**pipeline["judge"], "agent": JUDGE},
        "journal": str((options.out / "journal").resolve()),
    }  # fmt: skip  # a section a line
    references = [str((options.out / name).resolve()) for name in ("held_out.json", "fastchat.json")]
    pipeline["study"]["evaluate"] = {"held_out": references}
    path = options.out / "evidence.json"
    path.write_text(json.dumps(pipeline, indent=1), "utf-8")
    return path, options.out / "seeds.json"
