"""``star-pipeline study``: training sets from the lake's tables, models tuned on them, and what those are worth.

It is the job ``study`` of the lake's Dagster instance, in this process: the UI shows what it makes as it shows the job's own runs.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.interrupts import noticed
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.study_arms import MadeArms, never_run, study_of
from star_pipeline.adapters.study_course import targets_of
from star_pipeline.commands.failed_runs import why_failed
from star_pipeline.commands.run import QUIET, RunFailed
from star_pipeline.commands.workspace import told_of_workspace
from star_pipeline.config import StarConfig, load_config
from star_pipeline.core.ports import Progress
from star_pipeline.core.study.flow import Evaluation, StudyOutcome, Tuner
from star_pipeline.core.study.records import StudyArm
from star_pipeline.core.study.results import ALL
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import progress_to, settings_as_read
from star_pipeline.defs.study_job import ARMS_ONLY, CARRY_OUT, STUDY
from star_pipeline.defs.study_resource import StudyResource
from star_pipeline.instance import database_of, fail_dead_runs, open_instance
from star_pipeline.instance import tags as run_tags
from star_pipeline.instance.processes import process_tags
from star_pipeline.report.study import TITLE, StudySection

_OWNER = "star-pipeline study"
StagesOf = Callable[[Lake, StarConfig, Progress], tuple[Tuner, Sequence[Evaluation]]]
"""How models are tuned, and what is measured of them."""
P = TypeVar("P")


def run_study(
    config: str, lake: Lake, progress: Progress, arms_only: bool = False, stages_of: StagesOf | None = None
) -> tuple[MadeArms, StudyOutcome, StudySection | None]:
    """Make the arms; then tune a model on each, measure, compare, and keep it all in the lake's ``study/``. ``stages_of`` takes
    the place of the usual stages in trials. Returns (arms, what was measured, what the report says of it).

    Raises StarError in one line. What is done stays: the same command goes on.
    """
    settings = load_config(config)
    if arms_only:
        study_of(settings)
    else:
        targets_of(settings)
    if not lake.root.exists():  # holding it would make it
        raise never_run(lake)
    for line in told_of_workspace(lake, settings):
        progress.note(line)
    with lake_lock(settings, lake).hold_study(_OWNER), noticed() as interrupted:
        heard = _carried_out(config, settings, lake, progress, arms_only, stages_of, interrupted)
    [made] = _of(heard, MadeArms)
    outcome = next(iter(_of(heard, StudyOutcome)), StudyOutcome())
    return made, outcome, next(iter(_of(heard, StudySection)), None)


def _of(heard: Sequence[object], kind: type[P]) -> list[P]:
    return [part for part in heard if isinstance(part, kind)]


def _carried_out(
    config: str,
    settings: StarConfig,
    lake: Lake,
    progress: Progress,
    arms_only: bool,
    stages_of: StagesOf | None,
    interrupted: Callable[[], bool],
) -> list[object]:
    """Run the job; returns what it made, and raises what it failed of, as it came."""
    heard: list[object] = []

    class Heard(StudyResource):
        def stages(self, lake: Lake, config: StarConfig, progress: Progress) -> tuple[Tuner, Sequence[Evaluation]]:
            return (stages_of or super().stages)(lake, config, progress)

        def hear(self, part: object) -> None:
            heard.append(part)

        def before_a_step(self) -> None:
            if interrupted():  # a Ctrl-C that was lost in the step before
                raise KeyboardInterrupt

    given = {"progress": progress_to(progress), "settings": settings_as_read(settings, config), STUDY: Heard()}
    defs = build_defs(given, config, str(lake.root))
    with open_instance(lake, at_the_console=True, database=database_of(settings)) as instance:
        fail_dead_runs(instance)
        result = defs.resolve_job_def(STUDY).execute_in_process(
            instance=instance,
            # what is left the same command does: the daemon must not try the run again
            tags={**process_tags(), run_tags.MAX_RETRIES: "0"},
            run_config={**QUIET, "ops": {CARRY_OUT: {"config": {ARMS_ONLY: arms_only}}}},
            raise_on_error=False,
        )
    if interrupted():
        raise KeyboardInterrupt
    for error in _of(heard, Exception):
        raise error
    if not result.success:
        raise RunFailed(why_failed(result))
    return heard


def print_arms(console: Console, lake: Lake, made: MadeArms) -> None:
    """A row an arm, and what was left out of all of them."""
    shown = Table(box=None, padding=(0, 2), pad_edge=False)
    shown.add_column("arm")
    for name in ("rows", "tokens", "tokens a row", "by fallback", "seed's own", "same as star"):
        shown.add_column(name, justify="right")
    for arm in made.arms:
        shown.add_row(*_cells(arm))
    console.print(shown)
    counts = {
        "overlap with the evaluation's questions": sum(row.reason == "overlap" for row in made.left_out),
        "have an empty response": sum(row.reason == "empty_response" for row in made.left_out),
        "are not selected in every lake": sum(row.reason == "not_in_lake" for row in made.left_out),
    }
    looked = f"{made.questions:,} question{'' if made.questions == 1 else 's'} looked for"
    looked += f", {made.of_tasks:,} of lm-eval's tasks" if made.of_tasks else ""
    said = ", ".join(f"{count:,} {words}" for words, count in counts.items() if count) or "none"
    console.print(
        f"seeds left out of every arm: {said} ({looked}; listed in study_left_out)", markup=False, soft_wrap=True
    )
    if cut := [f"{arm.left_out_tokens:,} of {arm.arm}" for arm in made.arms if arm.left_out_tokens]:
        console.print(f"rows left out for equal tokens: {', '.join(cut)}", markup=False, soft_wrap=True)
    if made.shards < made.of:
        console.print(
            f"{made.of - made.shards:,} of {made.of:,} shards are not done, and their seeds are in no arm; run: star-pipeline run",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"training sets in {lake.study / 'arms'}", markup=False, soft_wrap=True)


def print_results(console: Console, lake: Lake, outcome: StudyOutcome) -> None:
    """What each measure says of all questions, a line an arm; then where the rest is."""
    console.print()
    console.print(f"{len(outcome.models):,} models tuned, in {lake.study_models}", markup=False, soft_wrap=True)
    targets = {row.target for row in outcome.results}
    whole = {(row.target, row.measure) for row in outcome.results if row.part == ALL}
    for row in outcome.results:
        if row.part == ALL or (row.target, row.measure) not in whole:  # of a task there is no whole
            target = "" if len(targets) == 1 else f"{row.target}: "
            console.print(f"{target}{row.words}", markup=False, soft_wrap=True)
    if any(target.startswith("offline/") for target in targets):
        console.print("these are toy models: what they show holds for no real one", markup=False)
    if not outcome.results:
        console.print("nothing was measured: name held_out, answers, lm_eval or ifeval under study.evaluate")
    console.print("in DuckDB: star-pipeline query study_results; study_losses, study_wins, study_grades, study_tasks")


def print_report(console: Console, lake: Lake, found: StudySection | None) -> None:
    """Which arm is best, as the report's section ``found`` says it, and where the report is: the command's last lines."""
    if found:
        console.print(f"{TITLE} {found.fact.value}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report {lake.report}", markup=False, highlight=False, soft_wrap=True)


def _cells(arm: StudyArm) -> list[str]:
    each = arm.tokens / arm.rows if arm.rows else 0
    alike = "" if arm.as_star is None else f"{arm.as_star:,}"
    return [arm.arm, f"{arm.rows:,}", f"{arm.tokens:,}", f"{each:,.0f}", f"{arm.fallbacks:,}", f"{arm.own:,}", alike]
