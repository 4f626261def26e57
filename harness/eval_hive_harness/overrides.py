"""Overrides: what groups lay over a task's own config, as JSON and back, and the leaf id that names them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from typing import Any

import yaml

from .task_yaml import FunctionRef

_FUNCTION = "!function"
_YAML = "!yaml"
_SAFE_NAME_BYTES = 150

_encode_canonically = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, and whole floats as integers, since JSON knows no difference."""
    return _encode_canonically(_plain_numbers(value))


def sha256_of(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def encode_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """As JSON: functions and what JSON can't hold (dates, keys that are no text) become tagged objects."""
    return {key: _encode(value) for key, value in overrides.items()}


def decode_overrides(
    encoded: dict[str, Any], function: Callable[[FunctionRef], Any] = lambda ref: ref
) -> dict[str, Any]:
    """The inverse of `encode_overrides`; `function` says what becomes of a function reference."""
    return {key: _decode(value, function) for key, value in encoded.items()}


def leaf_id(name: str, yaml_path: str, overrides: dict[str, Any]) -> str:
    """The name, plus `~{hash6}` where overrides or unsafe characters make the name alone ambiguous; file-safe."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".-")[:_SAFE_NAME_BYTES] or "task"
    if safe == name and not overrides:
        return name
    directory = os.path.dirname(yaml_path)
    return f"{safe}~{sha256_of([name, _relative(overrides, directory)])[:6]}"


def _encode(value: Any) -> Any:
    if isinstance(value, FunctionRef):
        return {_FUNCTION: value.spec, "directory": value.directory}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    return value if is_json_scalar(value) else {_YAML: yaml.safe_dump(value)}


def is_json_scalar(value: Any) -> bool:
    """False for numbers that are not finite: JSON has no word for them."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, bool, int))


def _decode(value: Any, function: Callable[[FunctionRef], Any]) -> Any:
    if isinstance(value, list):
        return [_decode(item, function) for item in value]
    if not isinstance(value, dict):
        return value
    if _FUNCTION in value:
        return function(FunctionRef(value[_FUNCTION], value["directory"]))
    if _YAML in value:
        return yaml.safe_load(value[_YAML])
    return {key: _decode(item, function) for key, item in value.items()}


def _relative(value: Any, directory: str) -> Any:
    """Without absolute paths, so that a suite keeps its ids when its folder moves."""
    if isinstance(value, FunctionRef):
        return {_FUNCTION: value.spec, "directory": os.path.relpath(value.directory, directory)}
    if isinstance(value, dict):
        return {str(key): _relative(item, directory) for key, item in value.items()}
    if isinstance(value, list):
        return [_relative(item, directory) for item in value]
    return _encode(value)


def _plain_numbers(value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_numbers(item) for item in value]
    return value
