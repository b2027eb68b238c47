"""The scores: do the two models' scales compare, is there a score at all, and does length decide?"""

import numpy as np

from star_pipeline.core.aliases import Values
from star_pipeline.core.health.lines import LEAST_SEEDS, Signature, line
from star_pipeline.core.health.rows import Rows
from star_pipeline.core.intervals import of_totals, share
from star_pipeline.core.records import HealthLine

ONE_SIGN, SURELY_NONE = 0.85, 0.1
MOST_UNSCORED, SURELY_UNSCORED = 0.1, 0.5
FOLLOWS_LENGTH, SURELY_LENGTH = 0.6, 0.8

GAP = Signature(
    "gap",
    "Do the two scoring models' scales compare: are gaps of both signs?",
    "candidates whose gap is positive, of those with a gap",
    "candidates with a gap",
    "share",
    "",
    "take two base models of one family (or two tuned alike, each with its own template), or scoring.calibration: rank; then: "
    "star-pipeline run --rescore all",
)
SCORES = Signature(
    "scores",
    "Can nearly all candidates be scored?",
    "candidates without a gap, of those that were made",
    "candidates that were made",
    "share",
    "candidates without a gap can be neither selected nor rewarded",
    "see why: star-pipeline query failures; check scoring.template and scoring.max_length",
)
FOLLOWS = Signature(
    "length",
    "Does more than the length of a response decide which one is selected?",
    "rank correlation (Goodman and Kruskal's γ) of being selected and the tokens of the response, within seeds",
    "seeds whose best candidate has others of other length beside it",
    "correlation",
    "",
    "see gaps by length in ifd_scores and the judge's wins in: star-pipeline query length_bias; short responses: raise "
    "scoring.least_tokens; then: star-pipeline run --rescore all",
    LEAST_SEEDS,
)


def gamma(totals: Values) -> Values:
    """Goodman and Kruskal's γ = (C - D) / (C + D) of ``totals`` (2, …): pairs in the same order, and in the opposite one."""
    same, opposite = totals
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((same - opposite) / (same + opposite))


def score_lines(rows: Rows) -> list[HealthLine]:
    return [_gap(rows), _scores(rows), _length(rows)]


def _gap(rows: Rows) -> HealthLine:
    gaps = rows.numbers("gap")
    gaps = gaps[~np.isnan(gaps)]
    found = share(int((gaps > 0).sum()), len(gaps))
    if found is not None and found.figure < 0.5:
        bad = "hardly any gap is positive, so that π_dual is 0 for nearly all and there is little to select"
        if found.high < SURELY_NONE:
            bad = "no gap to speak of is positive, so that π_dual is 0 for all: nothing is selected or learnt"
    else:
        bad = "nearly every gap is positive: the models' scales may not compare, and the sign sorts nothing out"
    return line(GAP, found, lambda x: max(x, 1 - x) >= ONE_SIGN, lambda x: x < SURELY_NONE, bad=bad)


def _scores(rows: Rows) -> HealthLine:
    """Responses that are too short by ``scoring.least_tokens`` are so by the user's own wish, and do not count."""
    made = rows.among("status", "ok") & rows.known("scored") & ~rows.among("scored", "too_short")
    unscored = made & ~rows.among("scored", "ok")
    found = share(int(unscored.sum()), int(made.sum()))
    return line(SCORES, found, lambda x: x >= MOST_UNSCORED, lambda x: x >= SURELY_UNSCORED)


def _length(rows: Rows) -> HealthLine:
    """Each selected candidate that is best of its seed beside each other scored one of that seed, of another number of tokens."""
    tokens, seeds = rows.numbers("tokens"), rows.seeds
    chosen = rows.true("best") & ~np.isnan(tokens)
    count = int(seeds.max(initial=-1)) + 1
    length = np.full(count, np.nan)
    length[seeds[chosen]] = tokens[chosen]
    beside = length[seeds]
    others = ~rows.true("best") & ~np.isnan(tokens) & ~np.isnan(beside) & ~np.isnan(rows.numbers("gap"))
    differ = others & (tokens != beside)
    longer = differ & (beside > tokens)
    found = of_totals(seeds[differ], [longer[differ], ~longer[differ]], gamma)
    short = found is not None and found.figure < 0
    return line(
        FOLLOWS,
        found,
        lambda x: abs(x) >= FOLLOWS_LENGTH,
        lambda x: abs(x) >= SURELY_LENGTH,
        bad=f"what is selected is nearly always the {'shorter' if short else 'longer'} response: length, not quality, may decide",
    )
