"""Names a tuned model by all that decides it, so that nothing is trained twice and nothing else takes its place."""

from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping


def model_id(rows: str, target: str, template: str, tune: JsonMapping, seed: int, form: int = 1) -> str:
    """``rows``: ``arms.content`` of what is trained on; ``target``: the digest of the weights that training begins from; ``tune``: the
    settings that decide the weights (``TuneConfig.optimization``). ``form`` goes up when the way in which they are used changes."""
    return identity.digest("tuned", form, rows, target, template, dict(tune), seed, length=20)
