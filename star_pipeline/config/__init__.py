"""The configuration: ``models`` and ``scoring`` say what there is to set, ``load`` reads a profile, a YAML file or a mapping,
``addresses`` and ``params`` keep secrets out. The profiles themselves are ``star_pipeline/profiles``; what a knob does, the core says.
"""

from star_pipeline.config.load import load_config, profile_names
from star_pipeline.config.models import StarConfig

__all__ = ["StarConfig", "load_config", "profile_names"]
