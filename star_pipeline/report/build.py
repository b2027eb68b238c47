"""Puts the page together: one HTML file that loads nothing, and that no text of a seed can add a script to."""

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from star_pipeline.adapters.calibration_files import read_findings
from star_pipeline.adapters.lake import Lake
from star_pipeline.core.calibration.findings import CalibrationFinding
from star_pipeline.core.calibration.identity import calibrated_settings
from star_pipeline.core.publishing.ranking import by_mean_pi, mean_pi_tells
from star_pipeline.figures import Figure, costs, judge, pairs, rows, scores
from star_pipeline.figures.base import Row
from star_pipeline.report.facts import calibration, facts, settings
from star_pipeline.report.health import health_block
from star_pipeline.report.read import Inspection, open_inspection
from star_pipeline.report.samples import read_samples
from star_pipeline.report.study import TITLE, StudySection, study_section

SAMPLES = 400
"""Seeds in the browser, where nothing else is asked for."""
_FILES = resources.files("star_pipeline.report")


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    figures: tuple[Figure, ...]
    opening: str = ""


@dataclass(frozen=True)
class Page:
    """A finished page, and what can be said of it: how many of the lake's live seeds its browser holds."""

    html: bytes
    samples: int
    seeds: int


def build_report(lake: Lake, samples: int = SAMPLES) -> Page:
    """The report on what the lake's inspection file holds, with at most ``samples`` seeds in its browser.

    The same file and calibration give the same page. Raises LakeError, with the remedy, where there is no inspection file.
    """
    with open_inspection(lake) as inspection:
        summary = inspection.rows("summary")[0]
        configs = inspection.rows("configs")
        health = health_block(inspection.view("health"))
        board, selections = inspection.view("pair_leaderboard"), inspection.view("selections")
        study = study_section(inspection)
        sections = (*_study(study), *_sections(inspection, board))
        chosen = read_samples(inspection, samples)
    script, vega = (_FILES / "report.js").read_text("utf-8"), vega_bundle()
    made = datetime.fromtimestamp(lake.inspection.stat().st_mtime, UTC)
    html = _template().render(
        name=configs[0]["name"] if configs else lake.root.name,
        made=f"{made:%Y-%m-%d %H:%M} UTC",
        health=health,
        facts=(
            *((study.fact,) if study else ()),
            *facts(summary, selections, by_mean_pi(board)),
            calibration(_calibrated(lake, configs)),
        ),
        settings=settings(configs),
        sections=sections,
        specs=_embedded({found.name: found.spec for section in sections for found in section.figures if found.spec}),
        samples=chosen.packed(),
        sampled=len(chosen.seeds),
        seeds=summary["seeds"],
        clip=chosen.clip,
        style=(_FILES / "report.css").read_text("utf-8"),
        scripts=(vega, script),
        hashes=[_csp_hash(vega), _csp_hash(script)],
    )
    return Page(html.encode(), len(chosen.seeds), summary["seeds"])


def _calibrated(lake: Lake, configs: Sequence[Row]) -> Sequence[CalibrationFinding]:
    """What ``calibrate`` found of the latest configuration's settings; nothing where it was never asked."""
    latest = configs[0]["settings"] if configs else None
    return read_findings(lake, calibrated_settings(json.loads(latest))) if latest else ()


def _study(found: StudySection | None) -> tuple[Section, ...]:
    """First of all, since it is what the data are for."""
    return (Section("study", TITLE, found.figures, found.opening),) if found else ()


def _sections(ask: Inspection, pair_leaderboard: Sequence[Row]) -> tuple[Section, ...]:
    """The figures, by section."""
    board = [{**row, "judged": row["better"] + row["worse"] + row["tied"]} for row in pair_leaderboard]
    ranked = sorted((row for row in board if row["probability"] is not None), key=lambda row: -row["probability"])
    steps, moves = rows.funnel(ask.rows("funnel")), ask.rows("probabilities")
    return (
        Section("funnel", "Funnel", (steps,)),
        Section(
            "pairs",
            "Agent-pairs",
            (
                pairs.probabilities(moves, [row["pair_id"] for row in ranked], mean_pi_tells(by_mean_pi(board))),
                pairs.leaderboard(board, "pi"),
                pairs.leaderboard(board, "win"),
                pairs.domains(ask.view("pair_domains")),
            ),
            pairs.orders(board),
        ),
        Section("scores", "Difficulty", (scores.gaps(ask.view("gap_by_pair")), scores.ifd(ask.rows("ifd")))),
        Section(
            "judge",
            "The judge",
            (
                judge.verdicts(ask.view("verdicts")),
                judge.flips(ask.view("judge_bias")),
                judge.length(ask.rows("length")),
                judge.self_preference(ask.view("self_preference")),
            ),
        ),
        Section(
            "costs",
            "Cost and growth",
            (
                costs.by_agent(ask.rows("cost_agents")),
                costs.by_row(ask.rows("cost_rows")),
                costs.growth(ask.rows("growth")),
            ),
        ),
        Section(
            "missing",
            "Failed, left out, alike",
            (
                rows.failures(ask.rows("failures")),
                rows.left_out(ask.rows("left_out")),
                rows.similarity(ask.rows("similarity")),
            ),
        ),
    )


@functools.lru_cache(maxsize=1)
def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, of the version that the charts are written for. Takes about a second."""
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return _in_script(str(bundle))


def _in_script(code: str) -> str:
    """JavaScript as it can stand in an HTML file: it must not end its element, and line ends are what the browser hashes."""
    return code.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _embedded(value: object) -> str:
    """JSON for a script element: whatever the texts are, nothing in it can end the element."""
    return (
        json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    )


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cells"] = _cells
    return environment.from_string((_FILES / "page.html.jinja").read_text("utf-8"))


def _cells(figure: Figure, row: Sequence[str]) -> list[tuple[str, bool]]:
    return list(zip(row, figure.numeric, strict=True))
