"""Makes all that the guides show of a run anew, from one and the same run: text and pictures cannot tell different figures.

python -m star_pipeline_tests.guide_pages            # makes a run of the offline profile in a new lake; a few minutes
python -m star_pipeline_tests.guide_pages LAKE       # of a lake that was made so, with `star-pipeline run --lake LAKE`

It writes the summary in README.md and the pictures of the report, as they are before a study, then makes the study of the offline
profile and writes ``guides/queries.md``; it needs Chromium. The pictures of the
Dagster UI (``asset_*.png``) are not among them.
"""

import base64
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline_tests.browser import Page, opened
from star_pipeline_tests.query_guide import page as queries_page

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "star_pipeline" / "guides"
WIDTH, PAIRS_SHOWN = 1240, 3
_SUMMARY = re.compile(r"(?<=^```text\n)seeds .*?(?=^```$)", re.MULTILINE | re.DOTALL)
PICTURES = {
    "report.png": ("header", "#figure-funnel"),
    "report_pairs.png": ("#pairs", "#figure-probabilities"),
    "report_samples.png": ("#samples", 900),
}
"""name -> the element that the picture begins with, and the one that it ends with, or its height in pixels."""


def summary_of(printed: str) -> str:
    """The part of what ``run`` prints that README.md shows: the figures, but for the time, and the first pairs."""
    lines = [line.rstrip() for line in printed.splitlines()]
    first, heading = next(n for n, line in enumerate(lines) if line.startswith("seeds ")), lines.index("Agent-pairs")
    after = heading + 2 + PAIRS_SHOWN
    told = next(line for line in lines[after:] if line.startswith("By mean π"))
    shown = [line for line in lines[first:after] if not line.startswith("time ")]
    return "\n".join([*shown, "…", told, ""])


def with_summary(readme: str, summary: str) -> str:
    """README.md with another summary. Raises ValueError where it has no place for it, or several."""
    changed, places = _SUMMARY.subn(lambda _: summary, readme)
    if places != 1:
        raise ValueError(f"README.md: {places} blocks ```text that begin with 'seeds'; expected one")
    return changed


def picture(page: Page, begin: str, end: str | int) -> bytes:
    """PNG of the page from the top of an element to the bottom of another, or for so many pixels."""
    top = page.evaluate(f"document.querySelector('{begin}').getBoundingClientRect().top + scrollY")
    bottom = f"document.querySelector('{end}').getBoundingClientRect().bottom + scrollY"
    height = end if isinstance(end, int) else page.evaluate(bottom) - top + 12
    clip = {"x": 0, "y": max(0, top), "width": WIDTH, "height": height, "scale": 1}
    shot = page.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    return base64.b64decode(shot["data"])


def take_pictures(report: Path, folder: Path) -> None:
    """The pictures of the report, all plots drawn."""
    with opened(report, WIDTH, 900) as page:
        page.wait_for("document.body.dataset.ready")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for("[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn)")
        for name, (begin, end) in PICTURES.items():
            (folder / name).write_bytes(picture(page, begin, end))


def main(root: Path) -> None:
    """Run, which on a finished lake makes nothing new, make the report anew with the code as it is, and write the pages."""
    program = Path(sys.executable).with_name("star-pipeline")

    def told(command: str) -> str:
        return subprocess.run(
            [program, command, "--lake", root], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    printed = told("run")
    told("report")
    readme = ROOT / "README.md"
    readme.write_text(with_summary(readme.read_text("utf-8"), summary_of(printed)), "utf-8")
    lake = Lake.at(root)
    take_pictures(Path(lake.local(lake.report)), GUIDES / "images")
    told("study")
    (GUIDES / "queries.md").write_text(queries_page(lake), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder) / "data_lake")
