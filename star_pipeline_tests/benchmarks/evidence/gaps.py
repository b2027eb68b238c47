"""What two real scoring models say of recorded answers: their gaps beside GPT-4's opinion and the answers' length, without any call.

    python -m star_pipeline_tests.benchmarks.evidence.gaps --tape FILE --scores FILE

``scores`` is what tuned.py or real_models.py wrote: a line an answer, of every pair and the reference to every instruction. Selection
compares answers to one instruction, so correlations are computed within each instruction and their mean is told; intervals are by
bootstrap over instructions.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from star_pipeline.core.aliases import JsonObject, Values
from star_pipeline.core.equations.calibration import Calibration, ranked_gaps
from star_pipeline.core.equations.composite import divisor, pi_dual
from star_pipeline.core.intervals import Estimate, bootstrap, mean, mid_ranks, spearman
from star_pipeline_tests.benchmarks.evidence.page import shown, table
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, TEN, Matrix, log_odds, read

RULES: tuple[Calibration, ...] = ("none", "rank", "rank_by_length")
LENGTHS, PLACEBOS = 20, 50
"""Classes of like length (of 4,763 answers about 240 each), and how often the gaps are dealt out anew within them."""


@dataclass(frozen=True)
class Scored:
    """Recorded answers with real gaps. ``judged`` is π_llm, ``duals`` π_dual by calibration, both (seeds, pairs and then the reference);
    ``odds`` the log-odds with which GPT-4 preferred each answer to its own. ``rows`` has a row an answer: ``gap RULE`` and ``RULE``, its
    π_dual, of each calibration."""

    judged: Matrix
    duals: dict[Calibration, Values]
    odds: Values
    rows: pd.DataFrame

    def reward(self, kind: str, calibration: Calibration) -> Matrix:
        """What evolution and selection see: ``both`` (Eq. 7), ``judge`` alone, or ``gap`` alone."""
        llm, dual = self.judged, self.duals[calibration]
        if kind == "judge":
            return llm
        if kind == "gap":
            return replace(llm, pi=dual[:, :-1], base_pi=dual[:, -1])
        return replace(llm, pi=llm.pi * dual[:, :-1], base_pi=0.5 * dual[:, -1])


def scored(tape: Path, scores: Path) -> Scored:
    """Answers that the product scored."""
    rows = with_gaps(pd.DataFrame([json.loads(line) for line in scores.read_text("utf-8").splitlines()]))
    questions = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    place = {hashlib.sha256(row["instruction"].encode()).hexdigest(): n for n, row in enumerate(questions)}
    seeds = list(dict.fromkeys(rows["seed"]))
    kept = [place[name] for name in seeds]
    whole = read(tape, CHATGPT, tuple({name for row in questions for name in row["answers"]} - {CHATGPT, *TEN}))
    judged = replace(
        whole, instructions=tuple(whole.instructions[n] for n in kept), pi=whole.pi[kept], usd=whole.usd[kept], base_pi=whole.base_pi[kept]
    )  # fmt: skip  # one construction
    names = [*judged.pairs, judged.base]
    duals = {
        rule: rows.pivot(index="seed", columns="pair", values=rule).loc[seeds, names].fillna(0.0).to_numpy()
        for rule in RULES
    }
    asked = [questions[n] for n in kept]
    odds = of_answers(asked, names, lambda answer: log_odds(answer["win"]))
    lengths = of_answers(asked, names, lambda answer: len(answer["output"]))
    where = {name: n for n, name in enumerate(seeds)}
    at = [(where[seed], names.index(pair)) for seed, pair in zip(rows["seed"], rows["pair"], strict=True)]
    rows["judged"] = [np.append(judged.pi[s], 0.5)[p] for s, p in at]
    rows["characters"] = [lengths[s, p] for s, p in at]
    rows["odds"] = [odds[s, p] for s, p in at]
    return Scored(judged, duals, odds, rows)


def with_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the gap and π_dual of each calibration, shard by shard as the product has them."""
    for rule in RULES:
        rows[f"gap {rule}"], rows[rule] = np.nan, np.nan
        for _, shard in rows[rows["gap"].notna()].groupby("shard"):
            gaps = shard["gap"].to_numpy(float)
            if rule != "none":
                gaps = ranked_gaps(list(shard["ifd_small"]), list(shard["ifd_large"]), list(shard["n_tokens"]), rule)
            by = divisor(gaps.tolist(), "p95")
            rows.loc[shard.index, f"gap {rule}"] = gaps
            rows.loc[shard.index, rule] = [pi_dual(float(gap), by) for gap in gaps]
    return rows


def of_answers(questions: Sequence[JsonObject], names: Sequence[str], value: Callable[[JsonObject], float]) -> Values:
    """(questions, pairs): a value of each answer, nan where there is none."""
    answers = [[row["answers"].get(name.split("+")[1]) for name in names] for row in questions]
    return np.array([[value(answer) if answer else np.nan for answer in row] for row in answers])


def grouped(rows: pd.DataFrame, columns: Sequence[str], statistic: Callable[[Values], float]) -> Estimate | None:
    """A statistic of rows (answers, columns) with its interval over seeds."""
    groups = [of[list(columns)].to_numpy(float).ravel().tolist() for _, of in rows.groupby("seed", sort=False)]
    return bootstrap(groups, lambda parts: statistic(np.concatenate(parts).reshape(-1, len(columns))))


def ranked(values: Values) -> float:
    """Spearman's correlation of two columns."""
    return spearman(list(values[:, 0]), list(values[:, 1]))


def pearson(values: Values) -> float:
    return float(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) if np.all(values.std(axis=0)) else float("nan")


def each(rows: pd.DataFrame, columns: tuple[str, str], statistic: Callable[[Values], float] = ranked) -> Values:
    """The statistic of two columns within each instruction, in the order of their first rows; nan where one does not vary."""
    values, codes = rows[list(columns)].to_numpy(float), pd.factorize(rows["seed"])[0]
    return np.array([statistic(values[codes == n]) for n in range(codes.max() + 1)])


def within(values: Values) -> Estimate | None:
    """The mean over the instructions that have a value."""
    return mean(list(values[~np.isnan(values)]))


def placebo(rows: pd.DataFrame, column: str, other: str) -> Values:
    """What ``each`` gives where each answer has the value of one of like length, of whatever instruction: the mean of many deals."""
    random = np.random.default_rng(31)
    places = np.asarray(mid_ranks(list(rows["n_tokens"])))
    classes = np.floor(places * max(1, min(LENGTHS, len(rows) // 12))).astype(np.int64)
    values = rows[column].to_numpy(float)
    found = []
    for _ in range(PLACEBOS):
        dealt = values.copy()
        for number in np.unique(classes):
            members = np.flatnonzero(classes == number)
            members = random.permutation(members)
            dealt[members] = values[np.roll(members, 1)]  # none keeps its own
        found.append(each(rows.assign(dealt=dealt), ("dealt", other)))
    return np.asarray(np.nanmean(found, axis=0), np.float64)


def described(given: Scored) -> Iterator[str]:
    """The gaps of real models: signs, sizes, and what they go with."""
    rows = given.rows.dropna(subset=["gap"])
    yield f"{len(rows):,} answers of {rows['seed'].nunique()} instructions; {rows['truncated'].mean():.1%} cut; " \
          f"{rows['n_tokens'].mean():.0f} scored tokens an answer"  # fmt: skip
    yield table("real gaps | figure", [
        ["median IFD, small", shown(grouped(rows, ["ifd_small"], np.median), digits=3)],
        ["median IFD, large", shown(grouped(rows, ["ifd_large"], np.median), digits=3)],
        *([f"share of gaps above 0, {rule}", shown(grouped(rows.assign(up=rows[f"gap {rule}"] > 0), ["up"], np.mean), digits=3)]
          for rule in RULES),
        *([f"mean π_dual, {rule}", shown(grouped(rows, [rule], np.mean), digits=3)] for rule in RULES),
        ["Spearman of the two IFDs, within an instruction", shown(within(each(rows, ("ifd_small", "ifd_large"))), "+", 3)],
    ])  # fmt: skip  # a line a figure
    yield opinions(rows)
    if rows["seed"].value_counts().min() < len(TEN):
        return  # not every pair answered every seed
    drawn = rows[rows["slot"] > 0]
    names = sorted({*drawn["pair"]}, key=lambda name: -drawn[drawn["pair"] == name]["judged"].mean())
    yield table("pair | π_llm | " + " | ".join(f"π_dual, {rule}" for rule in RULES), [
        [name.removeprefix("keep+"), *(
            shown(mean(list(drawn[drawn["pair"] == name][column])), digits=2) for column in ("judged", *RULES)
        )]
        for name in names
    ])  # fmt: skip  # a column each


def opinions(rows: pd.DataFrame) -> str:
    """Within an instruction: what goes with GPT-4's log-odds, and what is left of it beside answers of like length."""
    measures = {
        **{f"gap, {rule}": (f"gap {rule}", 1.0) for rule in RULES}, "π_dual, none": ("none", 1.0), "IFD, small": ("ifd_small", 1.0),
        "IFD, large": ("ifd_large", 1.0), "mean log-likelihood, small": ("nll_given", -1.0), "scored tokens": ("n_tokens", 1.0),
    }  # fmt: skip  # read as a list
    lines = []
    for name, (column, sign) in measures.items():
        of = rows.assign(value=sign * rows[column])
        found = each(of, ("value", "odds"))
        by_length = placebo(of, "value", "odds")
        means = of.groupby("seed", sort=False)[["value", "odds"]].mean().to_numpy(float)
        lines.append([
            name, shown(within(found), "+", 3), shown(within(each(of, ("value", "odds"), pearson)), "+", 3),
            shown(within(by_length), "+", 3), shown(within(found - by_length), "+", 3),
            shown(within(each(of, ("value", "n_tokens"))), "+", 3),
            shown(bootstrap(list(means), lambda parts: ranked(np.stack(parts))), "+", 2),
        ])  # fmt: skip  # a row
    head = (
        "within an instruction | Spearman with GPT-4's log-odds | Pearson | Spearman, values dealt out among like lengths | left beside "
        "those | Spearman with length | of instructions' means, with log-odds"
    )
    return table(head, lines)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tape", "scores"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args(given)
    for part in described(scored(options.tape, options.scores)):
        print(part, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
