"""Whether lm_eval's code is the code that our own stands in for."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.api_models import TemplateAPI
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.models.utils import Collator, chunks

# Digests of what the engine replaces and calls, in the versions in which requests and scores were compared.
_KNOWN = {
    "b4a41cc2d52fdde9": "0.4.12",
    "1d3ae29e9c471ebe": "0.4.13",
}


@cache
def is_known(model: type) -> bool:
    """For lm_eval's own completions model, in a version that we know, with nothing changed by a plugin."""
    return model is LocalCompletionsAPI and _digest() in _KNOWN


def _digest() -> str:
    sources = "".join(inspect.getsource(part) for part in _parts())
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def _parts() -> list[Any]:
    return [
        TemplateLM.loglikelihood,
        TemplateLM._encode_pair,
        TemplateAPI.tok_encode,
        TemplateAPI.prefix_token_id.func,
        TemplateAPI.create_message,
        TemplateAPI.amodel_call,
        TemplateAPI.batch_loglikelihood_requests,
        TemplateAPI.get_batched_requests,
        TemplateAPI._loglikelihood_tokens,
        TemplateAPI.generate_until,
        TemplateAPI.loglikelihood_rolling,
        Collator,
        chunks,
        utils.get_rolling_token_windows,
        utils.make_disjoint_window,
    ]
