"""Recorded answers as a matrix: what π every pair's candidate of every seed would have, so that regret is exact."""

import json
import math
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from star_pipeline.core.aliases import Numbers, Values, Vectors

MARGIN = 1.0
"""Log-odds beyond which GPT-4 prefers one answer to another; nearer ones are a tie. As the server that plays the tape back has it."""
CHATGPT = "gpt-3.5-turbo-0301"
TEN = (
    "phi-2", "chatglm2-6b", "gemma-7b-it", "OpenHermes-2.5-Mistral-7B", "Qwen-14B-Chat", "gpt-3.5-turbo-1106", "alpaca-7b",
    "vicuna-7b-v1.5", "wizardlm-13b", "falcon-7b-instruct",
)  # fmt: skip  # read as a list; the paper's families first
JUDGE = "gpt4-judge"
"""The name under which GPT-4's recorded preferences are played back."""
USD_PER_MILLION = {
    "phi-2": 0.1, "gemma-2b-it": 0.1, "chatglm2-6b": 0.2, "gemma-7b-it": 0.2, "OpenHermes-2.5-Mistral-7B": 0.2, "alpaca-7b": 0.2,
    "vicuna-7b-v1.5": 0.2, "falcon-7b-instruct": 0.2, "wizardlm-13b": 0.3, "Qwen-14B-Chat": 0.3, "gpt-3.5-turbo-1106": 1.0,
    "gpt-3.5-turbo-0301": 1.5, "text_davinci_003": 20.0,
}  # fmt: skip  # read as a list
"""USD per million tokens, asked or told: an assumption, by size for open models, a list price's order of magnitude for OpenAI's."""


@dataclass(frozen=True)
class Matrix:
    """``pi`` (seeds, pairs), 0 where the LLM has no answer; ``usd`` likewise; ``base_pi`` (seeds,) of the reference."""

    instructions: tuple[str, ...]
    pairs: tuple[str, ...]
    base: str
    pi: Values
    usd: Values
    base_pi: Values

    def best(self, seeds: Numbers, count: int) -> tuple[float, tuple[str, ...]]:
        """The oracle: the fixed set of ``count`` pairs with the highest mean of the selected π over these seeds."""
        share = np.bincount(seeds, minlength=len(self.pi)) / len(seeds)

        def worth(those: tuple[int, ...]) -> float:
            return float(share @ np.maximum(self.pi[:, those].max(axis=1), self.base_pi))

        found = max(combinations(range(len(self.pairs)), count), key=worth)
        return worth(found), tuple(self.pairs[place] for place in found)


def log_odds(win: float) -> float:
    win = min(max(win, 1e-7), 1 - 1e-7)
    return math.log(win / (1 - win))


def verdict(one: float, other: float) -> float:
    """π_llm of an answer beside the reference's, by the log-odds of either against GPT-4's own answer."""
    apart = log_odds(one) - log_odds(other)
    return 1.0 if apart > MARGIN else 0.0 if apart < -MARGIN else 0.5


def read(tape: Path, base: str = CHATGPT, without: tuple[str, ...] = ()) -> Matrix:
    """π_llm of every LLM's answer beside ``base``'s; LLMs named in ``without`` take no part."""
    rows = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    models = sorted({name for row in rows for name in row["answers"]} - {base, *without})
    pi, usd = np.zeros((len(rows), len(models))), np.zeros((len(rows), len(models)))
    for place, row in enumerate(rows):
        for column, name in enumerate(models):
            if answer := row["answers"].get(name):
                pi[place, column] = verdict(answer["win"], row["answers"][base]["win"])
                tokens = (len(row["instruction"]) + len(answer["output"])) / 4
                usd[place, column] = tokens * USD_PER_MILLION.get(name, 0.2) / 1e6
    instructions = tuple(row["instruction"] for row in rows)
    return Matrix(
        instructions, tuple(f"keep+{name}" for name in models), f"keep+{base}", pi, usd, np.full(len(rows), 0.5)
    )


def embedded(matrix: Matrix, kept: Path) -> Vectors:
    """The instructions' embeddings by the product's own model, computed once and kept."""
    if not kept.exists():
        from star_pipeline.adapters.embedder import SentenceEmbedder

        np.save(kept, SentenceEmbedder("sentence-transformers/all-MiniLM-L6-v2").embed(list(matrix.instructions)))
    return np.asarray(np.load(kept), np.float32)


def write_answers(tape: Path, file: Path) -> None:
    """Every recorded answer as a record that ``star-pipeline score`` takes: seeds in their order, LLMs by name."""
    rows = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    file.write_text(
        json.dumps([
            {"instruction": row["instruction"], "output": row["answers"][name]["output"]} for row in rows for name in sorted(row["answers"])
        ])
    )  # fmt: skip


def with_gaps(matrix: Matrix, tape: Path, scores: Path) -> Matrix:
    """π = π_llm · π_dual, the gap scored by two models (``scores``: a row an answer, seeds in their order and LLMs by name), the divisor
    the 95th percentile of all positive gaps."""
    import pyarrow.parquet as pq

    gaps = iter(pq.read_table(scores).column("gap").to_pylist())
    rows = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    found = [{name: next(gaps) for name in sorted(row["answers"])} for row in rows]
    positive = [gap for row in found for gap in row.values() if gap is not None and gap > 0]
    divisor = float(np.quantile(positive, 0.95))

    def dual(pair: str) -> Values:
        return np.array([min(1.0, max(row.get(pair.split("+")[1]) or 0.0, 0.0) / divisor) for row in found])

    return replace(
        matrix, pi=matrix.pi * np.stack([dual(pair) for pair in matrix.pairs], axis=1), base_pi=0.5 * dual(matrix.base)
    )
