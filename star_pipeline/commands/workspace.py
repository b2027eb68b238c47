"""What a command says first of a lake in object storage: where this machine keeps its part of it."""

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.stores.keeper import REMEDY
from star_pipeline.adapters.stores.settings import S3Settings
from star_pipeline.config import StarConfig


def told_of_workspace(lake: Lake, settings: StarConfig) -> list[str]:
    """Lines to show; none for a lake in a folder. Raises LakeError where another machine keeps the lake's replies."""
    if not lake.shared:
        return []
    lines = [
        f"lake {lake.root} on {S3Settings.of().where}; what has to be on a disk of this machine is in {lake.workspace} (STAR_WORKSPACE)"
    ]
    if settings.journal is None:
        lake.journal_folder(None)
        lines.append(
            f"the replies are kept there too, so only this machine may run the lake; several can with {REMEDY} in the configuration"
        )
    return lines
