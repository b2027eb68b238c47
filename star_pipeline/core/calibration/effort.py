"""What a seed cost and how long it took, carried forward to all that are left."""

from collections.abc import Sequence
from dataclasses import replace

from star_pipeline.core.calibration.findings import CalibrationFinding, at_most, finding
from star_pipeline.core.intervals import Estimate, mean
from star_pipeline.core.records import Candidate, JudgeVerdict, Seed


def usd_of_seeds(
    seeds: Sequence[Seed], candidates: Sequence[Candidate], verdicts: Sequence[JudgeVerdict]
) -> list[float]:
    """What the run's own requests of each seed cost, also where they were paid before; probes are no part of it."""
    of = {seed.seed_id: 0.0 for seed in seeds}
    for seed_id, usd in [(row.seed_id, row.cost_usd) for row in candidates] + [
        (v.seed_id, v.cost_usd) for v in verdicts
    ]:
        of[seed_id] += usd
    return list(of.values())


def cost_finding(usd: Sequence[float], seeds_left: int, budget_left: float | None) -> CalibrationFinding:
    """USD a seed, and of the ``seeds_left``; beside what is left of the budget, where there is one."""
    a_seed = mean(usd)
    whole = _times(a_seed, seeds_left)
    verdict = at_most(whole, budget_left) if budget_left is not None else None
    told = "nothing was paid"
    if a_seed and whole and a_seed.figure:
        told = (
            f"{a_seed.figure:.6f} USD a seed, {whole.figure:,.4f} ({whole.low:,.4f} to {whole.high:,.4f}) for the "
            f"{seeds_left:,} seeds to do"
        )
        told += f", of {budget_left:,.4f} left of the budget" if budget_left is not None else ""
    return finding(
        "run",
        "all agents",
        "USD a seed",
        a_seed,
        verdict,
        told,
        "the run stops at the budget; what is finished stays: raise budget.usd, or take fewer pairs a seed",
    )


def time_finding(seconds: float, shares: Sequence[float], seeds_left: int, fresh: bool) -> CalibrationFinding:
    """Seconds a seed. ``seconds`` is what all took together, ``shares`` what part of it each seed's requests had; not ``fresh``: most
    replies came out of the journal, and their time says nothing."""
    total = sum(shares)
    parts = [share / total if total else 1 / len(shares) for share in shares]
    a_seed = mean([seconds * part for part in parts]) if fresh and parts else None
    whole = _times(a_seed, seeds_left)
    told = "not measured: most replies came out of the journal"
    if a_seed and whole:
        told = (
            f"{a_seed.figure:.2f} s a seed, {whole.figure / 60:,.0f} min ({whole.low / 60:,.0f} to {whole.high / 60:,.0f}) for the "
            f"{seeds_left:,} seeds to do, at most: larger shards keep the servers busier"
        )
    return finding("run", "all agents", "seconds a seed", a_seed, None, told, None)


def _times(found: Estimate | None, count: int) -> Estimate | None:
    return found and replace(found, figure=found.figure * count, low=found.low * count, high=found.high * count)
