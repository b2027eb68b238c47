"""Options that several commands have."""

from typing import Annotated

import typer

Config = Annotated[
    str, typer.Option("--config", envvar="STAR_CONFIG", help="profile (offline, laptop, local, paper) or YAML file")
]
LakeRoot = Annotated[str, typer.Option("--lake", envvar="STAR_LAKE", help="root of the lake")]
