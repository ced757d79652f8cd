"""What a narration says: who does what to which thing, by rules on short English sentences.

Understands tagged narrations (`#C C picks a cup`), plain sentences (`The person picks up a cup`)
and orders (`pick up the cup`). Of several actions in one sentence the first manipulation counts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ego_ops.corpora import nouns, verbs

TAG = re.compile(r"#\s*([a-z]\w*)", re.IGNORECASE)
TOKEN = re.compile(r"[a-z][a-z'\u2019-]*|\d+|[,;.&:/]")
CLAUSE = nouns.words(", ; . & and then while before after as")
AUXILIARY = nouns.words("is are was were am has have had does do did can will about")
ADVERB = nouns.words("then also again now just still once slightly together carefully both")
NO_ADVERB = nouns.words("apply fly supply reply multiply jelly belly lily doily trolley")
TO_HAND = re.compile(
    r"\b(?:to|into|in|onto|between|across)\s+(?:(?:his|her|their|the|its|my|c's|both|other)\s+)*"
    r"(?:(?:left|right|other|opposite|second|both|two)\s+)?(?:hands?|palms?)\b"
)
GIVES_HAND = nouns.words(
    "transfer pass switch shift move change swap exchange interchange put place hand give"
)
STATIC = nouns.words("hold carry wear keep")
"""Verbs that are no manipulation beside another action: `walks while holding a cup`."""
COMMON_TAGS = {"c": "", "o": "other_person", "unsure": "unsure", "summary": "summary"}


class Sentence(NamedTuple):
    """What a narration says."""

    reason: str
    """Why it is no candidate; empty where it is one."""
    text: str
    """The sentence without tags and surplus blanks."""
    verb: str = ""
    """Base form with its particle: `pick up`."""
    object: str = ""
    """The thing with its adjectives, without articles and owners: `small bowl`."""


@lru_cache(1 << 16)
def parse(text: str) -> Sentence:
    """What `text` says. Reasons: `other_person`, `unsure`, `summary`, `moves_about`, `looks`,
    `talks`, `own_body` (gestures, touching oneself), `hand_to_hand`, `no_object`,
    `no_manipulation` (any other verb, an unknown one, people and animals)."""
    tags = [tag.lower() for tag in TAG.findall(text)] if "#" in text else []
    plain = " ".join((TAG.sub(" ", text) if tags else text).split())
    reason = _tagged(tags)
    if reason:
        return Sentence(reason, plain)
    words = TOKEN.findall(plain.lower().replace("\u2019", "'"))
    start = _predicate(words)
    if start is None:
        return Sentence("other_person", plain)
    first: Sentence | None = None
    for clause in _clauses(words[start:]):
        found = _clause(clause, plain)
        if found is not None and not found.reason and not (first and found.verb in STATIC):
            return found
        first = first or found
    return first or Sentence("no_manipulation", plain)


def _tagged(tags: list[str]) -> str:
    if any(tag.startswith("unsur") for tag in tags):
        return "unsure"
    return next((COMMON_TAGS[tag] for tag in tags if tag in COMMON_TAGS), "")


def _predicate(words: list[str]) -> int | None:
    """Where the verb may start, after the subject; None if that is somebody else."""
    at = 0
    while at < len(words) and (
        (words[at] in nouns.DETERMINERS and words[at] not in ("c's",))
        or words[at] in ("camera", "video", "left", "right", "c's")
    ):
        at += 1
    if at < len(words) and (words[at] in nouns.PEOPLE or {"another", "other"} & {*words[:at]}):
        return None
    if at < len(words) and words[at] in nouns.WEARER and not _is_verb(words, at):
        return at + 1
    return 0 if at == 0 or words[0] in ("left", "right") else at


def _is_verb(words: list[str], at: int) -> bool:
    """Whether `hand` is the order `hand the cup over`, not the subject of `hand picks a cup`."""
    return words[at] in ("hand", "hands") and not (
        at + 1 < len(words) and words[at + 1] in verbs.BASE
    )


def _clauses(words: list[str]) -> list[list[str]]:
    clauses: list[list[str]] = [[]]
    for word in words:
        if word in CLAUSE:
            clauses.append([])
        else:
            clauses[-1].append(word)
    return [clause for clause in clauses if clause]


def _clause(words: list[str], text: str) -> Sentence | None:
    """What one clause says; None if it holds no known verb where one should be."""
    at = _skip(words, 0)
    if at < len(words) and words[at] == "c":
        at = _skip(words, at + 1)
    verb = verbs.BASE.get(words[at]) if at < len(words) else None
    while verb in verbs.LIGHT:
        following = _skip(words, at + 1)
        following += following < len(words) and words[following] == "to"
        inner = words[following] if following < len(words) else ""
        if inner not in verbs.BASE or (verb == "keep" and not inner.endswith("ing")):
            break
        at, verb = following, verbs.BASE[inner]
    if verb == "use":
        at, verb = _purpose(words, at)
    if verb is None:
        return None
    return _action(verb, words[at + 1 :], text)


def _skip(words: list[str], at: int) -> int:
    """Past adverbs and auxiliary verbs."""
    while at < len(words) - 1 and (
        words[at] in ADVERB
        or (words[at].endswith("ly") and words[at] not in NO_ADVERB)
        or (words[at] in AUXILIARY and words[at + 1] in verbs.BASE)
    ):
        at += 1
    return at


def _purpose(words: list[str], at: int) -> tuple[int, str]:
    """What something is used for (`uses a knife to cut the carrot`), else `use` itself."""
    for i in range(at + 1, len(words) - 1):
        base = verbs.BASE.get(words[i + 1])
        if words[i] == "to" and base == words[i + 1] and not verbs.KIND.get(base, "x"):
            return i + 1, base
    return at, "use"


def _action(verb: str, rest: list[str], text: str) -> Sentence:
    reason = verbs.KIND.get(verb, "no_manipulation")
    if reason:
        body = reason == "no_manipulation" and _own_body(_phrase(rest)[0])
        return Sentence("own_body" if body else reason, text, verb)
    if verb in GIVES_HAND and TO_HAND.search(" ".join(rest)):
        return Sentence("hand_to_hand", text, verb)
    if rest and (verb, rest[0]) in verbs.PHRASAL:
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    thing, after = _phrase(rest)
    if (
        " " not in verb
        and after
        and (verb, after[0]) in verbs.PHRASAL
        and after[0] in ("up", "down")
    ):
        verb = f"{verb} {after[0]}"
    if _own_body(thing):
        return Sentence("own_body", text, verb)
    if verb.split()[0] in verbs.DIRECTED and (not thing or set(thing) <= nouns.DIRECTIONS):
        return Sentence("moves_about", text, verb)
    onto = verb == "put on" and thing[-1:] and thing[-1] not in nouns.WORN
    if not thing or onto or thing[-1] in nouns.UNNAMED:
        return Sentence("no_object", text, verb)
    if thing[-1] in nouns.PEOPLE or thing[-1] in nouns.ANIMALS or thing[0] in nouns.PEOPLE:
        return Sentence("no_manipulation", text, verb)
    return Sentence("", text, verb, " ".join(thing))


def _own_body(thing: list[str]) -> bool:
    return bool(thing) and thing[-1] in nouns.BODY and set(thing[:-1]) <= nouns.OF_BODY


def _phrase(words: list[str]) -> tuple[list[str], list[str]]:
    """The first noun phrase, without articles and owners, and what follows it."""
    at = 0
    while at < len(words) and words[at] in nouns.DETERMINERS:
        at += 1
    start = at
    while at < len(words) and words[at] not in nouns.ENDS_PHRASE and words[at] not in CLAUSE:
        at += 1
    thing = [word.removesuffix("'s") for word in words[start:at] if not _noise(word)]
    if len(thing) > 1 and thing[-1] in nouns.RESULTS:
        thing.pop()
    if thing and at + 1 < len(words) and words[at] == "of" and thing[-1] in nouns.MEASURES:
        inner, after = _phrase(words[at + 1 :])
        if inner:
            return inner, after
    return thing, words[at:]


def _noise(word: str) -> bool:
    return (
        word in nouns.DETERMINERS
        or word.isdigit()
        or (word.endswith("ly") and word not in NO_ADVERB)
        or (word.endswith("'s") and word[:-2] in nouns.PEOPLE)
    )
