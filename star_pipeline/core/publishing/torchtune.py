"""A torchtune recipe: it builds models and tokens in a way of its own, so that the texts' tokens and the weights are handed to it."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.errors import ConfigError

MODULE = '''\
"""What torchtune's settings in train.yaml name: rows of tokens, the tokenizer that makes them, the model's files."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from torch.utils.data import Dataset
from torchtune.training import FullModelHFCheckpointer


class Texts:
    """The model's own tokenizer, without special tokens or a template of its own: the texts are whole."""

    def __init__(self, path, pad_id):
        self._tokenizer = Tokenizer.from_file(path)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.pad_id = pad_id  # masked wherever it stands

    def __call__(self, text):
        return self._tokenizer.encode(text, add_special_tokens=False).ids


class Rows(Dataset):
    """Token ids, and labels that leave out all but the completion."""

    def __init__(self, tokenizer, data):
        with open(data, encoding="utf-8") as file:
            self._rows = [json.loads(line) for line in file]
        self._tokenizer = tokenizer

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, number):
        prompt, answer = (self._tokenizer(self._rows[number][name]) for name in ("prompt", "completion"))
        return {"tokens": prompt + answer, "labels": [-100] * len(prompt) + answer}


def checkpointer(checkpoint_dir, **settings):
    """Of all weight files that lie in the folder, however many the model was saved in."""
    files = sorted(path.name for path in Path(checkpoint_dir).glob("*.safetensors"))
    return FullModelHFCheckpointer(checkpoint_dir=checkpoint_dir, checkpoint_files=files, **settings)
'''
_COMMON = MappingProxyType(
    {
        "vocab_size": "vocab_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "num_kv_heads": "num_key_value_heads",
        "embed_dim": "hidden_size",
        "intermediate_dim": "intermediate_size",
        "norm_eps": "rms_norm_eps",
    }
)
"""torchtune's names -> those of a model's config.json."""


def _llama(config: JsonMapping) -> tuple[str, str, JsonObject]:
    rope = config["rope_parameters"]
    factor = rope.get("factor", 1) if rope.get("rope_type") == "llama3" else 1
    if config["tie_word_embeddings"]:  # a factor of 1 leaves the frequencies as they are
        return "llama3_2.llama3_2", "LLAMA3_2", {"scale_factor": int(factor)}
    if factor != 1:
        return "llama3_1.llama3_1", "LLAMA3", {"scale_factor": int(factor)}
    return "llama3.llama3", "LLAMA3", {}


def _qwen2(config: JsonMapping) -> tuple[str, str, JsonObject]:
    return "qwen2.qwen2", "QWEN2", {"tie_word_embeddings": bool(config["tie_word_embeddings"])}


def _mistral(config: JsonMapping) -> tuple[str, str, JsonObject]:
    return "mistral.mistral", "MISTRAL", {}


def _gemma(config: JsonMapping) -> tuple[str, str, JsonObject]:
    return "gemma.gemma", "GEMMA", {"head_dim": config["head_dim"]}


_BUILDERS: Mapping[str, Callable[[JsonMapping], tuple[str, str, JsonObject]]] = MappingProxyType(
    {"llama": _llama, "qwen2": _qwen2, "mistral": _mistral, "gemma": _gemma}
)
"""model_type -> (builder under torchtune.models, the checkpointer's kind of model, settings that this builder has alone)."""


def settings(
    name: str, folder: str, config: JsonMapping, limit: int, rows: int, recipe: tuple[int, int, float, float], pad: int
) -> JsonObject:
    """torchtune's configuration for full_finetune_single_device.

    ``folder`` holds the model's files, ``config`` is its config.json, ``recipe`` epochs, rows an update, learning rate, share of warm-up.
    Raises ConfigError for what torchtune cannot build.
    """
    epochs, batch, rate, warmup = recipe
    batch = min(batch, rows)  # torchtune makes no update of fewer
    builder, kind, own = _built(name, config, limit)
    return {
        "output_dir": "tuned",
        "model": {
            "_component_": f"torchtune.models.{builder}",
            **{ours: config[theirs] for ours, theirs in _COMMON.items()},
            "max_seq_len": limit,
            "rope_base": int(config["rope_parameters"]["rope_theta"]),
            **own,
        },
        "tokenizer": {"_component_": "star_rows.Texts", "path": f"{folder}/tokenizer.json", "pad_id": pad},
        "dataset": {"_component_": "star_rows.Rows", "data": "train.jsonl"},
        "checkpointer": {
            "_component_": "star_rows.checkpointer",
            "checkpoint_dir": folder,
            "output_dir": "${output_dir}",
            "model_type": kind,
        },
        "resume_from_checkpoint": False,
        "seed": 0,
        "shuffle": True,
        "epochs": epochs,
        "max_steps_per_epoch": None,
        "batch_size": 1,
        "gradient_accumulation_steps": batch,
        "optimizer": {"_component_": "torch.optim.AdamW", "lr": rate, "weight_decay": 0.0, "fused": True},
        "lr_scheduler": {
            "_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup",
            "num_warmup_steps": math.ceil(warmup * epochs * (rows // batch)),
        },
        "optimizer_in_bwd": False,
        "clip_grad_norm": 1.0,
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "device": "cuda",
        "dtype": "fp32",
        "enable_activation_checkpointing": True,
        "enable_activation_offloading": False,
        "compile": False,
        "metric_logger": {
            "_component_": "torchtune.training.metric_logging.DiskLogger",
            "log_dir": "${output_dir}/logs",
        },
        "log_every_n_steps": 1,
        "log_peak_memory_stats": False,
    }


def _built(name: str, config: JsonMapping, limit: int) -> tuple[str, str, JsonObject]:
    kind = str(config.get("model_type"))
    if kind not in _BUILDERS:
        raise ConfigError(
            f"--for torchtune: {name} is a {kind} model, which torchtune does not build; expected one of {', '.join(_BUILDERS)}, or "
            "another trainer, such as --for trl"
        )
    rope = config["rope_parameters"]
    apart = [
        said
        for there, said in (
            (kind != "gemma" and _apart(config), "heads of another size than hidden_size / num_attention_heads"),
            (kind != "qwen2" and config.get("attention_bias"), "biases in its attention"),
            (config.get("mlp_bias"), "biases in its MLP"),
            (
                rope.get("rope_type", "default") not in ("default", "llama3"),
                f"{rope.get('rope_type')} rotary positions",
            ),
            (
                (config.get("sliding_window") or limit) < limit,
                "attention within a window shorter than scoring.max_length",
            ),
        )
        if there
    ]
    if apart:
        raise ConfigError(
            f"--for torchtune: {name} has {', '.join(apart)}, which torchtune's {kind} does not build; take another trainer, such as "
            "--for trl"
        )
    return _BUILDERS[kind](config)


def _apart(config: JsonMapping) -> bool:
    own = config.get("head_dim")
    return own is not None and int(own) * int(config["num_attention_heads"]) != int(config["hidden_size"])
