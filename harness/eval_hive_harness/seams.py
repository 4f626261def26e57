"""
Seams: places where a text can be cut so that its parts, encoded alone, give the ids of the whole. Most of what lm_eval encodes
it has encoded before (a context again with each answer, the few-shot examples again with each document), and seams
tell which part that is.

A seam lies between an ASCII letter and a blank with another letter behind it. Tokenizers of the kinds below first divide a text by
regular expressions. None of their alternatives matches a letter with a blank behind it, so the match that holds the letter
ends at the seam and the next one begins there; nothing looks back, and the one thing that looks ahead, `\\s+(?!\\S)`, sees
blanks only. What is divided is then encoded each for itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any

_SEAM = re.compile("[A-Za-z](?= [A-Za-z])")
# Shorter pieces cost more calls than they save.
_PIECE_CHARACTERS = 256

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# By whose tokenizer uses it first; GPT-2's own is part of ByteLevel.
_WORD_PATTERNS = {
    "cl100k": rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1,3}}|{_SIGNS[0]}|{_BLANKS}",
    "qwen2": rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}|{_SIGNS[0]}|{_BLANKS}",
    "o200k": rf"{_CASED[0]}{_CONTRACTIONS}?|{_CASED[1]}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_SIGNS[1]}|{_BLANKS}",
    "tekken": rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_SIGNS[1]}|{_BLANKS}",
}
# These divide further, and at nothing but digits.
_NUMBER_PATTERNS = (r"\p{N}", r"\p{N}{1,3}")


@lru_cache(maxsize=4)
def has_seams(tokenizer: Any) -> bool:
    """Whether this fast tokenizer is known to encode the parts on both sides of a seam for themselves."""
    backend = tokenizer.backend_tokenizer
    steps = _flat(_state(backend.pre_tokenizer), "pretokenizers")
    return (
        type(backend.model).__name__ == "BPE"
        and backend.truncation is None
        and backend.padding is None
        and _flat(_state(backend.normalizer), "normalizers") in ([], [{"type": "NFC"}])
        and all(_divides_words(step) or _divides_numbers(step) or _is_byte_level(step) for step in steps)
        and any(_divides_words(step) for step in steps)
        and not any(map(_may_span_a_seam, backend.get_added_tokens_decoder().values()))
    )


def last_seam(text: str) -> int:
    """Where the last one is; 0 if there is none."""
    blank = text.rfind(" ")
    while blank > 0 and not _SEAM.match(text, blank - 1):
        blank = text.rfind(" ", 0, blank)
    return max(blank, 0)


def cut_at_seams(text: str) -> list[str]:
    """The text in pieces of some size; equal beginnings give equal pieces."""
    pieces, start = [], 0
    while seam := _SEAM.search(text, start + _PIECE_CHARACTERS):
        pieces.append(text[start : seam.end()])
        start = seam.end()
    return [*pieces, text[start:]]


def _state(component: Any) -> Any:
    return None if component is None else json.loads(component.__getstate__())


def _flat(state: Any, members: str) -> list[Any]:
    if state is None:
        return []
    return state[members] if state["type"] == "Sequence" else [state]


def _divides_words(step: dict[str, Any]) -> bool:
    return _isolates(step, _WORD_PATTERNS.values()) or (_is_byte_level(step) and step["use_regex"])


def _divides_numbers(step: dict[str, Any]) -> bool:
    return step["type"] == "Digits" or _isolates(step, _NUMBER_PATTERNS)


def _isolates(step: dict[str, Any], patterns: Collection[str]) -> bool:
    return (
        step["type"] == "Split"
        and step["pattern"].get("Regex") in patterns
        and step["behavior"] == "Isolated"
        and not step["invert"]
    )


def _is_byte_level(step: dict[str, Any]) -> bool:
    return step["type"] == "ByteLevel" and not step["add_prefix_space"]


def _may_span_a_seam(token: Any) -> bool:
    """Tokens that are found in the text before anything divides it."""
    looks_around = token.lstrip or token.rstrip or token.single_word
    return looks_around or re.search("[A-Za-z] | [A-Za-z]", token.content) is not None
