"""Whether the Hugging Face hub answers: asked once and briefly, before what would ask it six times with waits in between."""

import os
import time
from pathlib import Path

from star_pipeline.core.errors import ModelError, in_short

_PATIENCE_S = 5.0
_OVERLOADED = (408, 429, 500, 502, 503, 504)
_REMEMBERED_S = 60.0
_answered: dict[tuple[str, str], tuple[float, bool]] = {}
"""(hub, model) -> when it was asked, and what came of it: several look at a model within seconds."""


def only_from_here(name: str, what: str = "scoring model", expected: str = "the folder of a causal LM") -> bool:
    """Whether a model's files must be those on this machine, for the hub does not answer: pass it on as ``local_files_only``.

    False where the hub answers, if only that it has no such model; ``HF_HUB_ETAG_TIMEOUT`` (s) sets how long it is waited for. It is
    not asked about a model again for a minute. Raises ModelError where it does not answer and the model was never downloaded;
    ``what`` the model is for, and what could take its place, is said there.
    """
    import huggingface_hub as hub

    if Path(name).expanduser().is_dir() or hub.is_offline_mode():
        return False
    key = hub.constants.ENDPOINT, name
    asked, found = _answered.get(key, (-_REMEMBERED_S, False))
    if time.monotonic() - asked >= _REMEMBERED_S:
        found = _asked(name, what, expected)
        _answered[key] = time.monotonic(), found
    return found


def _asked(name: str, what: str, expected: str) -> bool:
    import huggingface_hub as hub

    waits = hub.constants.HF_HUB_ETAG_TIMEOUT if "HF_HUB_ETAG_TIMEOUT" in os.environ else _PATIENCE_S
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(name, "config.json"), timeout=waits)
        return False
    except hub.errors.HFValidationError:
        return False  # no id: the library says what one is
    except hub.errors.HfHubHTTPError as error:
        if error.response.status_code not in _OVERLOADED:
            return False
        reason: Exception = error
    except Exception as error:  # whatever the HTTP library, which is the hub's own affair, says of a network
        reason = error
    if isinstance(hub.try_to_load_from_cache(name, "config.json"), str):
        return True
    raise ModelError(
        f"{what} {name!r}: not on this machine, and {hub.constants.ENDPOINT} does not answer (asked once, {waits:g} s at most: "
        f"{in_short(reason)}); expected a network, HF_ENDPOINT with a mirror's address, or {expected}"
    ) from reason
