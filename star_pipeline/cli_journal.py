"""The commands ``star-pipeline journal``."""

from typing import Annotated

import typer

from star_pipeline.cli_options import Config, LakeRoot

journal = typer.Typer(name="journal", help="The journal of LLM replies.", no_args_is_help=True, rich_markup_mode=None)


@journal.callback()
def _group() -> None:
    """What is done with the journal of LLM replies."""


@journal.command("copy")
def copy(
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
    source: Annotated[
        str | None, typer.Option("--from", metavar="FOLDER", help="folder of the journal; the lake's own if not given")
    ] = None,
) -> None:
    """Copy a journal in a folder to the PostgreSQL that the configuration names, so that nothing in it is paid again.

    Each reply is copied once, however often this is run; after a kill the same command goes on. The folder stays as it is; no run may
    use it meanwhile. In the end counts and sums are compared.

    Example: star-pipeline journal copy --config my.yaml --lake my_lake
    """
    from rich.console import Console

    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.progress import progress_on
    from star_pipeline.commands.journal import run_copy

    with progress_on(Console(stderr=True)) as progress:
        said = run_copy(config, Lake.at(lake), source, progress)
    print(said)
