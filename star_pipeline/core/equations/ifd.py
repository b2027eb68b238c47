"""Eq. 4: instruction-following difficulty under the small and the large model, and the gap between them."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from star_pipeline.core.equations.calibration import Calibration, calibrated
from star_pipeline.core.ports import Heard, ModelFit, ResponseLoss, Scorer, ScoringSample
from star_pipeline.core.records import Candidate, IfdScore, IfdStatus, Seed


def ifd(nll_given: float, nll_alone: float) -> float:
    """PPL(R | I) / PPL(R), from mean losses in nats: a ratio of perplexities, not of losses (Eq. 4)."""
    try:
        return math.exp(nll_given - nll_alone)
    except OverflowError:
        return math.inf


def gap(ifd_small: float, ifd_large: float) -> float:
    """IFD_small - IFD_large: positive where the larger model follows the instruction more easily."""
    return ifd_small - ifd_large


def score_candidates(
    candidates: Sequence[Candidate],
    seeds: Sequence[Seed],
    small: Callable[[], Scorer],
    large: Callable[[], Scorer],
    calibration: Calibration = "none",
    least_tokens: int = 1,
    scored: Callable[[IfdScore], None] | None = None,
    seeds_at_once: int | None = None,
) -> list[IfdScore]:
    """One row a candidate, in its order (Eq. 4); ``small`` and ``large`` make the scorers.

    What is computed for the candidates of so many seeds (``groups_of_seeds``) hangs on no other's; None: of all of them.

    ``calibration`` is among these candidates; a response of fewer than ``least_tokens`` under either model has no gap.
    ``scored`` may be told rows before all are there; without a calibration they are what they will be.
    """
    seed_by_id = {seed.seed_id: seed for seed in seeds}
    samples: list[ScoringSample | None] = []
    for candidate in candidates:
        seed = seed_by_id[candidate.seed_id]
        usable = candidate.status == "ok" and candidate.instruction is not None and candidate.response is not None
        samples.append(
            ScoringSample(seed.system, seed.history, candidate.instruction or "", candidate.response or "")
            if usable
            else None
        )

    def named(number: int, score: IfdScore) -> IfdScore:
        return replace(score, candidate_id=candidates[number].candidate_id, seed_id=candidates[number].seed_id)

    tell = (lambda number, score: scored(named(number, score))) if scored else None
    groups = None if seeds_at_once is None else groups_of_seeds(candidates, seeds_at_once)
    scores = calibrated(score_samples(samples, small, large, least_tokens, tell, groups), calibration)
    return [named(number, score) for number, score in enumerate(scores)]


def groups_of_seeds(candidates: Sequence[Candidate], seeds_at_once: int) -> list[int]:
    """How many candidates each so many seeds have, in the candidates' order, where a seed's stand together; the last may be fewer."""
    of_seeds = [len(list(some)) for _, some in itertools.groupby(candidates, lambda candidate: candidate.seed_id)]
    return [sum(of_seeds[begin : begin + seeds_at_once]) for begin in range(0, len(of_seeds), seeds_at_once)]


@dataclass(frozen=True)
class Fit:
    """What of a sample's response both models take: ``kept_chars`` of its text, 0 unless ``status`` is ok."""

    status: IfdStatus
    kept_chars: int


def score_samples(
    samples: Sequence[ScoringSample | None],
    small: Callable[[], Scorer],
    large: Callable[[], Scorer],
    least_tokens: int = 1,
    tell: Callable[[int, IfdScore], None] | None = None,
    groups: Sequence[int] | None = None,
) -> list[IfdScore]:
    """Scores for samples that need not be candidates (ids are left empty); None gives ``no_candidate``.

    ``tell`` hears of samples, by number, whose scores are there before all are. ``groups`` are sizes of runs of samples that are
    computed as if each were alone.
    """
    scorers = small(), large()
    fits = fit_samples(samples, *scorers)
    losses_small = losses_of(samples, fits, scorers[0], groups=groups)
    if tell is None:
        losses_large = losses_of(samples, fits, scorers[1], groups=groups)
    else:

        def both(number: int, loss: ResponseLoss | None) -> None:
            some = [samples[number]], [fits[number]], [losses_small[number]], [loss]
            tell(number, score_rows(*some, least_tokens)[0])

        for number, fit in enumerate(fits):
            if fit.status != "ok":
                both(number, None)
        losses_large = losses_of(samples, fits, scorers[1], both, groups)
    return score_rows(samples, fits, losses_small, losses_large, least_tokens)


def fit_samples(samples: Sequence[ScoringSample | None], small: Scorer, large: Scorer) -> list[Fit]:
    """Where the tokenizers cut at different places, both models are to score the shorter text."""
    chosen = [sample for sample in samples if sample is not None]
    both = iter(zip(small.fit(chosen), large.fit(chosen), strict=True))
    fits: list[Fit] = []
    for sample in samples:
        if sample is None:
            fits.append(Fit("no_candidate", 0))
            continue
        one, other = next(both)
        status = _worse(one, other)
        fits.append(Fit(status, min(one.kept_chars, other.kept_chars) if status == "ok" else 0))
    return fits


def losses_of(
    samples: Sequence[ScoringSample | None],
    fits: Sequence[Fit],
    scorer: Scorer,
    heard: Heard | None = None,
    groups: Sequence[int] | None = None,
) -> list[ResponseLoss | None]:
    """Losses under one model; None for what cannot be scored. ``heard`` may be told of some of ``samples`` before all are there."""
    places = [number for number, fit in enumerate(fits) if fit.status == "ok"]
    chosen = [sample for number in places if (sample := samples[number]) is not None]
    kept = [fits[number].kept_chars for number in places]
    told: Heard | None = (lambda number, loss: heard(places[number], loss)) if heard else None
    sizes = None
    if groups is not None:
        ends = list(itertools.accumulate(groups))
        ok = [0, *itertools.accumulate(fit.status == "ok" for fit in fits)]
        sizes = [ok[end] - ok[end - size] for size, end in zip(groups, ends, strict=True)]
    losses = iter(scorer.losses(chosen, kept, told, sizes))
    return [next(losses) if fit.status == "ok" else None for fit in fits]


def score_rows(
    samples: Sequence[ScoringSample | None],
    fits: Sequence[Fit],
    small: Sequence[ResponseLoss | None],
    large: Sequence[ResponseLoss | None],
    least_tokens: int = 1,
) -> list[IfdScore]:
    """Eq. 4 from the losses under both models; ids are left empty. Of fewer scored tokens than ``least_tokens`` there is no gap."""
    rows = []
    for sample, fit, loss_small, loss_large in zip(samples, fits, small, large, strict=True):
        if sample is None or loss_small is None or loss_large is None:
            rows.append(IfdScore("", "", fit.status, False))
        else:
            truncated = fit.kept_chars < len(sample.response)
            rows.append(_row(loss_small, loss_large, truncated, least_tokens))
    return rows


def _worse(a: ModelFit, b: ModelFit) -> IfdStatus:
    for status in ("empty_response", "prompt_refused", "unknown_token", "prompt_too_long", "too_short"):
        if status in (a.status, b.status):
            return status
    return "ok"


def _row(small: ResponseLoss, large: ResponseLoss, truncated: bool, least_tokens: int) -> IfdScore:
    if not (small.n_tokens and large.n_tokens):
        return IfdScore("", "", "empty_response", truncated)
    ifd_small, ifd_large = ifd(small.nll_given, small.nll_alone), ifd(large.nll_given, large.nll_alone)
    if not (math.isfinite(ifd_small) and math.isfinite(ifd_large)):
        return IfdScore("", "", "not_finite", truncated)
    long_enough = min(small.n_tokens, large.n_tokens) >= least_tokens
    return IfdScore(
        "",
        "",
        "ok" if long_enough else "too_short",
        truncated,
        small.n_tokens,
        small.nll_given,
        small.nll_alone,
        ifd_small,
        large.n_tokens,
        large.nll_given,
        large.nll_alone,
        ifd_large,
        gap(ifd_small, ifd_large) if long_enough else None,
    )
