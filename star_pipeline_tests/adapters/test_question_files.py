"""Evaluation questions in all forms that they come in, public files included; every mistake names file, row and field."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.question_files import read_questions
from star_pipeline.core.errors import SeedError
from star_pipeline.core.records import Message


@pytest.fixture
def file(tmp_path):
    def write(*records, name="q.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(record) for record in records), "utf-8")
        return str(path)

    return write


def test_mt_bench_has_two_turns_categories_and_references_to_some(shared_data):
    names = [str(shared_data(f"fastchat/{name}.jsonl")) for name in ("mt_bench_question", "mt_bench_reference_gpt-4")]
    questions = read_questions(names, {})
    assert len(questions) == 80
    assert {len(question.turns) for question in questions} == {2}
    assert len({question.category for question in questions}) == 8
    answers = {}
    for row in map(json.loads, shared_data("fastchat/mt_bench_reference_gpt-4.jsonl").read_text("utf-8").splitlines()):
        answers[str(row["question_id"])] = tuple(row["choices"][0]["turns"])
    # GPT-4's take the place of those that stand beside the questions
    assert {q.name: q.references for q in questions if q.name in answers} == answers
    assert (questions[0].name, questions[0].category, questions[0].references) == ("81", "writing", (None, None))


def test_vicuna_bench_wizardlm_and_koala_in_their_own_form(shared_data):
    names = ["fastchat/vicuna_bench_question", "fastchat/vicuna_bench_reference_gpt-4", "wizardlm/WizardLM_testset"]
    names += ["eval_sets/koala_test_set", "fastchat/mt_bench_question", "fastchat/mt_bench_reference_gpt-4"]
    questions = read_questions([str(shared_data(f"{name}.jsonl")) for name in names], {})
    of = {}
    for question in questions:
        of.setdefault(question.source, []).append(question)
    assert {source: len(found) for source, found in of.items()} == {
        "vicuna_bench_question.jsonl": 80,
        "WizardLM_testset.jsonl": 112,
        "koala_test_set.jsonl": 180,
        "mt_bench_question.jsonl": 80,
    }
    assert sum(question.references != (None,) for question in of["vicuna_bench_question.jsonl"]) == 10
    assert of["WizardLM_testset.jsonl"][0].category == "Math"
    assert of["koala_test_set.jsonl"][0].name == "koala_0"


def test_seed_files_are_questions_whose_responses_are_references(file):
    rows = [
        {"instruction": "Add", "input": "1 and 2", "output": "3"},
        {"instruction": "Without an answer"},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                      {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]},
        {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
    ]  # fmt: skip
    questions = [question for row in rows for question in read_questions([file(row)], {})]
    assert [(q.turns, q.references) for q in questions] == [
        (("Add\n1 and 2",), ("3",)),
        (("Without an answer",), (None,)),
        (("Hi",), (None,)),
        (("c",), ("d",)),
        (("x",), ("y",)),
    ]
    assert questions[2].system == "Be brief."
    assert questions[3].history == (Message("user", "a"), Message("assistant", "b"))


def test_the_users_own_names_of_fields_count_where_a_file_has_them(file):
    fields = {"instruction": "prompt", "response": "answer"}
    [own] = read_questions([file({"prompt": "p", "answer": "a"})], fields)
    [plain] = read_questions([file({"instruction": "p", "output": "a"})], fields)
    assert own.references == plain.references == ("a",)
    [koala] = read_questions([file({"prompt": "p", "id": 3})], {})
    assert (koala.turns, koala.name) == (("p",), "3")


def test_a_question_is_named_by_its_content_and_comes_once(file):
    one = file({"instruction": "a"}, {"instruction": "b"}, {"instruction": "a"}, name="one.jsonl")
    two = file({"prompt": "b", "id": "x"}, {"prompt": "c"}, name="two.jsonl")
    found = read_questions([one, two], {})
    assert [(q.turns[0], q.source) for q in found] == [("a", "one.jsonl"), ("b", "one.jsonl"), ("c", "two.jsonl")]
    assert len({q.question for q in found}) == 3
    assert len(read_questions([one, two], {}, limit=1)) == 2


def test_parquet_and_csv(tmp_path):
    table = pa.table({"question_id": [1, 2], "turns": [["a", "b"], ["c"]], "category": ["x", None]})
    pq.write_table(table, tmp_path / "q.parquet")
    assert [q.turns for q in read_questions([str(tmp_path / "q.parquet")], {})] == [("a", "b"), ("c",)]
    (tmp_path / "q.csv").write_text("instruction,output\nask,answer\n")
    assert read_questions([str(tmp_path / "q.csv")], {})[0].references == ("answer",)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"turns": "a"}, ["row 1", "field 'turns'", "a list of texts"]),
        ({"turns": ["a", ""]}, ["field 'turns[1]'", "nothing"]),
        ({"turns": ["a", 3]}, ["field 'turns[1]'", "a int"]),
        ({"Instruction": " "}, ["field 'Instruction'"]),
        ({"prompt": ["a"]}, ["field 'prompt'", "a list"]),
        ({"text": "a"}, ["it holds text", "turns (MT-bench)", "prompt (Koala)"]),
        ({"messages": [{"role": "tool", "content": "a"}]}, ["messages[0].role", "tool"]),
        ({"question_id": 7, "choices": [{"turns": ["a"]}]}, ["question '7'", "name that file first"]),
        ({"choices": []}, ["question_id"]),
        ({"question_id": 7, "choices": []}, ["choices", "FastChat"]),
        ({"prompt": "\ud83d"}, ["lone surrogate"]),
        ([1], ["a list, expected an object"]),
    ],
)
def test_a_mistake_names_file_row_and_field_in_one_line(file, record, words):
    with pytest.raises(SeedError) as error:
        read_questions([file(record)], {})
    said = str(error.value)
    assert said.startswith("q.jsonl") or said.startswith("/")
    for word in words:
        assert word in said, said
    assert "\n" not in said


def test_what_is_no_file_and_no_name_of_the_hub(tmp_path, file):
    for name in ("absent.jsonl", str(tmp_path / "absent"), "plain"):
        with pytest.raises(SeedError, match=r"no such file; expected a file .* or a data set's hub name"):
            read_questions([name], {})
    (tmp_path / "q.txt").write_text("x")
    with pytest.raises(SeedError, match=r"q\.txt: its name does not say"):
        read_questions([str(tmp_path / "q.txt")], {})
    (tmp_path / "e.jsonl").write_text("")
    with pytest.raises(SeedError, match="no records"):
        read_questions([str(tmp_path / "e.jsonl")], {})
    with pytest.raises(SeedError, match=r"q\.jsonl, row 2: no reference answer"):
        read_questions([file({"instruction": "a", "output": "b"}, {"instruction": "c"})], {}, answered=True)
