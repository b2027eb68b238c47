"""``star-pipeline calibrate``: are judge, scoring models and agents fit, before a run is paid for? The lake stays as it is, but for
the journal, which the run goes on from, and ``calibration/``.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.calibrating import Outside
from star_pipeline.adapters.calibrating import calibrate as measured
from star_pipeline.adapters.calibration_files import read_findings, words_of
from star_pipeline.adapters.first_seeds import first_seeds
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.preflight import check_agents, check_scoring_models
from star_pipeline.commands.estimate import run_estimate
from star_pipeline.commands.workspace import told_of_workspace
from star_pipeline.config import StarConfig, load_config
from star_pipeline.core.calibration.findings import IN_WORDS, CalibrationFinding
from star_pipeline.core.calibration.words import interval, told, verdict, verdicts
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import Progress
from star_pipeline.defs.build import DEFAULT_CONFIG, DEFAULT_LAKE
from star_pipeline.defs.resources import (
    ChatResource,
    EmbedderResource,
    LakeResource,
    MemoryResource,
    ScorerResource,
    SettingsResource,
    progress_to,
)

_COLOURS = {"fine": "green", "doubtful": "yellow", "unfit": "red"}


def run_calibration(
    config: str,
    lake: Lake,
    seeds: Sequence[str],
    count: int,
    progress: Progress,
    resource_overrides: Mapping[str, Any] | None = None,  # resources of any kind, as ``build_defs`` takes them
) -> list[CalibrationFinding]:
    """Measure on the first ``count`` seeds that a run would take, those of ``seeds`` counted in. Raises StarError as ``run`` does."""
    settings = load_config(config)
    if count < 1:
        raise ConfigError(f"--count {count}: expected at least 1; 24 tell a judge from a coin")
    lake.prepare()
    for line in told_of_workspace(lake, settings):
        progress.note(line)

    class Chat(ChatResource):
        def tell(self, text: str) -> None:
            progress.note(text)

    home, given = LakeResource(root=str(lake.root)), SettingsResource(config=config)
    outside: dict[str, Any] = {  # the same
        "chat": Chat(settings=given, lake=home),
        "scorer": ScorerResource(settings=given, lake=home, progress=progress_to(progress)),
        "embedder": EmbedderResource(settings=given, lake=home, progress=progress_to(progress)),
        "memory": MemoryResource(lake=home, settings=given),
        **(resource_overrides or {}),
    }
    chat, scorer, embedder, memory = (outside[name] for name in ("chat", "scorer", "embedder", "memory"))
    with lake_lock(settings, lake).hold("star-pipeline calibrate"):
        first = first_seeds(lake, settings, seeds, count, embedder.embedder, memory.bank, progress.note)
        if "chat" not in (resource_overrides or {}):
            check_agents(settings)
        if "scorer" not in (resource_overrides or {}):
            check_scoring_models(settings.scoring)
        return measured(lake, settings, first, Outside(chat.chat, scorer.small, scorer.large, scorer.kinds), progress)


def print_calibration(
    console: Console, lake: Lake, config: str, seeds: Sequence[str], found: Sequence[CalibrationFinding]
) -> bool:
    """Print it, by subject, with the remedies, beside what ``estimate`` says; returns whether all is fit."""
    of = verdicts(found)
    for subject in dict.fromkeys(row.subject for row in found):
        rows = [row for row in found if row.subject == subject]
        console.print()
        said = f"[{_COLOURS[of[subject]]}]{IN_WORDS[of[subject]]}[/]" if subject in of else ""
        console.print(f"[bold]{subject}[/] {said}")
        shown = Table(box=None, padding=(0, 2), pad_edge=False, show_header=False)
        for row in rows:
            what = f"[{_COLOURS[row.verdict]}]{IN_WORDS[row.verdict]}[/]" if row.verdict else ""
            shown.add_row(what, _plain(_short(row.name)), _plain(row.measure), interval(row), _plain(row.meaning))
        console.print(shown)
        for remedy in dict.fromkeys(row.remedy for row in rows if row.remedy):
            console.print(f"  → {remedy}", markup=False, soft_wrap=True)
    estimate = run_estimate(config, lake, seeds)
    console.print()
    if estimate.usd is not None:
        most = "no known limit" if estimate.most_usd is None else f"{estimate.most_usd:,.4f} at most"
        console.print(
            f"estimate says {estimate.usd:,.4f} USD for the {estimate.seeds_to_do:,} seeds to do, {most}; so {estimate.conclusion}",
            markup=False,
        )
    else:
        console.print(
            "estimate says no cost: an agent has no known price (input_cost_per_token, output_cost_per_token)"
        )
    well = verdict(found) == "fine"
    first = found[0]
    console.print(f"on {first.seeds:,} seeds: ", end="")
    console.print(f"[bold {_COLOURS[verdict(found)]}]{IN_WORDS[verdict(found)]}[/]", end="")
    console.print(
        f"; kept in {words_of(lake)}; the run does not pay for these replies again", markup=False, soft_wrap=True
    )
    return well


def calibration_told(lake: Lake, settings: StarConfig, config: str) -> list[str]:
    """What ``run`` and ``doctor`` say of the configuration: nothing where it was found fit."""
    return told(read_findings(lake, settings.calibration_fingerprint), _command(lake, config))


def _command(lake: Lake, config: str) -> str:
    options = "" if config == DEFAULT_CONFIG else f" --config {shlex.quote(config)}"
    options += "" if str(lake.root) == os.path.abspath(DEFAULT_LAKE) else f" --lake {shlex.quote(str(lake.root))}"
    return f"star-pipeline calibrate{options}"


def _short(name: str) -> str:
    """Of a model in a folder the last part only."""
    return name.rsplit("/", 1)[-1] if name.startswith("/") else name


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
