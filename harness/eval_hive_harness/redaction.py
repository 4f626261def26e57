"""
Keeps out of messages and logs what is nobody's business: the balancer's address, which only the child may know, and the
keys that requests carry. Libraries print both when a request fails.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from typing import Any
from urllib.parse import urlsplit

_NAMES_OF_SECRETS = re.compile(r"(TOKEN|API_KEY|ACCESS_KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_ARGUMENTS_WITH_SECRETS = ("header", "headers", "auth_token", "api_key")
# Shorter values are found in ordinary words.
_SHORTEST_SECRET = 8

_replacements: list[tuple[str, str]] = []


def learn_secrets(request: dict[str, Any]) -> None:
    """Takes note of all that the texts about this request must not hold."""
    found: dict[str, str] = {}
    for name, value in {**os.environ, **request["env"]}.items():
        if _NAMES_OF_SECRETS.search(name):
            found[value] = "<secret>"
    arguments = request["evaluation"]["model_args"]
    for value in _texts([arguments.get(name) for name in _ARGUMENTS_WITH_SECRETS]):
        found[value] = "<secret>"
    if (prefix := request["base_url_prefix"]) is not None:
        # Some tell the path alone.
        found |= {prefix: "<balancer>", urlsplit(prefix).path: "<balancer>"}
    long_enough = {text: mark for text, mark in found.items() if len(text) >= _SHORTEST_SECRET}
    _replacements[:] = sorted(long_enough.items(), key=lambda item: -len(item[0]))


def redacted(text: str) -> str:
    for secret, mark in _replacements:
        text = text.replace(secret, mark)
    return text


def redact_logs() -> None:
    """From now on, whoever logs."""
    make = logging.getLogRecordFactory()

    def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            record.msg, record.args = redacted(record.getMessage()), ()
            if record.exc_info:
                # Formatters take what is there.
                record.exc_text = redacted("".join(traceback.format_exception(*record.exc_info)))
        except Exception:  # noqa: BLE001 a message that can't be printed is the handler's to tell
            pass
        return record

    logging.setLogRecordFactory(make_redacted)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return _texts(list(value.values()))
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []
