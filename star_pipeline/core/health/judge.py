"""The judge: does it hold to its word when the answers change places, where does it lean, and is it heard at all?"""

import numpy as np

from star_pipeline.core.aliases import Values
from star_pipeline.core.health.lines import Signature, line
from star_pipeline.core.health.rows import Mask, Rows
from star_pipeline.core.intervals import Estimate, of_totals, share
from star_pipeline.core.records import HealthLine

MOST_TURNED = 0.3
"""Share of reversals from which on a judge is doubtful."""
SURELY_TURNED, LEAST_AGREEMENT = 0.4, 0.25
"""A judge is unfit where it surely turns round more often than the first, and surely agrees with itself by less than the second."""
MOST_UNPARSED, SURELY_UNPARSED = 0.1, 0.5
MOST_TIES = 0.8
NEAR_A_COIN, MOST_NEAR_A_COIN = 0.05, 0.75
"""How far from 0.5 a probability says next to nothing, and the share of such from which on a judge is doubtful."""
LEANS = 0.75
LONGER_WINS = 0.85
_TAKE_ANOTHER = "take another judge, then: star-pipeline run --rejudge all"

REVERSALS = Signature(
    "judge",
    "Do the judge's verdicts carry information: do they hold when the two answers change places?",
    "verdicts turned round when the answers changed places, of those decided in both orders",
    "comparisons decided in both orders",
    "share",
    "many verdicts are ties for want of agreement, and what is left is weak evidence",
    f"judge.mode: logprobs cancels position where your server tells log-probabilities; or {_TAKE_ANOTHER}",
)
POSITION = Signature(
    "judge_position",
    "Does the judge favour neither the first nor the second answer?",
    "verdicts that favoured the first answer both times, of those that turned round",
    "verdicts that turned round",
    "share",
    "",
    _TAKE_ANOTHER,
)
UNPARSED = Signature(
    "judge_unparsed",
    "Do the judge's comparisons come to a verdict?",
    "comparisons without a verdict (unreadable replies, failed calls), of those asked for",
    "comparisons asked for",
    "share",
    "candidates without a verdict can be neither selected nor rewarded",
    "read reply_first and error in judge_verdicts; raise max_tokens in judge.params, or take another judge; then: star-pipeline run "
    "--rejudge all",
)
TIES = Signature(
    "judge_ties",
    "Does the judge decide, or call nearly everything a tie?",
    "comparisons called a tie, of those that came to a verdict",
    "comparisons with a verdict",
    "share",
    "π_llm is the same for nearly all: the gap alone decides, or with judge.ties: lose the reference stays",
    _TAKE_ANOTHER,
)
MARGIN = Signature(
    "judge_margin",
    "Does a judge by log-probabilities prefer one of the answers?",
    f"comparisons with p_better within {NEAR_A_COIN} of 0.5, of those decided by log-probabilities",
    "comparisons decided by log-probabilities",
    "share",
    "the judge hardly prefers either answer: its verdicts hang on differences of next to nothing",
    f"star-pipeline calibrate tells on pairs of known quality whether it is right all the same; if not, {_TAKE_ANOTHER}",
)
LENGTH = Signature(
    "judge_length",
    "Does the judge look at more than the length of the answers?",
    "the longer answer won, of comparisons decided between answers of different length (in characters)",
    "comparisons decided between answers of different length",
    "share",
    "",
    "hold it against the samples in the report: is the other answer worse there? If not, take another judge; see: star-pipeline query "
    "length_bias",
)


def agreement(totals: Values) -> Values:
    """How much of the judge's agreement between the two orders is more than a judge by position gives, at most 1.

    ``totals`` (3, …): comparisons decided in both orders, how many of them favoured the first answer both times, and how many the
    second. Let a share s of the comparisons be decided by content and the rest by a coin that names the first answer with q: then
    (1 - s) q² favour the first both times and (1 - s) (1 - q)² the second, and s = 1 - (√first + √second)² whatever q is. 0 or
    below: no more than position and chance give.
    """
    decided, first, second = totals
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - (np.sqrt(first / decided) + np.sqrt(second / decided)) ** 2)


def judge_lines(rows: Rows) -> list[HealthLine]:
    first_better = rows.among("verdict_first", "better")
    decided = rows.among("verdict_first", "better", "worse") & rows.among("verdict_swapped", "better", "worse")
    turned = decided & rows.among("verdict", "inconsistent")
    towards_first, towards_second = turned & first_better, turned & ~first_better
    heard = rows.among("verdict", "better", "worse", "tie", "inconsistent")
    silent = rows.among("verdict", "unparsed", "failed")
    return [
        _reversals(rows, decided, towards_first, towards_second),
        _position(turned, towards_first, decided),
        line(UNPARSED, _share(silent, heard | silent), lambda x: x >= MOST_UNPARSED, lambda x: x >= SURELY_UNPARSED),
        line(TIES, _share(rows.among("verdict", "tie"), heard), lambda x: x >= MOST_TIES),
        _margin(rows),
        _length(rows),
    ]


def _share(some: Mask, of: Mask) -> Estimate | None:
    return share(int((some & of).sum()), int(of.sum()))


def _reversals(rows: Rows, decided: Mask, towards_first: Mask, towards_second: Mask) -> HealthLine:
    turned = _share(towards_first | towards_second, decided)
    agrees = of_totals(
        rows.seeds[decided], [mask[decided] for mask in (decided, towards_first, towards_second)], agreement
    )
    if turned is None or agrees is None:
        return line(REVERSALS, None, bool)
    beyond = f"agreement beyond what position and chance give: {max(agrees.figure, 0):.0%} (at most {max(agrees.high, 0):.0%})"
    uninformed = agrees.high < LEAST_AGREEMENT
    return line(
        REVERSALS,
        turned,
        lambda x: x >= MOST_TURNED,
        lambda x: uninformed and x >= SURELY_TURNED,
        note=beyond,
        bad="the judge's verdicts carry no information: position and chance give as much, and the gap alone decides"
        if uninformed and turned.low >= SURELY_TURNED
        else None,
    )


def _position(turned: Mask, towards_first: Mask, decided: Mask) -> HealthLine:
    """Doubtful where reversals are no rarity and most of them go one way, more surely than a coin would."""
    found = _share(towards_first, turned)
    if found is None:
        return line(POSITION, None, bool)
    matters = turned.sum() >= decided.sum() / 10 and (found.low > 0.5 or found.high < 0.5)
    where = "first" if found.figure > 0.5 else "second"
    return line(
        POSITION,
        found,
        lambda x: matters and max(x, 1 - x) >= LEANS,
        bad=f"the judge leans towards the {where} answer, whatever it says",
    )


def _margin(rows: Rows) -> HealthLine:
    with np.errstate(invalid="ignore"):
        near = np.abs(rows.numbers("p_better") - 0.5) <= NEAR_A_COIN
    return line(MARGIN, _share(near, rows.known("p_better")), lambda x: x >= MOST_NEAR_A_COIN)


def _length(rows: Rows) -> HealthLine:
    ours, other = rows.numbers("characters"), rows.numbers("reference_characters")
    with np.errstate(invalid="ignore"):
        differ, longer = np.abs(ours - other) > 0, ours > other
    better = rows.among("verdict", "better")
    compared = (better | rows.among("verdict", "worse")) & differ
    found = _share(better == longer, compared)
    short = found is not None and found.figure < 0.5
    return line(
        LENGTH,
        found,
        lambda x: max(x, 1 - x) >= LONGER_WINS,
        bad=f"the {'shorter' if short else 'longer'} answer nearly always wins: whether by merit, the figure cannot tell",
    )
