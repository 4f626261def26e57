"""The evaluation arguments of a config, understood by lm_eval's own command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lm_eval._cli.harness import HarnessCLI
from lm_eval._cli.utils import handle_cli_value_string
from lm_eval.config.evaluate_config import EvaluatorConfig

_PLACEHOLDER = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")


class ArgumentsError(ValueError):
    """The evaluation arguments can't be used; says which and why."""


def read_arguments(
    evaluation: dict[str, Any], environment: Mapping[str, str], output_dir: str
) -> EvaluatorConfig:
    """
    What `lm_eval run` makes of these arguments, with `${NAME}` and `$NAME` filled in. Raises ArgumentsError.

    `true` is a bare flag, false and null are left out. Text that looks like a number becomes one; lists and mappings stay
    what they are.
    """
    model_args = {
        key: _as_lm_eval_reads(_expand(value, environment, f"model_args.{key}"))
        for key, value in evaluation["model_args"].items()
    }
    argv = ["run", "--tasks", "leaf", f"--output_path={output_dir}"]
    for key, value in evaluation["lm_eval_args"].items():
        argv += _as_flag(key, _expand(value, environment, f"lm_eval_args.{key}"))
    namespace = _parse(argv)
    namespace.model_args = model_args
    try:
        return EvaluatorConfig.from_cli(namespace)
    except (TypeError, ValueError) as error:
        raise ArgumentsError(f"lm_eval refuses these lm_eval_args: {error}") from error


def _as_lm_eval_reads(value: Any) -> Any:
    """A value of `--model_args key=value`; the original printed scalars with Python's str()."""
    return value if isinstance(value, (dict, list)) else handle_cli_value_string(str(value))


def _as_flag(key: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{key}"]
    if isinstance(value, dict):
        return [f"--{key}={json.dumps(value)}"]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [f"--{key}", *value]
    if isinstance(value, list):
        return [f"--{key}={','.join(map(str, value))}"]
    return [f"--{key}={value}"]


@lru_cache(maxsize=1)
def _parser() -> argparse.ArgumentParser:
    return HarnessCLI()._parser


def _parse(argv: list[str]) -> argparse.Namespace:
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return _parser().parse_args(argv)
    except SystemExit:
        reason = complaint.getvalue().strip().rpartition("error: ")[2]
        raise ArgumentsError(f"lm_eval refuses these lm_eval_args: {reason}") from None
    except ValueError as error:
        raise ArgumentsError(f"lm_eval refuses these lm_eval_args: {error}") from error


def _expand(value: Any, environment: Mapping[str, str], place: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, environment, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, environment, f"{place}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in environment:
            raise ArgumentsError(f'{place} names "{match[0]}", and {name} is not set')
        return environment[name]

    return _PLACEHOLDER.sub(fill, value)
