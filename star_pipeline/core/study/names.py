"""The names that a study's configuration, tables and files share."""

from typing import Literal, get_args

Rule = Literal["seeds", "random", "longest", "ifd", "likely", "judge", "gap", "star"]
"""How an arm chooses one row of each seed; see ``core/study/arms.py``."""
RULES: tuple[Rule, ...] = get_args(Rule)
Equalise = Literal["rows", "tokens"]
SEEDS: Rule = "seeds"
"""The arm of the seeds as they are, which differences are told from."""
UNTUNED = "untuned"
"""What stands in an arm's place where the target is measured as it was before any tuning."""
