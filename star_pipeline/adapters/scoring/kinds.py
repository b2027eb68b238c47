"""Of what kind a scoring model is, as its files say: family, tuned or not, and what it takes for the start of a text."""

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.model_errors import unloadable
from star_pipeline.adapters.scoring import model_source
from star_pipeline.config.scoring import AnyModel, ScoringConfig, ServedModel
from star_pipeline.core.calibration.scoring import ModelKind
from star_pipeline.core.ports import Progress


def kinds_of(scoring: ScoringConfig, lake: Lake, progress: Progress) -> dict[str, ModelKind]:
    """Of both models, by role. Raises ModelError like ``kind_of``."""
    return {"small": kind_of(scoring.small, lake, progress), "large": kind_of(scoring.large, lake, progress)}


def kind_of(model: AnyModel, lake: Lake, progress: Progress) -> ModelKind:
    """Raises ModelError where tokenizer or configuration cannot be had."""
    source = model.tokenizer_source if isinstance(model, ServedModel) else model_source(str(model), lake, progress)
    import transformers

    try:
        here = only_from_here(source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=here)
        family = transformers.AutoConfig.from_pretrained(source, local_files_only=here).model_type
    except Exception as error:  # whatever transformers says to files that are not what they should be
        raise unloadable(source, error) from error
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    start = f"{bos} (BOS)" if tokenizer.bos_token_id is not None else f"{eos} (EOS, for want of a BOS)"
    return ModelKind(str(family), bool(tokenizer.chat_template), start)
