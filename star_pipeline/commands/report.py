"""``star-pipeline report``: one HTML page on the lake, from its inspection file."""

import os
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.lake import Lake, write_whole
from star_pipeline.core.errors import ConfigError
from star_pipeline.report.build import Page, build_report


def write_report(lake: Lake, output: str | None, samples: int) -> tuple[str, Page]:
    """Write the page to ``output`` (a file or an existing folder; None: the lake's own report.html); returns its path and the page.

    Raises ConfigError for a path that cannot be, LakeError where there is no inspection file or the page cannot be written.
    """
    if output is not None and "://" in output:
        raise ConfigError(
            f"--output {output}: expected a file or folder on a local disk; without it the page is put into the lake"
        )
    target = lake.report if output is None else UPath(os.path.abspath(output))
    if output is not None and target.is_dir():
        target = target / lake.report.name
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"--output {output}: expected a folder, or a file that ends in .html, since a page is written over it"
        )
    page = build_report(lake, samples)
    write_whole(target, page.html)
    return str(target), page


def open_in_browser(path: str) -> bool:
    """Show the page in the user's browser; False where there is none."""
    import webbrowser

    return webbrowser.open(Path(path).as_uri())
