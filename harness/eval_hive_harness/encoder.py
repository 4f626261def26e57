"""Token ids of many texts at once, where it is known that lm_eval gets the same for one text at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from . import seams

# Whatever a tokenizer does to a text, it does in these; a class that has one of its own may do anything.
_METHODS = (
    "__call__",
    "_call_one",
    "_encode_plus",
    "_batch_encode_plus",
    "_convert_encoding",
    "_get_padding_truncation_strategies",
    "set_truncation_and_padding",
    "_switch_to_input_mode",
)
# About 10 MB of ids.
_KNOWN_PIECES = 4096

Pair = tuple[str, str]
EncodedPair = tuple[list[int], list[int]]


def open_encoder(lm: Any) -> Encoder | None:
    """For a model object whose tokenizer is one of Hugging Face's fast ones, as it comes; None for any other."""
    tokenizer = lm.tokenizer
    if lm.tokenizer_backend != "huggingface" or lm.backend != "causal":
        return None
    if getattr(tokenizer, "is_fast", False) is not True or set(_METHODS) & vars(tokenizer).keys():
        return None
    if not all(_is_of_transformers(getattr(type(tokenizer), name, None)) for name in _METHODS):
        return None
    if not _is_deterministic(tokenizer.backend_tokenizer.model):
        return None
    # The first call puts the tokenizer into the state in which the others find it.
    lm.tok_encode("a")
    seamed = not lm.add_bos_token and seams.has_seams(tokenizer)
    return SeamEncoder(lm) if seamed else Encoder(lm)


class Encoder:
    """Encodes each text once."""

    def __init__(self, lm: Any) -> None:
        self._lm = lm

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self._lm.tok_encode(texts) if texts else []

    def encode_pairs(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """Contexts and continuations; what belongs to which is lm_eval's rule (api/model.py, loglikelihood)."""
        cut = [self._cut(*pair) for pair in pairs]
        texts = list(dict.fromkeys(text for parts in cut for text in parts if text is not None))
        ids = dict(zip(texts, self.encode(texts), strict=True))
        encoded = []
        for (context, _), (head, rest, whole) in zip(pairs, cut, strict=True):
            if context == "":
                encoded.append(self._after_prefix(ids[whole]))
            else:
                common = [] if head is None else ids[head]
                encoded.append((common + ids[rest], ids[whole][len(ids[rest]) :]))
        return encoded

    def _cut(self, context: str, continuation: str) -> tuple[str | None, str, str]:
        """What is encoded once for both, if anything; the rest of the context; the rest of context and continuation."""
        # Blanks at the context's end belong to the continuation.
        return None, context.rstrip(), context + continuation

    def _after_prefix(self, continuation: list[int]) -> EncodedPair:
        prefix = self._lm.prefix_token_id
        if prefix == continuation[0]:
            return continuation[:1], continuation[1:]
        return [prefix], continuation


class SeamEncoder(Encoder):
    """Encodes each piece between seams once: for tokenizers that have them, and without special tokens."""

    def __init__(self, lm: Any) -> None:
        super().__init__(lm)
        self._backend = lm.tokenizer.backend_tokenizer
        self._known: dict[str, list[int]] = {}

    def encode(self, texts: list[str]) -> list[list[int]]:
        if len(self._known) > _KNOWN_PIECES:
            self._known.clear()
        cut = [seams.cut_at_seams(text) for text in texts]
        new = list({piece: None for pieces in cut for piece in pieces if piece not in self._known})
        encodings = self._backend.encode_batch_fast(new, add_special_tokens=False)
        self._known.update(zip(new, (encoding.ids for encoding in encodings), strict=True))
        return [[*chain.from_iterable(self._known[piece] for piece in pieces)] for pieces in cut]

    def _cut(self, context: str, continuation: str) -> tuple[str | None, str, str]:
        seam = seams.last_seam(context)
        return context[:seam] or None, context[seam:].rstrip(), context[seam:] + continuation


def _is_deterministic(model: Any) -> bool:
    """BPE may drop merges, Unigram may sample."""
    return getattr(model, "dropout", None) is None and getattr(model, "alpha", None) is None


def _is_of_transformers(method: Any) -> bool:
    return method is None or method.__module__.startswith("transformers.tokenization_utils")
