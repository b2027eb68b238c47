"""Options that several commands have."""

from typing import Annotated

import typer

Config = Annotated[
    str, typer.Option("--config", envvar="STAR_CONFIG", help="profile (offline, laptop, local, paper) or YAML file")
]
LakeRoot = Annotated[str, typer.Option("--lake", envvar="STAR_LAKE", help="the lake: a folder, or s3://bucket/prefix")]
