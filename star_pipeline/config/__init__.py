"""The configuration: ``models`` says what there is to set, ``load`` reads a profile or a YAML file."""

from star_pipeline.config.load import load_config, profile_names
from star_pipeline.config.models import StarConfig

__all__ = ["StarConfig", "load_config", "profile_names"]
