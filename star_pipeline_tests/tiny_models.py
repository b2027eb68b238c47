"""Small, randomly initialised Hugging Face models of many architectures, with real tokenizers, saved to disk."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_END = "<|endoftext|>"
ARCHITECTURES = ("gpt_neox", "gpt2", "llama", "qwen2")


def save_gpt_neox(
    folder: Path, texts: Iterable[str], seed: int, hidden: int, layers: int, context: int = 1024, vocabulary: int = 600
) -> Path:
    """A GPT-NeoX of random weights with a byte-level BPE trained on ``texts``; BOS and EOS are <|endoftext|>."""
    return save_model(folder, "gpt_neox", texts, seed, hidden, layers, context, vocabulary)


def save_model(
    folder: Path,
    architecture: str,
    texts: Iterable[str],
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    context: int = 1024,
    vocabulary: int = 600,
    **settings: Any,
) -> Path:
    """A causal LM of transformers' ``architecture`` with weights large enough that every part of it matters.

    Its tokenizer is as that family's usually are: llama's adds BOS by itself, qwen2's has none, the others define it and don't add it.
    """
    import torch
    import transformers

    tokenizer = _tokenizer(architecture, texts, vocabulary)
    given = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
        "initializer_range": 0.2,
        **_OWN.get(architecture, {}),
        **settings,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.AutoConfig.for_model(architecture, **given)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


_OWN: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 1},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 16},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 3.0},
    "cohere": {"num_key_value_heads": 2, "logit_scale": 0.25},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 32},
    "mamba": {"state_size": 8},
}


def _tokenizer(architecture: str, texts: Iterable[str], vocabulary: int) -> Any:
    import transformers
    from tokenizers import ByteLevelBPETokenizer, processors

    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "</s>"] if architecture == "llama" else [_END]
    bpe.train_from_iterator(list(texts), vocab_size=vocabulary, special_tokens=special, show_progress=False)
    if architecture != "llama":
        start = {} if architecture == "qwen2" else {"bos_token": _END}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=_END, **start)
    bpe._tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>")
