"""What instruction agents make of real instructions, and how well the checks tell the broken rewrites from the good ones.

    python -m star_pipeline_tests.benchmarks.rewrites make --seeds alpaca.json --api http://127.0.0.1:8080/v1 --model M --out made.jsonl
    python -m star_pipeline_tests.benchmarks.rewrites measure made.jsonl ...

``make`` asks an OpenAI-compatible server with the shipped prompts (or those of ``--prompts FOLDER``), and adds to ``--out``. A line's
``label`` is what a reader calls it: good, or the kind of its fault. ``measure`` counts the kinds, and for labelled lines precision and
recall with their 95% intervals, of lines whose number is even (tuned on) and odd (held out).
"""

import argparse
import json
import random
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from star_pipeline.core.equations.prompts import INSTRUCTION_PROMPTS, PromptLibrary, wording_of
from star_pipeline.core.equations.replies import read_reply
from star_pipeline.core.equations.rewrite_checks import check_rewrite
from star_pipeline.core.equations.unwrapping import unwrapped_instruction
from star_pipeline.core.intervals import share
from star_pipeline.core.ports import ChatReply

CLEAR = frozenset({"cut_off", "echo", "empty_reply"})
"""Told by comparison alone: not counted in precision and recall."""


def make(options: argparse.Namespace) -> None:
    rows = json.loads(options.seeds.read_text("utf-8"))
    texts = sorted({"\n".join(filter(None, (row["instruction"], row["input"]))) for row in rows})
    random.Random(options.seed).shuffle(texts)
    library = prompts(options.prompts)
    with options.out.open("a", encoding="utf-8") as out:
        for number, given in enumerate([text for text in texts if len(text) < options.longest][: options.count]):
            name = INSTRUCTION_PROMPTS[number // 5 % len(INSTRUCTION_PROMPTS)]
            said = library.messages(name, variables(given))
            messages = [{"role": message.role, "content": message.content} for message in said]
            body = {"model": options.model, "messages": messages, "temperature": 0.7, "max_tokens": 300, "seed": number}
            request = urllib.request.Request(
                f"{options.api}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=600) as answer:
                choice = json.load(answer)["choices"][0]
            line = {"i": number, "model": options.model, "prompt": name, "instruction": given}
            line |= {"reply": choice["message"]["content"], "finish": choice["finish_reason"]}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            out.flush()


def prompts(folder: Path | None) -> PromptLibrary:
    return PromptLibrary({path.stem: path.read_text("utf-8") for path in folder.glob("*.jinja")} if folder else {})


def variables(given: str) -> dict[str, Any]:
    return {"system": None, "history": (), "instruction": given}


def told(line: dict[str, Any], library: PromptLibrary) -> tuple[str, str]:
    """(kind, reason) as a candidate would have it; ``ok`` where nothing is wrong."""
    given, prompt = line["instruction"], line["prompt"]
    reply = ChatReply(line["reply"], line["finish"], 1, 1, 0.0, 0.0)
    read = read_reply(reply, given, unwrap=lambda text: unwrapped_instruction(text, given))
    if read.text is None:
        return str(read.kind), str(read.reason)
    values = variables(given)
    check = check_rewrite(given, read.text, prompt, wording_of(library.messages(prompt, values), values))
    return check.kind or "ok", check.reason or " ".join(check.warnings)


def measure(options: argparse.Namespace) -> None:
    library = prompts(options.prompts)
    lines = [json.loads(line) for path in options.made for line in path.read_text("utf-8").splitlines()]
    kinds = [told(line, library)[0] for line in lines]
    for model in sorted({line["model"] for line in lines}):
        counted = Counter(kind for line, kind in zip(lines, kinds, strict=True) if line["model"] == model)
        print(f"{model}: {counted.total()} rewrites: " + ", ".join(f"{n} {kind}" for kind, n in counted.most_common()))
    judged = [(line, kind) for line, kind in zip(lines, kinds, strict=True) if line.get("label") and kind not in CLEAR]
    for name, half in (("even (tuned on)", 0), ("odd (held out)", 1)):
        rows = [(line["label"], kind) for line, kind in judged if line["i"] % 2 == half]
        print(f"{name}: {len(rows)} labelled, {sum(label != 'good' for label, _ in rows)} broken")
        for kind in ("any fault", *sorted({kind for row in rows for kind in row} - {"good", "ok"})):
            of = (lambda said: said not in ("good", "ok")) if kind == "any fault" else kind.__eq__
            # a fault under another kind's name is refused all the same
            right = share(sum(label != "good" for label, said in rows if of(said)), sum(of(said) for _, said in rows))
            caught = share(sum(said != "ok" for label, said in rows if of(label)), sum(of(label) for label, _ in rows))
            print(f"  {kind:16} precision {shown(right)}, recall {shown(caught)}")
    for line, kind in judged:
        if (line["label"] == "good") != (kind == "ok"):
            print(f"  {line['label']} told as {kind}: {line['instruction'][:100]!r} -> {line['reply'][:160]!r}")


def shown(estimate: Any) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.figure:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] of {estimate.n}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make")
    making.add_argument("--seeds", type=Path, required=True, help="JSON list of instruction and input")
    making.add_argument("--api", required=True)
    making.add_argument("--model", required=True)
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--count", type=int, default=200)
    making.add_argument("--longest", type=int, default=1100, help="characters of an instruction")
    making.add_argument("--seed", type=int, default=11)
    making.set_defaults(work=make)
    measuring = commands.add_parser("measure")
    measuring.add_argument("made", type=Path, nargs="+")
    measuring.set_defaults(work=measure)
    for command in (making, measuring):
        command.add_argument("--prompts", type=Path, help="folder of prompts in place of the shipped ones")
    options = parser.parse_args()
    options.work(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
