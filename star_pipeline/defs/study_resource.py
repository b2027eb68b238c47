"""What the job of a study is given beside the lake: how models are tuned and measured, and who hears of what it makes."""

from collections.abc import Sequence

import dagster as dg

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.study_arms import MadeArms
from star_pipeline.config import StarConfig
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.flow import Evaluation, StudyOutcome, Tuner
from star_pipeline.report.study import StudySection


class StudyResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that the job gets is itself
    """The usual stages, of which nobody hears but Dagster; the command listens, and stops between two steps."""

    def stages(self, lake: Lake, config: StarConfig, progress: Progress) -> tuple[Tuner, Sequence[Evaluation]]:
        from star_pipeline.adapters.study.stages import study_stages  # it brings PyTorch

        return study_stages(lake, config, progress)

    def hear(self, part: MadeArms | StudyOutcome | StudySection | Exception) -> None:
        """What was made, or why it was not, as soon as it is known."""

    def before_a_step(self) -> None:
        """Asked before each training, and what comes before and after them; raises where the study is to stop."""
