"""The card's texts that are the same for every data set."""

LOADING = """## How to load it

```python
from datasets import load_dataset

rows = load_dataset("parquet", data_files="star_dataset.parquet", split="train")
```

"""
SEVERAL = """\
**Train on the last answer of each row only.** Several rows come from one conversation: each `messages` ends with the answer that the row is
about, and repeats the turns before it as they were.

"""
TRAINING = """\
From the lake, `star-pipeline export --for trl --output recipe` (or `axolotl`, `llamafactory`, `unsloth`, `torchtune`) writes a folder that
trains the target{target}, with the loss on the last answer and its end token alone.
With TRL and nothing else, as prompt and completion (a base model's tokenizer needs a chat template first):

```python
from trl import SFTConfig, SFTTrainer

def split(row):
    return {{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}}

pairs = rows.map(split, remove_columns=rows.column_names)
SFTTrainer(model={model}, train_dataset=pairs, args=SFTConfig(max_length={limit})).train()
```
"""
TRACING = """## How to trace a row

`source` and `source_row` name the record of the seed file, `shard` and `candidate_id` the tables that it was made in. `manifest.json`
beside this card names the data file by its SHA-256, and each shard's tables by theirs, with the configuration that made them, the seed
files, the snapshot of the pair probabilities and the versions of the software.

## Limits
"""
LIMITS = """\
- π is relative to one target model, and to the other candidates of the same shard. For another target another choice would be best.
- Judges favour positions, lengths and their own style. Each comparison was asked in both orders; what remains of the bias is in the data.
- Fallback rows have no positive π: no candidate was found better than the reference.
- The terms of the models that wrote the text, and of the seed data, may limit its use. Which licence it can have is for its user to check.

## Citation

```bibtex
@article{zhou2024staragents,
  title   = {Star-Agents: Automatic Data Optimization with LLM Agents for Instruction Tuning},
  author  = {Zhou, Hang and others},
  journal = {arXiv preprint arXiv:2411.14497},
  year    = {2024}
}
```
"""
