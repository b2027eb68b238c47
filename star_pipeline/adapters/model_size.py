"""How large a scoring model is, from its configuration alone: no weights are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.model_errors import check_folder, unloadable
from star_pipeline.core.planning.dry_run import ModelSize

if TYPE_CHECKING:
    import transformers


def model_size(name: str) -> ModelSize:
    """Raises ModelError where the configuration cannot be had."""
    model = skeleton(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None and head.weight is not embedding.weight:
        parameters -= embedding.weight.numel()  # looked up, not multiplied with
    text = model.config.get_text_config()
    return ModelSize(parameters, int(text.num_hidden_layers), int(text.hidden_size))


def skeleton(name: str, config: transformers.PretrainedConfig | None = None) -> transformers.PreTrainedModel:
    """The model without weights, on torch's meta device; ``config`` is read where it is not given.

    Raises ModelError where it cannot be had.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    check_folder(name)
    try:
        if config is None and name.startswith("offline/"):
            config = _offline(name)
        elif config is None:
            config = transformers.AutoConfig.from_pretrained(name, local_files_only=only_from_here(name))
        with torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever transformers says to a configuration that is not what it should be
        raise unloadable(name, error) from error


def _offline(name: str) -> transformers.GPTNeoXConfig | None:
    from star_pipeline.adapters.offline.training import Recipe, architecture

    recipe = Recipe()
    sizes = {f"offline/{size}": shape for size, shape in recipe.sizes}
    if name not in sizes:
        raise ValueError(f"the offline profile has {', '.join(sizes)}")
    return architecture(sizes[name], recipe.vocabulary)
