"""Eq. 4: instruction-following difficulty under the small and the large model, and the gap between them."""

import math
from collections.abc import Callable, Sequence

from star_pipeline.core.ports import ModelFit, ResponseLoss, Scorer, ScoringSample
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
) -> list[IfdScore]:
    """One row a candidate, in its order (Eq. 4); ``small`` and ``large`` make the scorers."""
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
    return [
        IfdScore(
            candidate.candidate_id, candidate.seed_id, score.status, score.truncated, score.n_tokens_small,
            score.nll_given_small, score.nll_alone_small, score.ifd_small, score.n_tokens_large, score.nll_given_large,
            score.nll_alone_large, score.ifd_large, score.gap,
        )
        for candidate, score in zip(candidates, score_samples(samples, small, large), strict=True)
    ]  # fmt: skip


def score_samples(
    samples: Sequence[ScoringSample | None], small: Callable[[], Scorer], large: Callable[[], Scorer]
) -> list[IfdScore]:
    """Scores for samples that need not be candidates (ids are left empty); None gives ``no_candidate``.

    Where the tokenizers cut at different places, both models score the shorter text.
    """
    present = [number for number, sample in enumerate(samples) if sample is not None]
    chosen = [sample for sample in samples if sample is not None]
    scorer_small, scorer_large = small(), large()
    fits = [scorer_small.fit(chosen), scorer_large.fit(chosen)]
    kept: list[tuple[int, ScoringSample, int]] = []
    rows: list[IfdScore] = [IfdScore("", "", "no_candidate", False) for _ in samples]
    for number, sample, fit_small, fit_large in zip(present, chosen, *fits, strict=True):
        status = _worse(fit_small, fit_large)
        if status == "ok":
            kept.append((number, sample, min(fit_small.kept_chars, fit_large.kept_chars)))
        else:
            rows[number] = IfdScore("", "", status, False)
    inputs = [sample for _, sample, _ in kept]
    chars = [count for _, _, count in kept]
    losses_small = scorer_small.losses(inputs, chars)
    losses_large = scorer_large.losses(inputs, chars)
    for (number, sample, count), loss_small, loss_large in zip(kept, losses_small, losses_large, strict=True):
        rows[number] = _row(loss_small, loss_large, truncated=count < len(sample.response))
    return rows


def _worse(a: ModelFit, b: ModelFit) -> IfdStatus:
    for status in ("empty_response", "prompt_too_long"):
        if status in (a.status, b.status):
            return status  # type: ignore[return-value]
    return "ok"


def _row(small: ResponseLoss, large: ResponseLoss, truncated: bool) -> IfdScore:
    if not (small.n_tokens and large.n_tokens):
        return IfdScore("", "", "empty_response", truncated)
    ifd_small, ifd_large = ifd(small.nll_given, small.nll_alone), ifd(large.nll_given, large.nll_alone)
    if not (math.isfinite(ifd_small) and math.isfinite(ifd_large)):
        return IfdScore("", "", "not_finite", truncated)
    return IfdScore(
        "", "", "ok", truncated, small.n_tokens, small.nll_given, small.nll_alone, ifd_small,
        large.n_tokens, large.nll_given, large.nll_alone, ifd_large, gap(ifd_small, ifd_large),
    )  # fmt: skip
