"""Others' tasks on a tuned model: lm-eval on a task of the user's own, IFEval's checks."""

import json

import pytest

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.study import run_tasks
from star_pipeline.adapters.study.ifeval import verifiable_questions, verified
from star_pipeline.config.study import LmEvalConfig
from star_pipeline.core.errors import ConfigError, SeedError
from star_pipeline.core.study.answers import Answer, Subject
from star_pipeline_tests.adapters.study.conftest import WORDS, settings

WHO = Subject("base", "star", 0)
TASK = """
task: fruit
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "### Instruction:\\nSay {{{{word}}}}.\\n\\n### Response:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: ""
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def tasks(tmp_path):
    """A folder with the task ``fruit``, whose data set is beside it: which of two sentences is it?"""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [
        {"word": word, "choices": [f"{word} word the is", f"The word is {WORDS[n - 1]}."], "label": n % 2}
        for n, word in enumerate(WORDS)
    ]
    (folder / "fruit.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "fruit.yaml").write_text(TASK.format(file=folder / "fruit.jsonl"))
    return folder


def asked(folder, lake, kept, **changes):
    wanted = LmEvalConfig(tasks=("fruit",), **changes)
    return run_tasks(str(folder), wanted, WHO, settings(), lake, kept, SilentProgress())


def likelier(folder, prompt, texts):
    """Which text is the likelier one after the prompt, by transformers alone."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    found = []
    for text in texts:
        before, ids = (tokenizer(shown)["input_ids"] for shown in (prompt, prompt + text))
        with torch.no_grad():
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        found.append(sum(float(logs[place - 1, ids[place]]) for place in range(len(before), len(ids))))
    return found.index(max(found))


def test_a_task_is_a_row_a_question_and_is_not_run_again(base, tasks, lake, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    found = asked(base, lake, tmp_path / "kept", include_path=str(tasks))
    assert [(row.target, row.arm, row.seed, row.task, row.metric) for row in found] == [
        ("base", "star", 0, "fruit", "acc")
    ] * 6
    rows = [json.loads(line) for line in (tasks / "fruit.jsonl").read_text().splitlines()]
    picked = [likelier(base, f"### Instruction:\nSay {row['word']}.\n\n### Response:", row["choices"]) for row in rows]
    marks = [float(choice == row["label"]) for choice, row in zip(picked, rows, strict=True)]
    assert [(row.question, row.value) for row in found] == [(str(n), mark) for n, mark in enumerate(marks)]
    assert 0 < sum(marks) < 6
    (tasks / "fruit.jsonl").unlink()
    assert asked(base, lake, tmp_path / "kept", include_path=str(tasks)) == found
    with pytest.raises(ConfigError, match=r"'fruit' cannot be run: .*; expected a task whose data is on this machine"):
        asked(base, lake, tmp_path / "kept", include_path=str(tasks), limit=2)


@pytest.fixture
def ifeval(tmp_path):
    rows = [
        (1, "Say it without commas.", ["punctuation:no_comma"], [{}]),
        (2, "Say pear twice.", ["keywords:frequency"], [{"keyword": "pear", "relation": "at least", "frequency": 2, "x": None}]),
        (3, "Say JSON of ten words.", ["detectable_format:json_format", "length_constraints:number_words"], [
            {}, {"relation": "less than", "num_words": 10},
        ]),
        (4, "Say it without commas too.", ["punctuation:no_comma"], [{}]),
    ]  # fmt: skip
    path = tmp_path / "ifeval.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"key": key, "prompt": prompt, "instruction_id_list": ids, "kwargs": kwargs})
            for key, prompt, ids, kwargs in rows
        )
    )
    return path


def test_what_ifeval_asks_for_is_verified(ifeval):
    pytest.importorskip("langdetect", reason="the extra study is not whole: lm-eval[ifeval] is missing")
    questions = verifiable_questions([str(ifeval)])
    texts = ["No comma here.", "Only one pear.", '{"a": "b"}']
    answers = [Answer(one.question.question, 1, text, "ok") for one, text in zip(questions, texts, strict=False)]
    found = verified(questions, answers, WHO)
    names = [one.question.question for one in questions]
    assert [(row.question, row.metric, row.value) for row in found if row.metric.endswith("strict_acc")] == [
        (name, "prompt_level_strict_acc", value) for name, value in zip(names, (1.0, 0.0, 1.0, 0.0), strict=True)
    ]
    assert len(found) == 16
    assert {row.task for row in found} == {"ifeval"}


def test_what_ifeval_cannot_check_is_told_with_its_row(ifeval):
    pytest.importorskip("langdetect", reason="the extra study is not whole: lm-eval[ifeval] is missing")
    row = json.loads(ifeval.read_text().splitlines()[0])
    ifeval.write_text(json.dumps({**row, "instruction_id_list": ["no:such"]}))
    with pytest.raises(SeedError, match=r"ifeval.jsonl, row 1: unknown instruction 'no:such'"):
        verified(verifiable_questions([str(ifeval)]), [], WHO)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "row 1: KeyError: 'prompt'"),
        (
            '{"prompt": "x", "instruction_id_list": ["a"], "kwargs": []}',
            "row 1: ValueError: prompt, instruction_id_list or kwargs",
        ),
        ("nonsense", "row 1: JSONDecodeError"),
        ("", "holds no question"),
    ],
)
def test_a_file_in_another_form_is_told_with_its_row(line, said, tmp_path):
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(SeedError, match=said) as error:
        verifiable_questions([str(tmp_path / "x.jsonl")])
    assert "expected IFEval's form" in str(error.value)
