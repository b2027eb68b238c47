"""What a study needs beside the package's own dependencies: the extra ``study``."""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from star_pipeline.core.errors import ConfigError

_EXTRA = 'pip install "star-pipeline[study]"'


def need(module: str, what: str) -> Any:  # Any: a module of a library that is not followed
    """The module; raises ConfigError, with the command that installs it, where it is not there. ``what`` needs it."""
    package = module.split(".", 1)[0]
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{what} needs the package {package.replace('_', '-')}, which is not installed; {_EXTRA}")
    try:
        found: ModuleType = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{what}: {module} cannot be imported ({error}); {_EXTRA}") from error
    return found


@contextmanager
def quietly() -> Iterator[None]:
    """Within, transformers and those that build on it say nothing on the terminal, which has a progress of its own."""
    from transformers.utils import logging

    shows, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if shows:
            logging.enable_progress_bar()
