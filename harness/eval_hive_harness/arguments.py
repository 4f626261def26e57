"""`eval.lm_eval_args` as lm_eval's command line would understand them, whatever YAML type they came as."""

from __future__ import annotations

import ast
import json
from typing import Any

DEFAULT_SEEDS = (0, 1234, 1234, 1234)


def parse_value(value: Any) -> Any:
    """Text as lm_eval reads a value of `k=v`: booleans, numbers, Python literals; all else as it is."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for parse in (int, float, ast.literal_eval):
        try:
            return parse(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value


def parse_mapping(value: Any) -> dict[str, Any]:
    """`k=v,k=v`, a JSON object, or a mapping already."""
    if value is None or value is False or value == "":
        return {}
    if isinstance(value, dict):
        return {key: parse_value(item) for key, item in value.items()}
    text = str(value)
    if text.lstrip().startswith("{"):
        return json.loads(text)
    pairs = (item.split("=", 1) for item in _split_top_level(text))
    return {pair[0]: parse_value(pair[1]) for pair in pairs if len(pair) == 2}


def parse_seeds(value: Any) -> list[int | None]:
    """Seeds of random, numpy, torch and few-shot sampling, by lm_eval's rules for one, three or four values."""
    if value is None or value is False:
        return list(DEFAULT_SEEDS)
    items = value if isinstance(value, list) else str(value).split(",")
    seeds = [None if str(item).strip().lower() == "none" else int(item) for item in items]
    if len(seeds) == 1:
        return seeds * 4
    return seeds + list(DEFAULT_SEEDS[len(seeds) :])


def parse_num_fewshot(value: Any) -> int | None:
    return None if value is None or value is False else int(value)


def effective_num_fewshot(own: Any, given: int | None) -> int:
    """lm_eval's rule: `--num_fewshot` counts unless the task's config says 0 (evaluator.py, simple_evaluate)."""
    own = parse_value(own)
    if given is not None and own != 0:
        return given
    return int(own) if own is not None else 0


def _split_top_level(text: str) -> list[str]:
    """Split at commas outside of brackets and quotes, as lm_eval does from 0.4.13 on."""
    parts, part, depth, quote = [], "", 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth = max(depth - 1, 0)
        elif char == "," and depth == 0:
            parts.append(part)
            part = ""
            continue
        part += char
    return [item for item in (*parts, part) if item]
