"""Task templates, compiled once each: lm_eval compiles them again for every document, longer than it takes to encode it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import lm_eval.utils

# A leaf has a handful; some make one of each document.
_KEPT = 256


@contextmanager
def compiled_once() -> Iterator[None]:
    """While a leaf is evaluated. A template is what it was compiled from; all that it renders is given to it each time."""
    environment = lm_eval.utils.env
    compile_template = environment.from_string
    compiled = lru_cache(_KEPT)(compile_template)

    def from_string(source: Any, *args: Any, **options: Any) -> Any:
        is_plain = type(source) is str and not args and not options
        return compiled(source) if is_plain else compile_template(source, *args, **options)

    # Over the method of its class.
    environment.from_string = from_string
    try:
        yield
    finally:
        del environment.from_string
