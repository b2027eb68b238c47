"""What each rule of selection takes among all eleven answers, by GPT-4's opinion and by length: no model, no call.

    python -m star_pipeline_tests.benchmarks.evidence.selected --tape FILE --out FOLDER

``out`` is tuned.py's, with answers.parquet. The rules are the study's arms, over all scored instructions; ``random`` is the mean of the
eleven, what a draw gives. Intervals by bootstrap over instructions, differences instruction by instruction.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from star_pipeline.core.aliases import JsonMapping, Values
from star_pipeline.core.intervals import mean
from star_pipeline.core.study.arms import chosen
from star_pipeline_tests.benchmarks.evidence import prepared, tuned, whole_tape
from star_pipeline_tests.benchmarks.evidence.gaps import RULES
from star_pipeline_tests.benchmarks.evidence.page import shown, table
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, log_odds, verdict

CALIBRATED, OTHERS = ("star", "gap"), ("judge", "ifd", "likely", "longest", "seeds")


def picks(tape: whole_tape.Tape, folder: Path) -> dict[str, list[str]]:
    """Of each rule whose answer it takes, by instruction: the name of an LLM."""
    scores, everything = whole_tape.read_scores(tape, folder), range(len(tape.rows))
    found: dict[str, list[str]] = {}
    for calibration in RULES:
        given = whole_tape.options(tape, scores, calibration, everything)
        for rule in CALIBRATED if calibration != "none" else (*CALIBRATED, *OTHERS):
            rows = [chosen(rule, of, 0) for of in given]  # type: ignore[arg-type]  # a rule's name
            name = rule if calibration == "none" else f"{rule}, {calibration}"
            found[name] = [tape.seeds_by if row.candidate_id is None else row.pair_id.split("+")[1] for row in rows]
    return found


def figures(row: JsonMapping, name: str) -> tuple[float, float, float, float, float]:
    """π_llm, GPT-4's preference over its own answer, its log-odds, characters, and whether it is the reference's."""
    answer, base = row["answers"][name], row["answers"][CHATGPT]["win"]
    pi_llm = 0.5 if name == CHATGPT else verdict(answer["win"], base)
    return pi_llm, answer["win"], log_odds(answer["win"]), len(answer["output"]), float(name == CHATGPT)


def tables(rows: Sequence[JsonMapping], picked: Mapping[str, Sequence[str]]) -> Iterator[str]:
    values: dict[str, Values] = {
        "random": np.mean([[figures(row, name) for name in whole_tape.NAMES] for row in rows], axis=1),
        **{
            rule: np.array([figures(row, name) for row, name in zip(rows, names, strict=True)])
            for rule, names in picked.items()
        },
    }
    lines = []
    for rule, of in sorted(values.items(), key=lambda item: -item[1][:, 0].mean()):
        apart = of - values["random"]
        lines.append([
            rule, shown(mean(list(of[:, 0])), digits=3), shown(mean(list(of[:, 1])), digits=3),
            *("" if rule == "random" else shown(mean(list(apart[:, n])), "+", 2) for n in (0, 2)),
            shown(mean(list(of[:, 3])), digits=0), f"{of[:, 4].mean():.0%}",
        ])  # fmt: skip  # a row
    yield f"{len(rows)} instructions"
    yield table(
        "rule | π_llm | GPT-4's preference | π_llm, from random | log-odds, from random | characters | the reference's", lines
    )  # fmt: skip  # one call
    pairs = [
        (one, other)
        for one in values
        for other in ("judge", "gap", "longest")
        if one.startswith("star") and one != other
    ]
    pairs += [("star, rank_by_length", "star"), ("star", "star, rank")]
    yield table("rule | less | π_llm | log-odds | characters", [
        [one, other, *(shown(mean(list(values[one][:, n] - values[other][:, n])), "+", digits) for n, digits in ((0, 3), (2, 2), (3, 0)))]
        for one, other in pairs
    ])  # fmt: skip  # a row a line


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tape", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--settings", type=Path, default=tuned.SETTINGS)
    options = parser.parse_args(given)
    longest = yaml.safe_load(options.settings.read_text("utf-8"))["sizes"]["longest"]
    rows = prepared.usable([json.loads(line) for line in options.tape.read_text("utf-8").splitlines()], longest)
    for part in tables(rows, picks(whole_tape.Tape(rows, prepared.SEEDS_BY), options.out)):
        print(part, end="\n\n", flush=True)


if __name__ == "__main__":
    main()
