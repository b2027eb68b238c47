"""Are the scoring models fit? Each has to find a response easier with its own instruction, and the two have to agree on what is hard."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from star_pipeline.core.aliases import Values
from star_pipeline.core.calibration.findings import (
    USEFUL,
    CalibrationFinding,
    ScoredText,
    at_least,
    at_most,
    finding,
    within,
)
from star_pipeline.core.calibration.probes import OTHER, TRUE
from star_pipeline.core.intervals import Estimate, auc, bootstrap, mean, spearman
from star_pipeline.core.records import IfdScore

CANDIDATE = "candidate"
LEAST_CORRELATION = 0.5
"""Of ranks. Below it the two models share less than a quarter of what they call hard, and the gap is mostly what they do not share."""
ONE_SIGN = 0.9
"""Where more gaps than that are of one sign, the sign tells one model from the other, and not one text from another."""
FOLLOWS_LENGTH = 0.5
"""Rank correlation of gap and length beyond which selection by gap is mostly selection by length."""
MOST_START_NATS = 9.0
"""Of the first response token with nothing before it but the start token. Base models need 4 to 8 nats; a model that never saw a text begin
so needs more, and that lowers every IFD, of short responses most."""
_FAMILY = (
    "take two base models of one family, such as the target and a larger one of the same kind, or set scoring.calibration: "
    "rank_by_length"
)


@dataclass(frozen=True)
class ModelKind:
    """``family``: its architecture; ``tuned``: its tokenizer has a chat template; ``start``: what stands before a text (BOS or EOS)."""

    family: str
    tuned: bool
    start: str


def scored_texts(kinds: Mapping[str, str], scores: Sequence[IfdScore]) -> list[ScoredText]:
    """The scores with what kind of text each is of; ``kinds`` by candidate_id."""
    return [
        ScoredText(
            kinds[row.candidate_id],
            row.candidate_id,
            row.seed_id,
            row.n_tokens_small,
            row.n_tokens_large,
            row.ifd_small,
            row.ifd_large,
            row.working_gap,
        )
        for row in scores
    ]


def scoring_findings(
    names: Mapping[str, str],
    texts: Sequence[ScoredText],
    first_nats: Mapping[str, Sequence[float]],
    kinds: Mapping[str, ModelKind],
) -> list[CalibrationFinding]:
    """``names``, ``first_nats`` (of each seed's first response token) and ``kinds`` by role, small and large."""
    found = []
    for role in ("small", "large"):
        found.append(_auc(role, names[role], texts))
        if first_nats.get(role):
            found.append(_start(role, names[role], mean(first_nats[role]), kinds.get(role)))
    both = "both models"
    own = [text for text in texts if text.kind in (TRUE, CANDIDATE) and text.gap is not None]
    found += [_correlation(both, own), _sign(both, own), _length(both, own)]
    if len(kinds) == 2:
        found.append(_kin(both, kinds["small"], kinds["large"]))
    return found


def _ifd(text: ScoredText, role: str) -> float | None:
    return text.ifd_small if role == "small" else text.ifd_large


def _auc(role: str, name: str, texts: Sequence[ScoredText]) -> CalibrationFinding:
    """A group is a seed's response: its IFD with its own instruction, then those with others'."""
    groups: dict[str, list[float]] = {}
    for kind in (TRUE, OTHER):
        for text in texts:
            value = _ifd(text, role)
            if text.kind == kind and value is not None and (kind == TRUE or text.seed_id in groups):
                groups.setdefault(text.seed_id, []).append(value)
    whole = [group for group in groups.values() if len(group) > 1]
    below = sum(group[0] < float(np.mean(group[1:])) for group in whole)

    def over(drawn: list[Values]) -> float:
        return auc(np.concatenate([g[1:] for g in drawn]).tolist(), [float(g[0]) for g in drawn])

    found = bootstrap(whole, over)
    said = f"{found.figure:.2f}" if found else "nothing to compare"
    return finding(
        "scoring",
        name,
        f"AUC, {role}",
        found,
        at_least(found, USEFUL),
        f"chance that a response is easier with its own instruction than another with a foreign one: {said}; without knowledge 0.5 "
        f"(the same response: {below:,} of {len(whole):,})",
        f"its IFD hardly knows which instruction a response belongs to: another model for scoring.{role}, or another scoring.template",
    )


def _start(role: str, name: str, nats: Estimate | None, kind: ModelKind | None) -> CalibrationFinding:
    before = f" after {kind.start}" if kind else ""
    return finding(
        "scoring",
        name,
        f"start token, {role}",
        nats,
        at_most(nats, MOST_START_NATS),
        f"the first token of a response with nothing before it costs {nats.figure:.1f} nats{before}" if nats else "",
        "it is not used to texts that begin so, and its IFDs come out too low, those of short responses most: set scoring.start: "
        "newline and scoring.least_tokens: 6, or take a model with a BOS token",
    )


def _correlation(both: str, texts: Sequence[ScoredText]) -> CalibrationFinding:
    found = _over_seeds(texts, lambda text: (text.ifd_small or 0.0, text.ifd_large or 0.0), spearman)
    said = f"{found.figure:.2f}" if found else "nothing to compare"
    return finding(
        "scoring",
        both,
        "correlation",
        found,
        at_least(found, LEAST_CORRELATION),
        f"rank correlation of the two models' IFDs: {said}",
        f"they do not agree on what is hard, so that their gap is mostly noise: {_FAMILY}",
    )


def _sign(both: str, texts: Sequence[ScoredText]) -> CalibrationFinding:
    found = _over_seeds(texts, lambda text: (float((text.gap or 0.0) > 0), 0.0), lambda ones, _: float(np.mean(ones)))
    return finding(
        "scoring",
        both,
        "gaps above 0",
        found,
        within(found, 1 - ONE_SIGN, ONE_SIGN),
        f"{found.figure:.0%} of {len(texts):,} gaps are positive" if found else "no gaps",
        f"the sign then says which model it is and nothing of the text: {_FAMILY}",
    )


def _length(both: str, texts: Sequence[ScoredText]) -> CalibrationFinding:
    found = _over_seeds(texts, lambda text: (text.gap or 0.0, float(text.n_tokens_small or 0)), spearman)
    return finding(
        "scoring",
        both,
        "gap and length",
        found,
        within(found, -FOLLOWS_LENGTH, FOLLOWS_LENGTH),
        (f"rank correlation of gap and tokens: {found.figure:.2f}; " if found else "") + _by_length(texts),
        f"the largest gaps go with {'long' if found and found.figure > 0 else 'short'} responses, whatever they say: {_FAMILY}",
    )


def _by_length(texts: Sequence[ScoredText]) -> str:
    """Mean gap of the shortest, the middle and the longest third."""
    ranked = sorted(texts, key=lambda text: text.n_tokens_small or 0)
    thirds = [ranked[len(ranked) * part // 3 : len(ranked) * (part + 1) // 3] for part in range(3)]
    told = [
        f"{np.mean([text.gap for text in third]):.2f} at {third[0].n_tokens_small:,} to {third[-1].n_tokens_small:,}"
        for third in thirds
        if third
    ]
    return f"mean gap {', '.join(told)} tokens" if told else "no gaps"


def _kin(both: str, small: ModelKind, large: ModelKind) -> CalibrationFinding:
    apart = [f"{small.family} and {large.family}"] if small.family != large.family else []
    if small.tuned != large.tuned:
        apart.append(f"only the {'small' if small.tuned else 'large'} one has a chat template, as tuned models have")
    figure = float(bool(apart))
    return finding(
        "scoring",
        both,
        "alike",
        Estimate(1 - figure, 1 - figure, 1 - figure, 2),
        "doubtful" if apart else "fine",
        "; ".join(apart) if apart else f"both {small.family}, {'with' if small.tuned else 'without'} a chat template",
        f"their IFDs are on two scales, and a gap is mostly the difference of the scales: {_FAMILY}",
    )


def _over_seeds(
    texts: Sequence[ScoredText],
    of: Callable[[ScoredText], tuple[float, float]],
    statistic: Callable[[list[float], list[float]], float],
) -> Estimate | None:
    """``statistic`` of two columns, its interval over seeds drawn again: a seed's texts are alike. None where it has no value."""
    groups: dict[str, list[float]] = {}
    for text in texts:
        groups.setdefault(text.seed_id, []).extend(of(text))

    def over(drawn: list[Values]) -> float:
        flat = np.concatenate(drawn)
        return float(statistic(flat[0::2].tolist(), flat[1::2].tolist()))

    found = bootstrap(list(groups.values()), over)
    return None if found is None or math.isnan(found.figure) else found
