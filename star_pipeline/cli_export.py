"""``star-pipeline export`` on the command line."""

from typing import Annotated

import typer

from star_pipeline.cli_options import LakeRoot


def export(
    output: Annotated[
        str,
        typer.Option(help="file to write (.jsonl, .json, .parquet; .gz), or - for standard output; --for: a folder"),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", help="alpaca, sharegpt, messages, prompt-completion, preference, reward or kto"),
    ] = None,
    trainer: Annotated[
        str | None,
        typer.Option("--for", help="data and what trains on it: trl, axolotl, llamafactory, unsloth, torchtune"),
    ] = None,
    target: Annotated[str | None, typer.Option(help="with --for: model to train in place of scoring.small")] = None,
    lake: LakeRoot = "data_lake",
    with_scores: Annotated[
        bool, typer.Option(help="also seed_id, source, pairs and scores: trainers ignore them")
    ] = False,
    with_reversed: Annotated[bool, typer.Option(help="also pairs whose judge turned round with the order")] = False,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="also to this data set of the Hugging Face hub, private; token: HF_TOKEN"
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="with --push: for everybody to see")] = False,
) -> None:
    """Write the final data set for a trainer, or preference pairs out of the judge's verdicts. A file that is there is replaced.

    A preference pair is two responses of one seed to the same prompt, of which the judge put one higher; at most one a seed.
    Example: star-pipeline export --format sharegpt --output train.json; or, to train, star-pipeline export --for trl --output recipe
    """
    from star_pipeline.commands.export_recipe import Push, told_export

    told_export(lake, output, form, trainer, target, with_scores, with_reversed, Push(push, public))
