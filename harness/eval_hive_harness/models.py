"""The model object of a child: built once, by lm_eval's own constructor, and as good as new for each leaf."""

from __future__ import annotations

import importlib
import inspect
import ipaddress
import os
import random
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import lm_eval.api.registry
import numpy as np
from lm_eval.api.model import CacheHook
from lm_eval.models.api_models import TemplateAPI

from .engine import fast_model
from .failures import ModelError
from .progress import Meter

_METHODS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
_PLAIN_STATE = (bool, int, float, str, list, dict, set, tuple)


def import_plugins() -> None:
    """
    Imports the modules that EVAL_HIVE_PLUGINS lists (commas between them): what they register with lm_eval's decorators
    (models, metrics, filters) can then be named in a config or a task.
    """
    for name in os.environ.get("EVAL_HIVE_PLUGINS", "").split(","):
        if name.strip():
            importlib.import_module(name.strip())


class SharedModel:
    """One model object for many leaves."""

    def __init__(self, name: str, transport: dict[str, Any]) -> None:
        """`transport`: `base_url_prefix`, `request_timeout_s`, `request_retries` and `engine` of the run request."""
        self._name = name
        self._transport = transport
        self._lm: Any = None
        self._base_url: str | None = None
        self._random_states: dict[str, Any] = {}
        self._first_state: dict[str, Any] = {}
        self._meter: Meter | None = None
        # Kept: lm_eval.api.registry.get_model may stand for this object later.
        self._get_model = lm_eval.api.registry.get_model

    def point_to(self, index: int, meter: Meter, transport: dict[str, Any]) -> None:
        """What follows belongs to this leaf."""
        self._transport = transport
        self._leaf_index = index
        self._meter = meter

    def create_from_arg_obj(self, arg_dict: dict[str, Any], additional_config: dict[str, Any]) -> Any:
        """
        Called by simple_evaluate where it would build its model, after it has seeded the generators. Every leaf finds
        generators and model as the first one did. Raises ModelError.
        """
        if self._lm is None:
            try:
                self._lm = self._build(arg_dict, additional_config)
            except Exception as error:
                raise ModelError from error
            self._random_states = _random_states()
            self._first_state = _plain_state(self._lm)
            self._watch(self._lm)
        _restore_random_states(self._random_states)
        self._lm.__dict__.update({key: _copy(value) for key, value in self._first_state.items()})
        if self._base_url is not None:
            self._lm.base_url = self._leaf_url(self._base_url)
        return self._lm

    def _build(self, model_args: dict[str, Any], additional: dict[str, Any]) -> Any:
        model = self._get_model(self._name)
        if self._transport["engine"] == "fast":
            model = fast_model(model)
        given = dict(model_args)
        if issubclass(model, TemplateAPI):
            given["timeout"] = self._transport["request_timeout_s"]
            given["max_retries"] = self._transport["request_retries"]
            if _default_of(model, "tokenizer_backend") == "auto":
                # "auto" asks the server which tokenizer to use, and the answer can add a BOS token to every prompt.
                given.setdefault("tokenizer_backend", "huggingface")
            if self._transport["base_url_prefix"] is not None and _is_own_server(given.get("base_url")):
                self._base_url = given["base_url"]
                given["base_url"] = self._leaf_url(self._base_url)
        return model.create_from_arg_obj(given, additional)

    def _leaf_url(self, base_url: str) -> str:
        parts = urlsplit(base_url)
        query = f"?{parts.query}" if parts.query else ""
        prefix = self._transport["base_url_prefix"].rstrip("/")
        return f"{prefix}/{self._leaf_index}{parts.path}{query}"

    def _watch(self, lm: Any) -> None:
        """Counts requests and answers on their way through lm_eval."""
        for name in _METHODS:
            if hasattr(lm, name):
                setattr(lm, name, self._counted(lm, name, getattr(lm, name)))
        if hasattr(lm, "_loglikelihood_tokens"):
            lm._loglikelihood_tokens = self._inspected(lm._loglikelihood_tokens)
        lm.watch_encoded = self._inspect

    def _counted(self, lm: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            assert self._meter is not None
            lm.cache_hook = _CountingHook(lm.cache_hook, self._meter)
            with self._meter.answering(name, len(requests)):
                return method(requests, *args, **kwargs)

        return call

    def _inspected(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            self._inspect(requests)
            return method(requests, *args, **kwargs)

        return call

    def _inspect(self, encoded: list[Any]) -> None:
        assert self._meter is not None
        # Of rolling requests the first part is None. An answer that is empty as text is the task's own choice.
        self._meter.empty_continuations += sum(
            1 for texts, _, continuation in encoded if texts and texts[1] and not continuation
        )


class _CountingHook(CacheHook):
    """lm_eval's models report every single answer here, for `--use_cache`."""

    def __init__(self, inner: Any, meter: Meter) -> None:
        super().__init__(None)
        self._inner = inner._inner if isinstance(inner, _CountingHook) else inner
        self._meter = meter

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self._meter.answered(attr)
        # A window of a rolling request has no key; lm_eval's own hook crashes on it.
        if req is not None:
            self._inner.add_partial(attr, req, res)


def _default_of(model: type, parameter: str) -> Any:
    found = inspect.signature(model.__init__).parameters.get(parameter)
    return None if found is None else found.default


def _is_own_server(base_url: Any) -> bool:
    """On this machine, at the port that the server of this unit was given."""
    if not isinstance(base_url, str):
        return False
    try:
        parts = urlsplit(base_url)
        return str(parts.port) == os.environ.get("EH_PORT") and _is_loopback(parts.hostname or "")
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _plain_state(lm: Any) -> dict[str, Any]:
    """What the object remembers in plain values, such as batch sizes found. What is loaded is no plain value and stays."""
    return {
        key: _copy(value) for key, value in vars(lm).items() if isinstance(value, _PLAIN_STATE)
    }


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, (list, dict, set)) else value


def _random_states() -> dict[str, Any]:
    states = {"random": random.getstate(), "numpy": np.random.get_state()}
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["random"])
    np.random.set_state(states["numpy"])
    if "torch" in states:
        sys.modules["torch"].set_rng_state(states["torch"])
    if "cuda" in states:
        sys.modules["torch"].cuda.set_rng_state_all(states["cuda"])
