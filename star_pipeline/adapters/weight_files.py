"""A model's files, opened but not loaded: which there are, whether they are whole, and whether they are this model's."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from star_pipeline.core.errors import ModelError

if TYPE_CHECKING:
    import transformers

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = tuple(f"{name}.index.json" for name in _SINGLE)
_POINTER = b"version https://git-lfs"
_NOT_WEIGHTS = {
    "I8",
    "U8",
    "I16",
    "I32",
    "I64",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
}
Header = tuple[tuple[int, ...], str]
"""A stored tensor's shape and dtype."""


def model_folder(name: str) -> Path | None:
    """Where a model's files lie on this machine; None for one on the hub of which nothing has been downloaded yet.

    For one of the hub the folder is called as the commit, the one that was the newest when the hub was last asked.
    """
    if Path(name).is_dir():
        return Path(name)
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers takes the weights from, index first; empty where there are none."""
    for single, index in zip(_SINGLE, _INDEX, strict=True):
        if (folder / single).exists():
            return [folder / single]
        if (folder / index).exists():
            return [folder / index, *(folder / shard for shard in _shards(folder / index))]
    return []


def check_files(name: str, folder: Path) -> None:
    """Raises ModelError where the folder holds no weights, or pointers in place of its files."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json", ".model") and _is_pointer(path):
            raise ModelError(
                f"scoring model {name!r}: {path.name} is a git-lfs pointer and not the file itself; run git lfs pull in {folder}"
            )
    if not weight_files(folder):
        raise ModelError(f"scoring model {name!r}: {_what_instead(folder)}")


def check_weights(name: str, folder: Path, config: "transformers.PretrainedConfig") -> int:
    """Open the weights and hold them against the model that ``config`` describes; returns their size in bytes.

    Takes milliseconds for each file, whatever its size. Raises ModelError where loading would fail, or leave a part random.
    """
    files = weight_files(folder)
    stored: dict[str, Header] = {}
    for path in files:
        if not path.exists():
            raise ModelError(
                f"scoring model {name!r}: {path.name} is not there, and {files[0].name} names it; copy or download the model again"
            )
        if path.suffix != ".json":
            stored.update(_opened(name, path))
    if getattr(config, "quantization_config", None):
        _check_quantised(name, config)
    else:
        _check_fit(name, config, stored)
    return sum(path.stat().st_size for path in files)


def check_kind(name: str, config: "transformers.PretrainedConfig") -> None:
    """Raises ModelError for what transformers loads as a causal LM, and is none."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    kinds = ", ".join(config.architectures or ())
    two_parts = config.is_encoder_decoder and "CausalLM" not in kinds
    encoder = config.model_type in MASKED and not config.is_encoder_decoder and not getattr(config, "is_decoder", True)
    if two_parts or encoder:
        raise ModelError(
            f"scoring model {name!r} ({kinds or config.model_type}): {'an encoder and a decoder' if two_parts else 'an encoder'}; expected "
            "a causal LM, such as GPT, Llama or Qwen"
        )


def check_vocabulary(
    name: str, tokenizer: "transformers.PreTrainedTokenizerBase", config: "transformers.PretrainedConfig"
) -> None:
    """Raises ModelError where the tokenizer makes tokens that the model has no embedding for."""
    size = config.get_text_config().vocab_size
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= size)
    # a padding token that was added later is no text's token
    beyond = [(number, token) for number, token in beyond if token != tokenizer.pad_token]
    if beyond:
        number, token = beyond[0]
        raise ModelError(
            f"scoring model {name!r}: its tokenizer has {len(beyond):,} tokens beyond the model's {size:,} embeddings, the first {token!r} "
            f"({number}); take the tokenizer that belongs to these weights, or resize the embeddings and save both"
        )


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"scoring model {str(index.parent)!r}: {index.name} cannot be read as an index of weights ({type(error).__name__}); copy "
            "or download the model again"
        ) from error


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def _what_instead(folder: Path) -> str:
    if (folder / "adapter_config.json").exists():
        return "an adapter (PEFT) and not a model; merge it into its base model (merge_and_unload) and save that"
    if any(folder.glob("*.gguf")):
        return "GGUF weights, which are not loaded here; take the model's safetensors, or serve it: MODEL@http://…/v1"
    if (folder / "tf_model.h5").exists() or (folder / "flax_model.msgpack").exists():
        return "weights of TensorFlow or Flax alone; expected model.safetensors"
    return f"no weights in {folder}; expected {', '.join(_SINGLE)}, or an index of several files"


def _opened(name: str, path: Path) -> Mapping[str, Header]:
    try:
        return dict(_safetensors(path) if path.suffix == ".safetensors" else _pickled(path))
    except Exception as error:  # each format's reader has its own
        raise ModelError(
            f"scoring model {name!r}: {path.name} ({path.stat().st_size:,} bytes) is broken or cut off ({type(error).__name__}); copy or "
            "download it again"
        ) from error


def _safetensors(path: Path) -> Iterator[tuple[str, Header]]:
    import safetensors

    with safetensors.safe_open(path, framework="pt") as file:  # checks the header, and the file's length against it
        for key in file.keys():  # noqa: SIM118  it is no dict
            part = file.get_slice(key)
            yield key, (tuple(part.get_shape()), str(part.get_dtype()))


def _pickled(path: Path) -> Iterator[tuple[str, Header]]:
    import torch

    for key, tensor in torch.load(path, map_location="meta", weights_only=True).items():
        yield key, (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _check_quantised(name: str, config: "transformers.PretrainedConfig") -> None:
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        AutoHfQuantizer.from_config(config.quantization_config, pre_quantized=True).validate_environment(
            device_map=None
        )
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            f"scoring model {name!r}: its weights are quantised, and {' '.join(str(error).split())[:200]}; install that, take the "
            "model's full weights, or serve it: MODEL@http://…/v1"
        ) from error
    except Exception:  # a method that only loading can judge
        return


def _check_fit(name: str, config: "transformers.PretrainedConfig", stored: Mapping[str, Header]) -> None:
    """What is stored against what the model has. Names that transformers converts while loading are left to loading."""
    from star_pipeline.adapters.model_size import skeleton

    model = skeleton(name, config)
    prefix = f"{model.base_model_prefix}."
    names: dict[int, list[str]] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for key, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(key)
        shapes[id(parameter)] = tuple(parameter.shape)
    head = model.get_output_embeddings()
    if head is not None and getattr(config.get_text_config(), "tie_word_embeddings", False):
        # not every version of transformers ties a model that has no weights
        own, tied = id(model.get_input_embeddings().weight), id(head.weight)
        if own != tied:
            names[own] += names.pop(tied, [])
    missing: list[tuple[str, tuple[int, ...]]] = []
    used: set[str] = set()
    for number, keys in names.items():
        spellings = [s for key in keys for s in (key, key.removeprefix(prefix), f"{prefix}{key}")]
        found = next((spelling for spelling in spellings if spelling in stored), None)
        if found is None:
            missing.append((keys[0], shapes[number]))
            continue
        used.update(spelling for spelling in spellings if spelling in stored)
        shape, dtype = stored[found]
        if dtype in _NOT_WEIGHTS:
            raise ModelError(
                f"scoring model {name!r}: {found} is stored as {dtype}, and config.json names no quantisation; expected float32, float16 "
                "or bfloat16"
            )
        if shape != shapes[number]:
            raise ModelError(
                f"scoring model {name!r}: {found} has shape {list(shape)}, and config.json makes it {list(shapes[number])}; take the "
                "config.json that belongs to these weights"
            )
    left = sum(math.prod(shape) for key, (shape, _) in stored.items() if key not in used)
    # a conversion keeps the count of numbers: what is lacking more than is left over is not there
    if sum(math.prod(shape) for _, shape in missing) > left:
        raise ModelError(
            f"scoring model {name!r}: its weights lack {missing[0][0]} and {len(missing) - 1:,} more; expected all of a causal LM's "
            f"({type(model).__name__})"
        )
