"""What real scoring models say of recorded answers, and what each part of the method is worth with them (Table 3), without any call.

    python -m star_pipeline_tests.benchmarks.evidence.parts --tape FILE --scores FILE --out FOLDER [--runs 20] [--seeds 779]
    python -m star_pipeline_tests.benchmarks.evidence.parts --tape FILE --lent SMALL LARGE --out FOLDER

``scores`` is what real_models.py wrote of a lake in which all ten pairs answered every seed; ``lent`` are two files of ifd_measures, of
some answers, whose gaps are lent to the others (lent.py). A run draws its own questions from the
scored ones with replacement (a bootstrap sample of them), and then its seeds from those: so intervals over runs hold what few questions
leave open. Arms are compared run by run. A line a run goes to OUT/parts.jsonl, and what is there is not done again.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from star_pipeline.core.aliases import JsonObject, Values, Vectors
from star_pipeline.core.equations.composite import divisor, pi_dual
from star_pipeline.core.intervals import Estimate, bootstrap, mean
from star_pipeline_tests.benchmarks.evidence import lent
from star_pipeline_tests.benchmarks.evidence.courses import Arm, Setting, run_course, seeds_of
from star_pipeline_tests.benchmarks.evidence.page import shown, table
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, TEN, Matrix, embedded, log_odds, read

GAPS = {"none": "gap", "rank": "gap_calibrated"}
EQ8, THOMPSON = Arm("eq8 0.05", "eq8", 0.05), Arm("thompson", "thompson")
PAPER, UNIFORM = Arm("eq8 0.001", "eq8", 0.001), Arm("uniform", "eq8")
M, SHARD = 3, 64


@dataclass(frozen=True)
class Scored:
    """Recorded answers with real gaps. ``judged`` is π_llm, ``duals`` π_dual by calibration, both (seeds, pairs and then the reference);
    ``odds`` the log-odds with which GPT-4 preferred each answer to its own."""

    judged: Matrix
    duals: dict[str, Values]
    odds: Values
    rows: pd.DataFrame

    def reward(self, kind: str, calibration: str) -> Matrix:
        """What evolution and selection see: ``both`` (Eq. 7), ``judge`` alone, or ``gap`` alone."""
        llm, dual = self.judged, self.duals[calibration]
        if kind == "judge":
            return llm
        if kind == "gap":
            return replace(llm, pi=dual[:, :-1], base_pi=dual[:, -1])
        return replace(llm, pi=llm.pi * dual[:, :-1], base_pi=0.5 * dual[:, -1])


def matrix_of(questions: Sequence[JsonObject], tape: Path, kept: Sequence[int]) -> Matrix:
    """π_llm of the ten pairs' answers to the questions ``kept``."""
    whole = read(tape, CHATGPT, tuple({name for row in questions for name in row["answers"]} - {CHATGPT, *TEN}))
    return replace(
        whole, instructions=tuple(whole.instructions[n] for n in kept), pi=whole.pi[kept], usd=whole.usd[kept], base_pi=whole.base_pi[kept]
    )  # fmt: skip  # one construction


def of_answers(questions: Sequence[JsonObject], names: Sequence[str], value: Callable[[JsonObject], float]) -> Values:
    """(questions, pairs): a value of each answer, nan where there is none."""
    answers = [[row["answers"].get(name.split("+")[1]) for name in names] for row in questions]
    return np.array([[value(answer) if answer else np.nan for answer in row] for row in answers])


def scored(tape: Path, scores: Path) -> Scored:
    """Answers that the product scored."""
    rows = pd.DataFrame([json.loads(line) for line in scores.read_text("utf-8").splitlines()])
    questions = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    place = {hashlib.sha256(row["instruction"].encode()).hexdigest(): n for n, row in enumerate(questions)}
    seeds = list(dict.fromkeys(rows["seed"]))
    kept = [place[name] for name in seeds]
    judged = matrix_of(questions, tape, kept)
    for rule, column in GAPS.items():
        rows[rule] = np.nan
        for _, shard in rows.groupby("shard"):
            by = divisor([gap for gap in shard[column] if pd.notna(gap)], "p95")
            rows.loc[shard.index, rule] = [np.nan if pd.isna(gap) else pi_dual(gap, by) for gap in shard[column]]
    names = [*judged.pairs, judged.base]
    duals = {
        rule: rows.pivot(index="seed", columns="pair", values=rule).loc[seeds, names].fillna(0.0).to_numpy()
        for rule in GAPS
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


def lending(tape: Path, small: Path, large: Path) -> tuple[Scored, Callable[[int], Scored]]:
    """All recorded answers without gaps of their own, and what they are with those lent to a run."""
    questions = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    judged, rows = matrix_of(questions, tape, range(len(questions))), lent.scored_answers(tape, small, large)
    names = [*judged.pairs, judged.base]
    lengths = of_answers(questions, names, lambda answer: len(answer["output"]))
    odds = of_answers(questions, names, lambda answer: log_odds(answer["win"]))
    bare = Scored(judged, {}, odds, rows)
    return bare, lambda run: replace(bare, duals=lent.lent(judged, lengths, rows, run))


def grouped(rows: pd.DataFrame, columns: Sequence[str], statistic: Callable[[Values], float]) -> Estimate | None:
    """A statistic of rows (answers, columns) with its interval over seeds."""
    groups = [of[list(columns)].to_numpy(float).ravel() for _, of in rows.groupby("seed", sort=False)]
    return bootstrap(groups, lambda parts: statistic(np.concatenate(parts).reshape(-1, len(columns))))


def ranked(values: Values) -> float:
    """Spearman's correlation of two columns."""
    places = pd.DataFrame(values).rank().to_numpy()
    return float(np.corrcoef(places.T)[0, 1]) if len(np.unique(values[:, 1])) > 1 else float("nan")


def within(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Each value less the mean of its seed: what is left is the difference between answers to one instruction."""
    apart = rows[list(columns)] - rows.groupby("seed")[list(columns)].transform("mean")
    return apart.assign(seed=rows["seed"])


def described(given: Scored) -> Iterator[str]:
    """The gaps of real models: signs, and what π_dual goes with."""
    rows = given.rows.dropna(subset=["gap", "none"])
    drawn = rows[rows["slot"] > 0]
    yield f"{len(rows):,} answers of {rows['seed'].nunique()} instructions; {rows['truncated'].mean():.0%} cut; " \
          f"{rows['n_tokens'].mean():.0f} scored tokens an answer"  # fmt: skip
    yield table("real gaps | figure", [
        ["mean IFD, small", shown(grouped(rows, ["ifd_small"], np.mean), digits=3)],
        ["mean IFD, large", shown(grouped(rows, ["ifd_large"], np.mean), digits=3)],
        ["share of gaps above 0", shown(grouped(rows.assign(up=rows["gap"] > 0), ["up"], np.mean), digits=3)],
        ["mean π_dual, none", shown(grouped(rows, ["none"], np.mean), digits=3)],
        ["mean π_dual, rank", shown(grouped(rows, ["rank"], np.mean), digits=3)],
        ["Spearman, IFD small with large", shown(grouped(rows, ["ifd_small", "ifd_large"], ranked), "+", 2)],
    ])  # fmt: skip  # a line a figure
    lines = []
    for what, column in (("scored tokens", "n_tokens"), ("characters of the whole answer", "characters"), ("π_llm", "judged"),
                         ("GPT-4's log-odds", "odds"), ("mean log-likelihood (small)", "nll_given")):  # fmt: skip
        sign = -1.0 if column == "nll_given" else 1.0
        cells = []
        for rule in GAPS:
            pair = drawn.assign(other=sign * drawn[column])
            cells.append(shown(grouped(pair, [rule, "other"], ranked), "+", 2))
            cells.append(shown(grouped(within(pair, [rule, "other"]), [rule, "other"], ranked), "+", 2))
        lines.append([what, *cells])
    yield table(
        "Spearman of π_dual with | none | none, within an instruction | rank | rank, within an instruction", lines
    )
    if rows["seed"].value_counts().min() < len(TEN):
        return  # not every pair answered every seed
    names = sorted({*drawn["pair"]}, key=lambda name: -drawn[drawn["pair"] == name]["judged"].mean())
    yield table("pair | π_llm | π_dual, none | π_dual, rank | π, none | π, rank", [
        [name.removeprefix("keep+"), *(
            shown(mean(list(values)), digits=2)
            for of in [drawn[drawn["pair"] == name]]
            for values in (of["judged"], of["none"], of["rank"], of["judged"] * of["none"], of["judged"] * of["rank"])
        )]
        for name in names
    ])  # fmt: skip  # a column each


@dataclass(frozen=True)
class Way:
    """A run of the loop: how pairs are drawn, and what reward evolution and selection see."""

    name: str
    arm: Arm
    reward: str = "both"
    calibration: str = "rank"
    seeds: int = 0


def ways(seeds: int) -> Iterator[Way]:
    remembering = replace(THOMPSON, name="thompson, memory", from_memory=1)
    for rule in GAPS:
        yield Way(f"whole, {rule}", remembering, calibration=rule)
        yield Way(f"without memory, {rule}", THOMPSON, calibration=rule)
        yield Way(f"without evolution, {rule}", replace(UNIFORM, from_memory=1), calibration=rule)
        yield Way(f"without judge, {rule}", remembering, "gap", rule)
    yield Way("without gap", remembering, "judge")
    for rule in GAPS:
        for arm in (PAPER, EQ8):
            yield Way(f"{arm.name}, {rule}", arm, calibration=rule)
    for rule in GAPS:
        yield Way(f"{PAPER.name}, 16,000 seeds, {rule}", PAPER, calibration=rule, seeds=16_000)


def one_run(given: Scored, way: Way, seeds: int, vectors: Vectors, run: int) -> JsonObject:
    """A line of parts.jsonl: ``pi`` is what the way itself sees, ``pi_llm`` and ``odds`` what GPT-4 says of what it selected."""
    some = np.random.default_rng((23, run)).integers(len(given.judged.pi), size=len(given.judged.pi))
    seen = given.reward(way.reward, way.calibration)
    sample = replace(
        seen, instructions=tuple(seen.instructions[n] for n in some), pi=seen.pi[some], usd=seen.usd[some], base_pi=seen.base_pi[some]
    )  # fmt: skip  # one construction
    count = way.seeds or seeds
    setting = Setting(M, count, shard=256 if count > 2000 else SHARD)
    outcome = run_course(way.arm, setting, sample, vectors[some], run)
    order = some[seeds_of(setting, sample, run)]
    everything = np.column_stack([given.judged.pi, given.judged.base_pi])
    top = int(np.argmax(outcome.moves[-1]))
    return {
        "way": way.name, "run": run, "seeds": count, "pi": float(outcome.selected.mean()),
        "pi_llm": float(everything[order, outcome.picked].mean()), "odds": float(given.odds[order, outcome.picked].mean()),
        "reference": float((outcome.picked < 0).mean()), "top": sample.pairs[top],
        "best": sample.pairs[int(np.argmax(np.bincount(some, minlength=len(seen.pi)) @ seen.pi))],
        "probabilities": dict(zip(sample.pairs, map(float, outcome.moves[-1]), strict=True)),
    }  # fmt: skip  # a group a line


def told(rows: Sequence[JsonObject]) -> Iterator[str]:
    of = pd.DataFrame(rows)
    counted = of["run"].value_counts()
    of = of[of["run"].isin(counted.index[counted == counted.max()])]  # one that was stopped lacks some ways
    yield f"{of['run'].nunique()} runs"
    pi_llm, odds = (of.pivot(index="run", columns="way", values=name) for name in ("pi_llm", "odds"))
    lines = []
    for rule in GAPS:
        whole = f"whole, {rule}"
        for part in (
            "whole",
            "without memory",
            "without evolution",
            "without judge",
            "without gap",
        ):
            name = part if part == "without gap" else f"{part}, {rule}"
            apart = (
                [shown(around(values[name] - values[whole]), "+", 2) for values in (pi_llm, odds)]
                if part != "whole"
                else ["", ""]
            )
            lines.append([rule, part, shown(around(pi_llm[name]), digits=3), *apart])
    yield table("calibration | part | mean selected π_llm | from the whole | log-odds of GPT-4, from the whole", lines)
    lines = []
    for name in dict.fromkeys(of["way"]):
        mine = of[of["way"] == name]
        chances = pd.DataFrame(list(mine["probabilities"]))
        first = list(mine["top"].value_counts().items())[:3]
        lines.append([
            name, f"{mine['seeds'].iloc[0]:,}", shown(around(mine["pi"]), digits=3),
            f"{(mine['top'] == mine['best']).sum()} of {len(mine)}", f"{mine['reference'].mean():.0%}",
            ", ".join(f"{pair.removeprefix('keep+')} {count}" for pair, count in first),
            *(shown(around(100 * chances[f"keep+{model}"]), digits=1) for model in ("OpenHermes-2.5-Mistral-7B", "phi-2")),
        ])  # fmt: skip  # a row
    yield table("way | seeds | mean selected π (its own) | best pair first, in runs | the reference is selected | first, in runs | "
                "Mistral-7B, % | Phi-2, %", lines)  # fmt: skip


def around(values: Sequence[float]) -> Estimate | None:
    """The mean, and what 95% of the runs lie within: each run has a bootstrap sample of the questions."""
    found = [float(value) for value in values]
    if not found:
        return None
    low, high = np.quantile(found, (0.025, 0.975))
    return Estimate(float(np.mean(found)), float(low), float(high), len(found))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tape", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", type=Path)
    source.add_argument("--lent", type=Path, nargs=2, metavar=("SMALL", "LARGE"))
    parser.add_argument("--runs", type=int, default=20, help="0: what the gaps are, and no simulation")
    parser.add_argument("--seeds", type=int, default=779)
    parser.add_argument("--long", action="store_true", help="the runs of 16,000 seeds too: minutes each")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.lent:
        found, of_run = lending(options.tape, *options.lent)
    else:
        found = scored(options.tape, options.scores)
        of_run = lambda run: found  # noqa: E731  # one for all runs
    vectors = embedded(found.judged, options.out / f"instructions-{len(found.judged.pi)}.npy")
    for part in described(found):
        print(part, end="\n\n", flush=True)
    kept = options.out / "parts.jsonl"
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}}")]
    kept.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    done = {(row["way"], row["run"]) for row in rows}
    with kept.open("a", encoding="utf-8") as file:
        for run in range(options.runs):
            for way in ways(options.seeds):
                if (way.name, run) not in done and (options.long or not way.seeds):
                    rows.append(one_run(of_run(run), way, options.seeds, vectors, run))
                    file.write(json.dumps(rows[-1]) + "\n")
                    file.flush()
    for part in told(rows) if rows else ():
        print(part, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
