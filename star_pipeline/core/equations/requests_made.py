"""Whether a text asks for something: a question, an imperative, or words with which people ask."""

import re
from itertools import islice

_VERBS = """
    act add advise analyse analyze answer anticipate apply argue arrange ask assemble assess assign assume
    authenticate brainstorm break build calculate capitalise capitalize categorise categorize change check choose
    circle cite clarify classify combine come comment compare compile complete compose compute concatenate consider
    construct contrast convert convince correct count craft create critique curate customise customize debate debug
    decide decode deduce define delete delve demonstrate depict derive describe design detail detect determine
    develop devise diagnose differentiate discover discuss divide do draft draw edit elaborate eli5 elucidate employ
    encode enter entertain enumerate escalate estimate evaluate examine expand explain explicate explore expound
    extract fill find finish forecast format formulate generate get give greet group guess help highlight identify
    illustrate imagine implement improve include indicate infer inform insert inspect interpret introduce invent
    investigate itemize judge justify label list look make map match measure meet merge model modify monitor
    multiply name narrate need number offer optimise optimize order organise organize outline output paint pair
    paraphrase parse perform persuade pick picture piece place plan play plot point portray post predict prepare
    present pretend produce proofread propose prove provide put quantify quote rank rate read rearrange recall
    recite recommend reconstruct record recount recreate redesign refactor reflect reformulate reframe remove
    reorder reorganize rephrase replace reply report research resolve respond restate restructure return reverse
    review reword rewrite say score search select shape share show simplify simulate sing sketch solve sort specify
    speculate spell split spot start state structure suggest sum summarise summarize supply swap tabulate tag take
    tell test think toggle trace transcribe transform translate traverse turn update use utilise utilize validate
    verify visualise visualize walk write
"""
_WEAKER = """
    act add apply break check choose come consider do employ fill get help include look make map measure model
    monitor need number organise organize pick picture place plan prepare put read reflect return show start take
    think turn use utilise utilize walk
"""
_POLITE = "additionally also and briefly carefully clearly concisely finally first furthermore"
_ORDER = "kindly lastly let's lets next now please secondly then"
_QUESTIONS = """
    are can could did do does how is should what when where which who whom whose why will would
"""
_WEAK = frozenset(_WEAKER.split())
"""Verbs with which an answer gives advice too, or that are nouns as well: they ask only at the start of the first or the last line."""
_VERBS_ALL = frozenset(_VERBS.split())
_STRONG = _VERBS_ALL - _WEAK
_LEADS = frozenset(f"{_POLITE} {_ORDER}".split())
_NO_VERB = frozenset(("is", "are", "was", "were", "of", "has", "have"))
"""A word before one of these is a noun."""
_WORDS = re.compile(
    r"\b(?:please|(?:can|could|would|will) you|i want|i need|i would like|i['’]d like|looking for|your task|"
    r"you are (?:a|an|the|given|asked|tasked|provided|to|planning|writing)|"
    r"you (?:will|must|should) (?:be |then )?(?:given|write|provide|create|use|include|explain|describe|answer|asked)|"
    r"your (?:answer|response|goal)|the (?:answer|response|output|essay|poem|list|summary) (?:should|must)|"
    r"you (?:will )?(?:need|be required) to|(?:should|must|needs? to) be \w+ed|think of|"
    r"i['’]m trying to|tell me|show me|help me|give me|let['’]s|i wonder|wondering|need \d)\b",
    re.IGNORECASE,
)
_ANSWERS = re.compile(
    r"\A\W*(?:sure|certainly|of course|absolutely)\b[^\w?]|\bhere(?:['’]s| is| are)\s+(?:an? (?!list|text|passage|paragraph|sentence|"
    r"table|quote|dialogue|code|piece|snippet|prompt)|"
    r"the (?:steps|answer|solution|result|output|response|explanation)\b)[^\n?]{0,100}[:：]"
    r"|\bto answer (?:this|the|your) question, (?:i|we|you)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[?？؟]")
_ASKING = frozenset(_QUESTIONS.split())
_CLAUSE = re.compile(r"[.!:;,()\[\]\"”“。\n]+")
_FIRST = re.compile(r"[^\W_][\w'’-]*")
_LATIN = re.compile(r"[a-zA-Z]")
_ENGLISH = re.compile(
    r"\b(?:the|of|and|to|in|is|an?|for|with|that|on|are|this|your|it|he|she|his|her|was|my|should|not|they|has)\b",
    re.IGNORECASE,
)


def asks(text: str) -> bool:
    """Whether an English text asks for anything at all, as far as its words tell. Linear in its length."""
    if _QUESTION.search(text) or _WORDS.search(text):
        return True
    lines = [line for line in text.split("\n") if line.strip()]
    for words in map(_words, {*lines[:1], *lines[-1:]}):
        if words and (words[0] in _ASKING or _is_imperative(words, _VERBS_ALL)):
            return True
    return any(_is_imperative(_words(clause), _STRONG) for clause in _CLAUSE.split(text))


def answers(text: str) -> bool:
    """Whether the text says of itself that it is an answer: ``Certainly. …``, ``Here's a …:``."""
    return bool(_ANSWERS.search(text))


def _words(clause: str) -> list[str]:
    """The first words behind polite and ordering ones, bullets and numbers."""
    words = [found[0].lower() for found in islice(_FIRST.finditer(clause), 8) if not found[0].isdigit()]
    while words and words[0] in _LEADS:
        words = words[1:]
    return words


def _is_imperative(words: list[str], verbs: frozenset[str]) -> bool:
    first, second = ([*words, "", ""])[:2]
    return (first.replace("-", "") in verbs and second not in _NO_VERB) or (first == "come" and second == "up")


def is_english(text: str) -> bool:
    """Whether the words for requests above can be expected in the text."""
    letters = sum(map(str.isalpha, text))
    return letters > 0 and len(_LATIN.findall(text)) >= 0.9 * letters and bool(_ENGLISH.search(text))
