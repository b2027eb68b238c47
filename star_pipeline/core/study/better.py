"""The one question that a study is asked: is any arm better than what it is compared with, and is that sure?"""

from collections.abc import Sequence

from star_pipeline.core.checks import Finding, Rule
from star_pipeline.core.study.conclusion import conclude
from star_pipeline.core.study.records import StudyResult

AN_ARM_IS_BETTER = Rule(
    "an_arm_is_better",
    "Is an arm shown to be better than the one that it is compared with (as a rule `seeds`): after Holm's correction over arms, alike by "
    "training seeds, and no measure says otherwise? If not, this is a result, and no fault.",
    blocks=False,
)


def better_arms(results: Sequence[StudyResult]) -> Finding:
    """Whether one is, as the report concludes it; the rest in its words."""
    found = conclude(results, ())
    return Finding(AN_ARM_IS_BETTER, bool(found.ahead), f"{found.best}: {found.sure}")
