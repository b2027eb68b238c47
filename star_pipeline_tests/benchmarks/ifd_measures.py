"""Which IFD, and which gap, measures best on real weights: python -m star_pipeline_tests.benchmarks.ifd_measures [--help]

``losses`` keeps every token's loss under one model, for all ways to start and to ask; ``measures`` derives from two such files what
each variant of Eq. 4 and of the gap gives. The data: files of seeds (--pairs), and answers of several LLMs to the same instructions
with the chance that a judge prefers each (--answers, JSON lines: instruction, answers: {llm: {output, win}}).

    … losses  --model small/ --out small.jsonl --pairs a.json b.jsonl --answers recorded.jsonl
    … losses  --model large/ --out large.jsonl --dtype bfloat16 --pairs … --answers …
    … measures --small small.jsonl --large large.jsonl
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from upath import UPath

from star_pipeline.adapters.scoring import causal_lm
from star_pipeline.adapters.scoring.numerics import settle
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass, Tokens
from star_pipeline.adapters.scoring.tokenizer import load_tokenizer
from star_pipeline.adapters.seed_files import read_seeds
from star_pipeline.core.equations.ifd_templates import prompt_messages, prompt_text
from star_pipeline.core.intake.seeds import SeedRules
from star_pipeline.core.records import Seed
from star_pipeline_tests.benchmarks import ifd_figures

CLASSES = (3, 8, 20, 45, 90)
"""Most words of a response in each class of length."""
_MOST_WORDS_ASKED = 60
_LLMS = 5


@dataclass(frozen=True)
class Item:
    """A response, what asks for it, what asks for another, and the first in other words."""

    kind: str
    group: str
    name: str
    instruction: str
    response: str
    other: str
    win: float | None = None

    @property
    def reworded(self) -> str:
        return f"Could you help me with the following? {self.instruction} Thank you."


def items(
    pairs: Sequence[Path], answers: Path | None, a_class: int, instructions: int, classes: Sequence[int] = CLASSES
) -> list[Item]:
    found = []
    if pairs:
        rules = SeedRules(fields={}, skip_bad_rows=True)
        seeds = [seed for path in pairs for seed in _seeds(path, rules)]
        random.Random(0).shuffle(seeds)
        chosen: dict[int, dict[str, Seed]] = {most: {} for most in classes}
        for seed in seeds:
            words, asked = len(seed.response.split()), len(seed.instruction.split())
            most = next((most for most in CLASSES if words <= most), None)
            if (
                words
                and most in chosen
                and asked <= _MOST_WORDS_ASKED
                and not seed.history
                and len(chosen[most]) < a_class
            ):
                chosen[most].setdefault(seed.instruction, seed)
        flat = [(most, seed) for most in classes for seed in chosen[most].values()]
        random.Random(1).shuffle(flat)
        for (most, seed), (_, other) in zip(flat, [*flat[1:], flat[0]], strict=True):
            found.append(Item("pair", str(most), seed.seed_id, seed.instruction, seed.response, other.instruction))
    if answers:
        rows = [json.loads(line) for line in answers.read_text("utf-8").splitlines() if line.strip()]
        random.Random(2).shuffle(rows)
        taken = 0
        for number, row in enumerate(rows):
            fit = sorted(n for n, a in row["answers"].items() if 1 <= len(a["output"].split()) <= CLASSES[-1])
            if taken == instructions:
                break
            if len(fit) < _LLMS or len(row["instruction"].split()) > _MOST_WORDS_ASKED:
                continue
            taken += 1
            for llm in random.Random(number).sample(fit, _LLMS):
                answer = row["answers"][llm]
                found.append(
                    Item(
                        "answer",
                        row["instruction"],
                        llm,
                        row["instruction"],
                        answer["output"],
                        "",
                        float(answer["win"]),
                    )
                )
    return found


def _seeds(path: Path, rules: SeedRules) -> Iterator[Seed]:
    for fields in ({}, {"instruction": "prompt", "response": "answer"}):
        try:
            yield from (
                seed
                for seed in read_seeds(UPath(path), path.name, SeedRules(fields=fields, skip_bad_rows=True))
                if isinstance(seed, Seed)
            )
            return
        except Exception as error:  # another name of the fields
            reason = error
    raise SystemExit(f"{path}: {reason}")


def losses(args: argparse.Namespace) -> None:
    tokenizer = load_tokenizer(str(args.model))
    numerics = settle(args.dtype, args.device, None)
    chat = bool(tokenizer.tokenizer.chat_template)
    todo = [
        (item, way, made)
        for item in items(args.pairs, args.answers, args.a_class, args.instructions, args.classes)
        for way, made in _passes(item, tokenizer.tokenizer, tokenizer.start, chat).items()
        if not args.ways or way in args.ways
    ]
    passes = [made for _, _, made in todo]
    print(f"{len(passes):,} passes, {sum(len(p.tokens) for p in passes):,} tokens", flush=True)
    began = time.monotonic()
    with numerics.in_force(), args.out.open("w", encoding="utf-8") as out:
        model = causal_lm.load(str(args.model), numerics.dtype, "cuda" if numerics.device == "cuda" else "cpu")
        for members in model.plan(passes, args.batch_tokens):
            begun = model.begin(passes, members)
            assert begun is not None, "memory did not suffice: lower --batch-tokens"
            for number, values in begun.by_token().items():
                item, way, _ = todo[number]
                row = {"kind": item.kind, "group": item.group, "name": item.name, "win": item.win, "way": way}
                out.write(json.dumps({**row, "losses": [round(value, 5) for value in values]}) + "\n")
            out.flush()
    print(f"{time.monotonic() - began:.0f} s")


def _passes(item: Item, tokenizer: object, start: int, chat: bool) -> dict[str, ForwardPass]:
    def ids(text: str) -> Tokens:
        return np.array(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)  # type: ignore[operator]

    def given(*before: Tokens) -> ForwardPass:
        return ForwardPass(np.concatenate([*before, response]), len(response))

    def asked(text: str) -> Tokens:
        made = ids(
            tokenizer.apply_chat_template(  # type: ignore[attr-defined]
                prompt_messages(None, (), text), tokenize=False, add_generation_prompt=True
            )
        )
        return made[1:] if made[0] == start else made

    first, newline, response = np.array([start], dtype=np.int32), ids("\n"), ids(item.response)
    plain = ids(prompt_text("plain", None, (), item.instruction))
    made = {
        "alone": given(first),
        "alone_newline": given(first, newline),
        "plain": given(first, plain),
        "plain_newline": given(first, newline, plain),
        "alpaca": given(first, ids(prompt_text("alpaca", None, (), item.instruction))),
    }
    padding = tokenizer.pad_token_id  # type: ignore[attr-defined]
    if padding is not None and padding != start and chat:
        made["alone_pad"] = given(np.array([padding], dtype=np.int32))
    if item.kind == "pair":
        made |= {
            "plain_other": given(first, ids(prompt_text("plain", None, (), item.other))),
            "plain_reworded": given(first, ids(prompt_text("plain", None, (), item.reworded))),
            "alpaca_other": given(first, ids(prompt_text("alpaca", None, (), item.other))),
        }
    if chat:
        made["chat"] = given(first, asked(item.instruction))
        if item.kind == "pair":
            made["chat_other"] = given(first, asked(item.other))
            made["chat_reworded"] = given(first, asked(item.reworded))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("losses")
    one.add_argument("--model", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--pairs", type=Path, nargs="*", default=[])
    one.add_argument("--answers", type=Path)
    one.add_argument("--a-class", type=int, default=16, help="pairs in each class of length")
    one.add_argument("--classes", type=int, nargs="*", default=CLASSES, choices=CLASSES, help="only these classes")
    one.add_argument("--instructions", type=int, default=24, help=f"of {_LLMS} answers each")
    one.add_argument("--ways", nargs="*", help="only these ways to start and ask")
    one.add_argument("--dtype", default="auto")
    one.add_argument("--device", default="cpu")
    one.add_argument("--batch-tokens", type=int, default=1024)
    one.set_defaults(does=losses)
    two = commands.add_parser("measures")
    two.add_argument("--small", type=Path, required=True)
    two.add_argument("--large", type=Path, required=True)
    two.set_defaults(does=lambda args: ifd_figures.show(args.small, args.large))
    args = parser.parse_args()
    args.does(args)


if __name__ == "__main__":
    main()
