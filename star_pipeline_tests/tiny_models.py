"""Small, randomly initialised Hugging Face models with real tokenizers, saved to disk."""

from collections.abc import Iterable
from pathlib import Path


def save_gpt_neox(
    folder: Path, texts: Iterable[str], seed: int, hidden: int, layers: int, context: int = 1024, vocabulary: int = 600
) -> Path:
    """A GPT-NeoX of random weights with a byte-level BPE trained on ``texts``; BOS and EOS are <|endoftext|>."""
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(list(texts), vocab_size=vocabulary, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.GPTNeoXConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=4 * hidden,
            max_position_embeddings=context,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            initializer_range=0.2,
        )
        model = transformers.GPTNeoXForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
