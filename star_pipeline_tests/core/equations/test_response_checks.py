"""A response that loops, is in another script, or refuses is told; verse, lists and code are not."""

import pytest

from star_pipeline.core.equations.response_checks import Check, check_response

ASKED = "Name some snacks for the ferry crossing, please."
SNACKS = "Here are some snacks for the crossing:\n- apples and pears\n- oat biscuits\n"


@pytest.mark.parametrize(
    "made",
    [
        SNACKS + "- rye bread and butter\n" * 30,
        SNACKS + "- rye bread and butter\n" * 30 + "- rye bread and",
        "Good, " + "better, " * 60 + "better",
        "The ferry was late. The ferry was early. " * 12,
        "A:\n\nUse the first one.\n\nB:\n\nUse the second one.\n\n" * 9,
    ],
)
def test_a_reply_that_repeats_itself_to_its_end_fails(made):
    assert check_response(ASKED, made).kind == "loop"


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ("Print the word ferry 100 times.", "ferry " * 100),
        ("Write the chorus of a song about rain.", "Rain, rain, come again\n" * 10),
        (ASKED, SNACKS),
        (ASKED, SNACKS + "- rye bread\n" * 4),
        (ASKED, "\n".join(f"- item number {n} for the day" for n in range(60))),
        (ASKED, "Yes. " * 12),
        (ASKED, SNACKS + "-" * 60 + "\nThat is all of it."),
    ],
)
def test_what_repeats_for_a_reason_passes(asked, made):
    assert check_response(asked, made).kind is None


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        (ASKED, "渡轮上可以吃苹果、燕麦饼干和黑麦面包，既方便又健康。"),
        ("请介绍一下这条河流的历史和现在的情况。", "The river has been a trade route for more than a thousand years."),
        (ASKED, "Возьмите с собой яблоки, груши и ржаной хлеб."),
    ],
)
def test_a_reply_in_another_script_than_was_asked_is_a_warning(asked, made):
    assert check_response(asked, made) == Check(warnings=("other_script",))


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ("Translate into Russian: we leave at dawn tomorrow", "Мы отправляемся завтра на рассвете."),
        (
            "How do you say good morning in Japanese?",
            "おはようございます、と言います。朝の挨拶として広く使われています。",
        ),
        ("请用英文介绍一下这条河流的历史和现状。", "The river has been a trade route for a thousand years."),
        (
            "写一个函数，计算列表中所有数字的平均值。",
            "```python\ndef mean(values):\n    return sum(values) / len(values)\n```",
        ),
        ("请写出这段代码的输出结果是什么。", "Hello"),
        (ASKED, "Apples (яблоки), pears and rye bread."),
    ],
)
def test_a_script_that_was_asked_for_passes(asked, made):
    assert check_response(asked, made).kind is None


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("I'm sorry, but I cannot assist with that request.", True),
        ("As an AI language model, I do not have personal opinions, and many people like apples.", False),
        ("I'm sorry, I can't taste them. However, rye bread keeps well on a boat.", False),
        ("I cannot help the way I feel\nAbout the tide", False),
        ("I'm sorry to hear that you are seasick. Eat dry biscuits.", False),
    ],
)
def test_a_refusal_is_a_warning(made, told):
    found = check_response(ASKED, made)
    assert (found.kind, found.warnings) == (None, ("refused_answer",) if told else ())


def test_a_refusal_in_another_language_is_one_too():
    assert check_response("渡轮上可以吃什么？", "抱歉，我无法回答这个问题。").warnings == ("refused_answer",)
