"""What a calibration is about: the settings that judge, scoring models and agents depend on, and nothing else."""

from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.equations.prompts import OTHER_PROMPTS, PromptLibrary
from star_pipeline.core.records import KEEP, SEED_PAIR

_SELECTING = ("divisor", "divide_over")
"""Settings of scoring that come after what is calibrated."""


def calibrated_settings(deciding: JsonMapping) -> str:
    """Names agents in use, judge, scoring and the prompts' texts; ``deciding`` is what a configuration says decides a run, as tables
    record it. What is sampled, remembered and published does not matter."""
    pairs = deciding.get("pairs", {})
    ids = [*pairs.get("sampled", ()), *pairs.get("base", ())]
    ids += [f"{j}+{k}" for j in pairs.get("instruction", ()) for k in pairs.get("response", ())]
    roles = [sorted({pair.split("+")[role] for pair in ids if pair != SEED_PAIR}) for role in (0, 1)]
    needed = {*roles[0], *roles[1]} - {KEEP}
    judge = deciding.get("judge", {})
    needed |= {judge.get("agent"), *(judge.get("agents") or ())}
    agents = {name: agent for name, agent in deciding.get("agents", {}).items() if name in needed}
    library = PromptLibrary(deciding.get("prompts") or {})
    prompts = {agent.get(key) for agent in agents.values() for key in ("instruction_prompt", "response_prompt")}
    versions = {name: library.version(name) for name in sorted({*OTHER_PROMPTS, *filter(None, prompts)})}
    scoring = {name: value for name, value in deciding.get("scoring", {}).items() if name not in _SELECTING}
    mode = deciding.get("sampling", {}).get("response_mode")
    return identity.digest("calibration", roles, agents, judge, scoring, mode, versions, length=12)
