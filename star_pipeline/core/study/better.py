"""The one question that a study is asked: is any arm better than what it is compared with, and is that sure?"""

from collections.abc import Sequence

from star_pipeline.core.checks import Finding, Rule
from star_pipeline.core.study.records import StudyResult

AN_ARM_IS_BETTER = Rule(
    "an_arm_is_better",
    "Is any arm shown to be better than the arm that it is compared with (as a rule `seeds`), by a measure of all questions, after "
    "Holm's correction over arms, and alike by training seeds? If not, this is a result, and no fault.",
    blocks=False,
)


def better_arms(results: Sequence[StudyResult]) -> Finding:
    """Whether one is, by what, and what else is shown. A task, or a file of questions, counts by itself only where there is no whole."""
    whole = {(row.target, row.measure) for row in results if row.part == "all"}
    counted = [row for row in results if row.part == "all" or (row.target, row.measure) not in whole]
    better = [row for row in counted if row.shown == "better"]
    compared = sum(row.difference is not None for row in counted)
    if not compared:
        return Finding(
            AN_ARM_IS_BETTER,
            False,
            "nothing was compared; name what is measured under study.evaluate, and two arms or more under study.arms",
        )
    others = {
        what: sum(row.shown == what for row in counted) for what in ("worse", "seeds disagree", "no difference shown")
    }
    rest = ", ".join(f"{count} {what}" for what, count in others.items() if count)
    said = "; ".join(row.words for row in better)
    if better:
        return Finding(AN_ARM_IS_BETTER, True, f"{said}{f' Of the other comparisons: {rest}.' if rest else ''}")
    return Finding(
        AN_ARM_IS_BETTER,
        False,
        f"no arm is shown to be better, of {compared} comparisons ({rest}); the words of study_results say how many questions would tell",
    )
