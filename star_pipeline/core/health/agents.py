"""The agents: does one of them fail at its part, rewriting or responding, too often?"""

from collections import Counter

import numpy as np

from star_pipeline.core.health.lines import LEAST_COUNTED, Signature, line
from star_pipeline.core.health.rows import Mask, Rows
from star_pipeline.core.intervals import Estimate, share
from star_pipeline.core.records import KEEP, SEED_PAIR, HealthLine

MOST_REWRITES, MOST_RESPONSES, SURELY = 0.2, 0.1, 0.5

REWRITES = Signature(
    "rewrites",
    "Do the instruction agents rewrite, or do some often fail (echoes, refusals, broken replies)?",
    "rewrites that failed, of those asked of the instruction agent that fails most",
    "rewrites of one instruction agent",
    "share",
    "its calls are paid, and nothing comes of them",
    "give the agent another instruction_prompt or a stronger model, or take its pairs out; see: star-pipeline query failures",
)
RESPONSES = Signature(
    "responses",
    "Do the response agents answer, or do some often fail?",
    "responses that failed, of those asked of the response agent that fails most",
    "responses of one response agent",
    "share",
    "its calls are paid, and nothing comes of them",
    "see why: star-pipeline query failures; raise max_tokens where replies are cut off, or take its pairs out",
)


def agent_lines(rows: Rows) -> list[HealthLine]:
    made = rows.known("status")
    agents, names = rows.codes("instruction_agent")
    asked = made & ~rows.among("instruction_agent", KEEP) & ~rows.among("pair_id", SEED_PAIR)
    # pairs of one seed that share an instruction agent share its rewrite
    _, firsts = np.unique((rows.seeds * (len(names) + 1) + agents)[asked], return_index=True)
    once = np.zeros(len(asked), dtype=np.bool_)
    once[np.flatnonzero(asked)[firsts]] = True
    rewritten = rows.true("rewritten")
    answered = made & rewritten & ~rows.among("response_agent", SEED_PAIR)
    return [
        _worst(rows, REWRITES, "instruction_agent", once, once & ~rewritten, MOST_REWRITES),
        _worst(rows, RESPONSES, "response_agent", answered, answered & rows.among("status", "failed"), MOST_RESPONSES),
    ]


def _worst(rows: Rows, signature: Signature, column: str, asked: Mask, failed: Mask, most: float) -> HealthLine:
    """Of the agent whose share of failures has the highest lower end, among those asked often enough where there are any."""
    agents, names = rows.codes(column)
    tried = np.bincount(agents[asked], minlength=len(names))
    lost = np.bincount(agents[failed], minlength=len(names))
    found: list[tuple[Estimate, str]] = []
    for name, of, count in zip(names, tried, lost, strict=True):
        if estimate := share(int(count), int(of)):
            found.append((estimate, name))
    found = [one for one in found if one[0].n >= LEAST_COUNTED] or found
    if not found:
        return line(signature, None, bool)
    worst, name = min(found, key=lambda one: (-one[0].low, -one[0].figure, one[1]))
    kinds, words = rows.codes("error_kind")
    here = failed & (agents == names.index(name)) & (kinds >= 0)
    counts = Counter({words[kind]: int(count) for kind, count in enumerate(np.bincount(kinds[here])) if count})
    said = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common(3))
    return line(
        signature,
        worst,
        lambda x: x >= most and worst.low >= most / 4,
        lambda x: x >= SURELY,
        note=f"{name}" + (f": {said}" if said else "") if worst.figure else "",
    )
