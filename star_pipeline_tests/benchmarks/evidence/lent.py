"""Real gaps of few answers, lent to all recorded ones: where scoring every answer under two real models costs more than there is.

What ``ifd_measures losses --answers TAPE`` kept of two models are the gaps of some answers. A recorded answer borrows π_dual from one of
the ten scored answers nearest to it in length: so π_dual has its real distribution and its real dependence on length, and none on the
pair or on how good the answer is. It is an assumption, made for the reason that the scored ones show no such dependence.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from star_pipeline.core.aliases import Values
from star_pipeline.core.equations.calibration import ranked_gaps
from star_pipeline.core.equations.composite import divisor, pi_dual
from star_pipeline_tests.benchmarks import ifd_figures
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, Matrix, log_odds, verdict

NEAREST = 10
START, ASKED = "token", ("plain", "chat")
"""How the small and the large model are asked."""


def scored_answers(tape: Path, small: Path, large: Path) -> pd.DataFrame:
    """A row an answer that both models scored: its gap, raw and by ranks, and what GPT-4 said of it."""
    recorded = {row["instruction"]: row["answers"] for row in map(json.loads, tape.read_text("utf-8").splitlines())}
    one, other = ifd_figures.read(small), ifd_figures.read(large)
    found = []
    for key in sorted(key for key in one.keys() & other.keys() if key[0] == "answer"):
        _, instruction, llm = key
        answers = recorded[instruction]
        ifd = [losses[key].ifd(asked, START) for losses, asked in zip((one, other), ASKED, strict=True)]
        found.append({
            "seed": instruction, "pair": f"keep+{llm}", "slot": 1, "truncated": False, "characters": len(answers[llm]["output"]),
            "n_tokens": one[key].tokens, "ifd_small": ifd[0], "ifd_large": ifd[1], "gap": ifd[0] - ifd[1],
            "nll_given": float(one[key].ways[ASKED[0]].mean()), "odds": log_odds(answers[llm]["win"]),
            "judged": verdict(answers[llm]["win"], answers[CHATGPT]["win"]),
        })  # fmt: skip  # a group a line
    return with_duals(pd.DataFrame(found))


def with_duals(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with π_dual by each calibration, all of them one shard."""
    ranks = ranked_gaps(list(rows["ifd_small"]), list(rows["ifd_large"]), list(rows["n_tokens"]), "rank")
    made = rows.assign(gap_calibrated=ranks)
    for rule, column in (("none", "gap"), ("rank", "gap_calibrated")):
        by = divisor(list(made[column]), "p95")
        made[rule] = [pi_dual(gap, by) for gap in made[column]]
    return made


def lent(matrix: Matrix, lengths: Values, rows: pd.DataFrame, run: int) -> dict[str, Values]:
    """π_dual by calibration, (seeds, pairs and then the reference): lent from a bootstrap sample of the scored instructions.

    ``lengths`` are in characters, of the same shape, nan where there is no answer.
    """
    random = np.random.default_rng((29, run))
    names = rows["seed"].unique()
    some = with_duals(pd.concat([rows[rows["seed"] == name] for name in random.choice(names, len(names))]))
    apart = np.abs(np.log(some["characters"].to_numpy())[None, :] - np.log(np.maximum(lengths.ravel(), 1))[:, None])
    near = np.argsort(apart, axis=1, kind="stable")[:, :NEAREST]
    pick = near[np.arange(len(near)), random.integers(NEAREST, size=len(near))]
    absent = np.isnan(lengths)
    return {
        rule: np.where(absent, 0.0, some[rule].to_numpy()[pick].reshape(lengths.shape)) for rule in ("none", "rank")
    }
