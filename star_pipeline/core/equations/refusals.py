"""How models refuse, in the first words of a reply."""

import re

_SORRY = (
    r"(?:(?:i['’]?\s?a?m|we['’]?\s?a?re)\s+(?:very |really |so |deeply |truly )?(?:sorry|afraid)"
    r"|i apologi[sz]e|(?:my )?apologies|(?:sorry|unfortunately|regrettably)\b)"
)
_CANNOT = (
    r"\bi(?:['’]m| am)?\s+(?:(?:do|am|was|can)?\s?(?:not|n['’]t)\s+"
    r"(?:able|allowed|permitted|programmed|comfortable|capable)|cannot|can\s?not|can['’]t|won['’]t|will not|unable|"
    r"do(?:n['’]t| not) (?:have(?! (?:\w+ ){0,2}(?:opinion|preference|feeling|emotion|thought|belief|experience))|"
    r"feel comfortable|understand|possess|think i can)|must (?:decline|refuse))\b"
)
_SELF = r"\bas an? (?:ai|artificial intelligence|large language model|language model|virtual assistant|text-based)\b"
_ABLE = (
    r"(?:help (?:you|with|in)|assist|fulfil|fulfill|comply|provide|generate|answer|create|write|do that|complete|"
    r"process|support|engage|give|access|produce|respond|offer|discuss|continue|perform)"
)
_MISSING = (
    r"(?:there (?:is|was) no\b|(?:you|the) [^.\n]{0,60}(?:did(?:n['’]t| not)|ha(?:ve|s)(?:n['’]t| not)) "
    r"|no (?:\w+ ){0,3}(?:was|is|were) (?:provided|given|specified|mentioned))"
)
_ENGLISH = re.compile(
    rf"\A\W*(?:{_SORRY}[\s,.;:!-]+(?:but\s+)?(?:{_SELF}[^.!?\n]{{0,60}}?)?[^.!?\n]{{0,60}}?{_CANNOT}"
    rf"|{_SORRY}[^\n]{{0,80}}?{_SELF}[^.!?\n]{{0,120}}?{_CANNOT}"
    rf"|{_SELF}[^.!?\n]{{0,160}}?{_CANNOT}"
    rf"|i (?:can['’]?t|can ?not|won['’]t|am unable to|['’]?m unable to|am not able to) {_ABLE}\b"
    rf"|{_SORRY}[\s,.;:!-]+(?:but\s+)?{_MISSING})",
    re.IGNORECASE,
)
_OTHERS = (
    r"(?:很?抱歉|对不起|非常抱歉|不好意思|對不起)[，,。！!\s]*(?:但是?|作为[^。，,]{0,20}[，,])?[^。\n]{0,26}?(?:无法|不能|不可以|無法|没有办法|没法)",
    r"(?:作为|作為|我是)一?[个個名款]?[^。，,]{0,8}(?:AI|人工智能|人工智慧|语言模型|語言模型)[^。\n]{0,30}(?:无法|不能|無法|没有)",
    r"es tut mir (?:sehr )?leid,? (?:aber |dass )?(?:ich|das)\b[^.\n]{0,80}\b(?:nicht|keine?n?|unmöglich)\b",
    r"als (?:ki|künstliche intelligenz|sprachmodell)\b[^.\n]{0,80}(?:nicht|keine)",
    r"(?:je suis (?:vraiment )?désolée?|désolée?)[\s,.]*(?:mais )?[^.\n]{0,30}je (?:ne (?:peux|suis|puis)|n['’]ai) (?:pas|aucun)",
    r"en tant qu['’](?:ia|intelligence artificielle|un modèle)[^.\n]{0,80}\bje ne\b",
    r"(?:lo siento|lamento)[\s,.]*(?:mucho[, ]*)?(?:pero )?[^.\n]{0,20}\bno (?:puedo|es posible|tengo|estoy)\b",
    r"como (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)[^.\n]{0,60}\bno (?:puedo|tengo)\b",
    r"mi dispiace[\s,.]*(?:ma )?[^.\n]{0,20}\bnon (?:posso|sono|ho)\b",
    r"(?:desculpe|sinto muito|lamento)[\s,.]*(?:mas )?[^.\n]{0,20}\bnão (?:posso|consigo|tenho)\b",
    r"(?:извините|простите|к сожалению)[\s,.]*(?:но )?[^.\n]{0,20}\bя не (?:могу|умею|имею)",
    r"(?:申し訳(?:ありません|ございません)|すみません|ごめんなさい)[^。\n]{0,40}(?:できません|できかねます|わかりません)",
    r"죄송(?:합니다|하지만)[^.\n]{0,40}(?:수 없습니다|수 없어요|못합니다)",
)
_OTHER_LANGUAGES = re.compile(rf"\A\W*(?:{'|'.join(_OTHERS)})", re.IGNORECASE)


def refuses(text: str) -> bool:
    """Whether the text begins as models begin that do not do what they were asked."""
    start = text[:400]
    return bool(_ENGLISH.match(start) or _OTHER_LANGUAGES.match(start))
