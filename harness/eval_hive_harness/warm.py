"""
What every leaf would do for the first time in its child, done once before the fork: what it leaves in caches. It reads
no task, encodes no text and starts no thread. Without it, all is as with it, only later: each step may fail.
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable
from functools import partial

# What data sets and tokenizers import at their first use; each if it is there.
_IMPORTED_LATER = ("scipy.io", "multiprocessing.synchronize", "transformers.tokenization_python")
# The formats in which local data and the data sets of the Hub mostly come.
_FORMATS = ("json", "parquet")


def warm_up() -> list[str]:
    """What could not be done, and why."""
    steps: tuple[Callable[[], None], ...] = (
        *(partial(_import, name) for name in _IMPORTED_LATER),
        *(_parser, _fingerprints, _versions, _templates, _data_sets, _tokenizers),
    )
    failures = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 libraries that do not fit each other raise anything
            failures.append(f"{step}: {error!r}")
    return failures


def _import(name: str) -> None:
    importlib.import_module(name)


def _parser() -> None:
    from .command_line import read_arguments

    evaluation = {"model_args": {}, "lm_eval_args": {"model": "local-completions", "log_samples": True}}
    read_arguments(evaluation, {}, "results")


def _fingerprints() -> None:
    from .fingerprint import evaluation_inputs

    evaluation_inputs({"model_args": {"model": "model"}, "lm_eval_args": {"model": "local-completions"}})


def _versions() -> None:
    import lm_eval.loggers.utils

    lm_eval.loggers.utils.version("lm_eval")


def _templates() -> None:
    import lm_eval.utils

    lm_eval.utils.env.from_string("{{text}}").render(text="")


def _data_sets() -> None:
    """`datasets` lays its own functions over those that a format's module calls: 20 ms. A child only adds its token."""
    from datasets import DownloadConfig
    from datasets.streaming import extend_module_for_streaming

    for name in _FORMATS:
        module = f"datasets.packaged_modules.{name}.{name}"
        extend_module_for_streaming(module, download_config=DownloadConfig())


def _tokenizers() -> None:
    """Patterns of model names, compiled at the first tokenizer."""
    from transformers.models.auto import tokenization_auto

    for pattern in tokenization_auto.MODEL_IDS_TO_TOKENIZERS_BACKEND:
        fnmatch.fnmatch("", pattern)
