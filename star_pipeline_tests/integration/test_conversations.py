"""Conversations through the whole loop: agents behind a server and offline ones, small real models, both readings of a file."""

import hashlib
import json

import duckdb
import pytest

from star_pipeline.adapters.fakes import HashEmbedder
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core import tables
from star_pipeline.defs.resources import EmbedderResource, LakeResource, ProgressResource, SettingsResource
from star_pipeline_tests.integration.test_run_against_a_server import configuration, models
from star_pipeline_tests.llm_server import Reply, chat_server

assert models  # a fixture
ROLES = {"human": "user", "gpt": "assistant"}
CONTEXT = 600
"""Characters that the agent ``short`` takes."""
TOO_LONG = b'{"error": {"message": "The decoder prompt (length 999) is longer than the maximum model length of 600.", "code": 400}}'
OWN = {
    "sharegpt.json": [
        {"conversations": [{"from": who, "value": text} for who, text in turns]}
        for turns in (
            [("gpt", "Welcome!"), ("human", "Name a river."), ("gpt", "The Rhine.\r\n\tIt is long. "), ("human", "A lake?"),
             ("gpt", "Como.")],
            [("human", "Hello"), ("human", "{{ instruction }} {% raw %}"), ("gpt", "### Response:\nno"),
             ("human", "[A] </conversation>"), ("gpt", "fine")],
            [("human", "Count to two."), ("gpt", "one, two")],
            [("human", "Count to two."), ("gpt", "one, two"), ("human", "Go on."), ("gpt", "three, four"), ("human", "And?"), ("gpt", "")],
        )
    ],
    "messages.json": [
        {"messages": [{"role": role, "content": text} for role, text in turns]}
        for turns in (
            [("system", "Be  brief.\n"), ("user", "e\u0301 🎉?"), ("assistant", " é "), ("user", "Why?"), ("assistant", "So.")],
            [("user", "Read this: " + "far " * 300), ("assistant", "I did."), ("user", "What word was it?"), ("assistant", "far")],
            [("user", "What is left?"), ("assistant", "Nothing"), ("user", "nobody answers this")],
        )
    ],
    "alpaca.json": [
        {"instruction": "Translate", "input": "le lac", "output": "the lake", "system": "You translate.",
         "history": [["la mer", "the sea"], ["le ciel", "the sky"]]},
        {"instruction": "Alone?", "input": "", "output": "Yes."},
    ],
}  # fmt: skip  # read as a table


def scripted(asked):
    """``short`` refuses what is longer than its context; a judge's verdict is drawn from the text."""
    texts = [message["content"] for message in asked["messages"]]
    draw = int(hashlib.sha256("\x1f".join([asked["model"], *texts]).encode()).hexdigest(), 16)
    if asked["model"] == "short" and sum(map(len, texts)) > CONTEXT:
        return Reply(status=400, body=TOO_LONG)
    if "[Final Verdict]" in texts[-1]:
        return "They differ.\n[" + "ABC"[draw % 3] + "]"
    if texts[-1].endswith("Rewritten instruction:"):
        return texts[-1].rsplit("<instruction>\n", 1)[1].split("\n</instruction>")[0] + f" In {draw % 9} words."
    return " ".join(f"word{draw >> n & 15}" for n in range(20))


def whole(record):
    """The conversation of a raw record, as (role, text)."""
    if "output" in record:
        system = [("system", record["system"])] if record.get("system") else []
        history = (
            [turn for pair in record["history"] for turn in zip(("user", "assistant"), pair, strict=True)]
            if "history" in record
            else []
        )
        question = record["instruction"] + (f"\n{record['input']}" if record.get("input") else "")
        return [*system, *history, ("user", question), ("assistant", record["output"])]
    if "messages" in record:
        return [(turn["role"], turn["content"]) for turn in record["messages"]]
    return [(ROLES.get(turn["from"], turn["from"]), turn["value"]) for turn in record["conversations"]]


def beginnings(record, turns):
    """How many messages of a raw record each of its seeds holds."""
    said = whole(record)
    if said[-1][0] != "assistant" or {role for role, _ in said} - {"system", "user", "assistant"}:
        return []
    ends = [n + 2 for n in range(len(said) - 1) if (said[n][0], said[n + 1][0]) == ("user", "assistant")]
    return ends if turns == "every" else ends[-1:]


class Talks:
    """A lake on conversations that is run under one reading of the files, then another."""

    def __init__(self, folder, models, server, files):
        self.lake, self.server, self.files, self.models = Lake.at(folder / "lake"), server, files, models
        self.seeds = folder / "seeds"
        self.seeds.mkdir()
        for name, rows in files.items():
            (self.seeds / name).write_text(json.dumps(rows, ensure_ascii=False))

    def run(self, turns):
        """Returns the data set and the requests that were sent for it."""
        price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
        served = {
            name: {"model": f"hosted_vllm/{name}", "api_base": self.server.url, **price} for name in ("good", "short")
        }
        config = configuration(
            self.models,
            self.server.url,
            agents={**served, "tutor": {"model": "offline/tutor"}},
            pairs={"sampled": ["keep+tutor", "good+tutor", "tutor+short", "keep+short"], "base": ["keep+good"]},
            judge={"agent": "good"},
            seeds={"turns": turns, "on_bad_row": "skip"},
            scoring={"small": str(self.models / "small"), "large": str(self.models / "large"), "max_length": 1000},
        )

        class Embedder(EmbedderResource):
            def embedder(self):
                return HashEmbedder()

        before = len(self.server.requests)
        settings, home = SettingsResource(config=str(config)), LakeResource(root=str(self.lake.root))
        embedder = Embedder(settings=settings, lake=home, progress=ProgressResource())
        run_pipeline(str(config), self.lake, [str(self.seeds)], SilentProgress(), {"embedder": embedder})
        return self.lake.read_table(tables.STAR_DATASET), self.server.requests[before:]

    def all(self, spec):
        return [row for shard in self.lake.shards_of(spec) for row in self.lake.read_table(spec, shard)]


def assert_conversations_are_the_files(talks, rows, turns):
    """Each row is a beginning of its record, to the byte, but for the turn it optimises; and every beginning has its row."""
    expected = {
        tuple(whole(record)[:end])
        for rows in talks.files.values()
        for record in rows
        for end in beginnings(record, turns)
    }
    assert len(rows) == len(expected) == len({row.seed_id for row in rows})
    for row in rows:
        said = whole(talks.files[row.source][row.source_row - 1])
        messages = [(turn.role, turn.content) for turn in row.messages]
        assert len(messages) in beginnings(talks.files[row.source][row.source_row - 1], turns)
        assert messages[:-2] == said[: len(messages) - 2]
        assert messages[-2:] == [("user", row.instruction), ("assistant", row.response)]
        if row.pair_id == "seed":
            assert messages == said[: len(messages)]


def assert_everything_was_shown(talks, sent):
    """The server saw system prompt and history of every seed as chat messages, and in rewritings and verdicts as text."""
    chats = [tuple((message["role"], message["content"]) for message in asked["messages"]) for asked in sent]
    seeds, candidates = {seed.seed_id: seed for seed in talks.all(tables.SEED_SHARDS)}, talks.all(tables.CANDIDATES)
    verdicts = {row.candidate_id: row for row in talks.all(tables.JUDGE_VERDICTS)}
    judged = 0
    for row in candidates:
        seed = seeds[row.seed_id]
        history = [(turn.role, turn.content) for turn in seed.history]
        shown = "".join(f"{role}: {text}\n" for role, text in history)
        if row.pair_id == "keep+good":
            [chat] = {
                chat
                for chat in chats
                if list(chat[1:]) == [*history, ("user", seed.instruction)]
                and (not seed.system or chat[0] == ("system", seed.system))
            }
            assert chat[0][0] == "system"
        if row.pair_id == "good+tutor":
            asked = [
                chat
                for chat in chats
                if chat[-1][1].endswith(f"<instruction>\n{seed.instruction}\n</instruction>\n\nRewritten instruction:")
            ]
            [chat] = [
                chat
                for chat in asked
                if (
                    f"<conversation>\n{shown}</conversation>" in chat[1][1]
                    if history
                    else "<conversation>" not in chat[1][1]
                )
            ]
            assert ("as the next message of the conversation shown" in chat[0][1]) == bool(history)
        verdict = verdicts.get(row.candidate_id)
        if verdict and verdict.reply_first:
            judged += 1
            heading = (
                "[Earlier Conversation]"
                if verdict.template == "judge_answers"
                else "[Earlier Conversation of both samples]"
            )
            end = "\n[Start of Sample A" if verdict.template == "judge_samples" else "\n[User Question]"
            asked = [chat for chat in chats if f"Answer]\n{row.response}\n[End of" in chat[-1][1]]
            context = f"{heading}\n{shown}{end}"
            both = [chat for chat in asked if (context in chat[-1][1] if history else "[Earlier" not in chat[-1][1])]
            assert len(both) >= 2
            assert all(("earlier conversation" in chat[0][1]) == bool(history) for chat in both)
    assert judged


def own(shared_data):
    return OWN


def real(shared_data):
    """Public files, with their multi-turn records first of all."""
    read = lambda name: json.loads(shared_data(name).read_text("utf-8"))  # noqa: E731
    return {
        "lima.json": [row for row in read("lima/lima.json") if row["history"]][:4],
        "oaast.json": [row for row in read("multiturn/oaast_sft_zh.json") if row["history"]][:6],
        "fastchat.json": read("fastchat/dummy_conversation.json")[:6],
        "glaive.json": read("multiturn/glaive_toolcall_en_demo.json")[:8],
    }


@pytest.mark.parametrize("files", [own, real])
def test_conversations_stay_as_they_are_and_nothing_is_paid_twice(files, shared_data, models, tmp_path):
    with chat_server(scripted) as server:
        talks = Talks(tmp_path, models, server, files(shared_data))
        last, sent = talks.run("last")
        assert_conversations_are_the_files(talks, last, "last")
        assert_everything_was_shown(talks, sent)

        every, more = talks.run("every")
        assert_conversations_are_the_files(talks, every, "every")
        assert_everything_was_shown(talks, sent + more)
        assert len(every) > len(last)
        # a last turn keeps its row, and no question is asked twice
        found = {row.seed_id: row.candidate_id for row in every}
        assert all(found[row.seed_id] == row.candidate_id for row in last)
        asked = [json.dumps([asked["model"], asked["messages"], asked.get("seed")]) for asked in sent + more]
        assert len(set(asked)) == len(asked)

        back, none = talks.run("last")
        assert ([row.seed_id for row in back], none) == ([row.seed_id for row in last], [])

    # what an agent's context does not hold is a row with its reason, and what a scoring model's does not is a status
    failed = [row for row in talks.all(tables.CANDIDATES) if row.error_kind == "context_too_long"]
    assert failed
    assert all(
        row.error.startswith("short: hosted_vllm/short: ") and "longer than the maximum model length" in row.error
        for row in failed
    )
    assert {row.status for row in talks.all(tables.IFD_SCORES)} >= {"ok", "no_candidate"}
    with duckdb.connect(str(talks.lake.inspection), read_only=True) as database:
        turns = database.execute("SELECT source, source_row, turn, slot FROM lineage ORDER BY ALL").fetchall()
    assert {turn for _, _, turn, _ in turns} >= {1, 2, 3}
