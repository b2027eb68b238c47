"""The README of an export: what the hub and ``datasets`` read of it, and, for a file alone, what it holds."""

import yaml

from star_pipeline.core.publishing.card import size_category


def front_matter(title: str, data: str, rows: int, licence: str | None) -> str:
    """YAML front matter of a README beside the file ``data``. A licence is named only where the configuration has one."""
    told = {
        "pretty_name": title,
        **({"license": licence} if licence else {}),
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows)],
        "tags": ["star-agents", "instruction-tuning", "synthetic"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": data}]}],
    }
    return f"---\n{yaml.safe_dump(told, sort_keys=False, allow_unicode=True)}---\n"


def file_card(title: str, form: str, data: str, records: int, licence: str | None) -> str:
    """The whole README of one exported file."""
    return f"""{front_matter(title, data, records, licence)}
# {title}

{records:,} records in the form `{form}`, of a data set for instruction tuning that suits one target model (Star-Agents,
[arXiv 2411.14497](https://arxiv.org/abs/2411.14497)).

```python
from datasets import load_dataset

rows = load_dataset("{"parquet" if data.endswith(".parquet") else "json"}", data_files="{data}", split="train")
```
"""
