"""
lm_eval's completions model without its pauses: the same requests, byte for byte, but encoded in batches, sent while others
are still encoded, and all documents and groups at once. Where it is not known that the requests are the same, lm_eval's own
code makes them.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import aclosing
from itertools import chain
from types import SimpleNamespace
from typing import Any

from lm_eval import utils
from lm_eval.models.utils import Collator, chunks

from . import known_code
from .encoder import Encoder, open_encoder
from .sending import Sending, ahead

# Texts that are encoded in one go while earlier ones are under way.
_PART = 32
# So many requests of a call are encoded by lm_eval's code too, and compared.
_PROBES = 4

_logger = logging.getLogger(__name__)


def fast_model(model: type) -> type:
    """The model class with our methods before its own; the class itself if it is not one that we know."""
    if not known_code.is_known(model):
        return model
    return type(f"Fast{model.__name__}", (_Engine, model), {"__module__": __name__})


class _Engine:
    """Lies over LocalCompletionsAPI. With num_concurrent <= 1 lm_eval sends other stop texts: that stays its own."""

    # Is shown the requests of `loglikelihood` as they are encoded.
    watch_encoded: Callable[[list[Any]], None] = staticmethod(lambda _requests: None)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        pairs = [request.args for request in requests]
        encoder = self._encoder(pairs, 2)
        if encoder is None:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        if self._batch_size == 1:
            return asyncio.run(self._score(encoder, pairs))
        # What shares a request depends on all lengths.
        encoded = [(pair, *ids) for pair, ids in zip(pairs, encoder.encode_pairs(pairs), strict=True)]
        return self._loglikelihood_tokens(encoded, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        encoder = self._encoder([request.args for request in requests], 1)
        if encoder is None:
            return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        return asyncio.run(self._roll(encoder, [request.args[0] for request in requests]))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        encoder = self._encoder([request.args[:1] for request in requests], 1)
        plain = encoder is None or not self.tokenized_requests
        if plain or any(len(request.args) != 2 for request in requests):
            return super().generate_until(requests, disable_tqdm=disable_tqdm)
        return asyncio.run(self._generate(encoder, [request.args for request in requests]))

    async def get_batched_requests(
        self,
        requests: list[Any],
        cache_keys: list[Any],
        *,
        generate: bool = True,
        ctxlens: list[int] | None = None,
        **kwargs: Any,
    ) -> list[list[Any]]:
        columns = (requests, cache_keys, ctxlens or [None] * len(requests))
        batches = list(zip(*(chunks(column, n=self._batch_size) for column in columns), strict=True))
        async with Sending(self, len(batches)) as sending:
            started = [
                await sending.start(
                    messages=messages, cache_keys=keys, ctxlens=lengths, generate=generate, **kwargs
                )
                for messages, keys, lengths in batches
            ]
            return await asyncio.gather(*started)

    async def _score(self, encoder: Encoder, pairs: list[tuple[str, str]]) -> list[tuple[float, bool]]:
        """At batch size 1 a request does not depend on the others, so it is sent as soon as it is encoded."""
        # As lm_eval does, though it counts tokens: the long ones first, those of one context together.
        order = sorted(range(len(pairs)), key=lambda at: -len(pairs[at][0]))
        async with Sending(self, len(pairs)) as sending:
            started = []
            encoded = ahead(lambda part: encoder.encode_pairs([pairs[at] for at in part]), self._parts(order))
            async with aclosing(encoded):
                async for part, ids in encoded:
                    ready = [(pairs[at], *both) for at, both in zip(part, ids, strict=True)]
                    self.watch_encoded(ready)
                    started += [await sending.start(**self._scoring([one])) for one in ready]
            answers = chain.from_iterable(await asyncio.gather(*started))
        found = dict(zip(order, answers, strict=True))
        return [found[at] for at in range(len(pairs))]

    async def _roll(self, encoder: Encoder, texts: list[str]) -> list[float]:
        async with Sending(self, None) as sending:
            documents = []
            encoded = ahead(encoder.encode, self._parts(texts))
            async with aclosing(encoded):
                async for part, ids in encoded:
                    for text, tokens in zip(part, ids, strict=True):
                        documents.append(await self._start_document(sending, text, tokens))
            return await asyncio.gather(*documents)

    async def _start_document(self, sending: Sending, text: str, tokens: list[int]) -> asyncio.Task[float]:
        """Requests hold windows of one document only; how they are chosen is lm_eval's (loglikelihood_rolling)."""
        windows = utils.get_rolling_token_windows(
            token_list=tokens,
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length - 1,
            context_len=1,
        )
        collator = Collator(
            [(None, *utils.make_disjoint_window(window)) for window in windows],
            sort_fn=lambda window: (-len(window[1] + window[2]), tuple(window[1] + window[2])),
        )
        batches = collator.get_batched(n=self._batch_size)
        started = [await sending.start(**self._scoring(batch)) for batch in batches]

        async def finish() -> float:
            answers = chain.from_iterable([await request for request in started])
            total = sum(logprob for logprob, _ in collator.get_original(answers))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
            return total

        return sending.attend(finish())

    async def _generate(self, encoder: Encoder, requests: list[tuple[str, dict[str, Any]]]) -> list[str]:
        collator = Collator(requests, sort_fn=lambda request: -len(request[0]), group_by="gen_kwargs")
        # lm_eval sends what the first request of a group asks for (generate_until).
        groups = [(group[0][1], [context for context, _ in group]) for group in collator.get_batched(n=0)]
        parts = ((kwargs, part) for kwargs, contexts in groups for part in self._parts(contexts))
        async with Sending(self, None) as sending:
            started = []
            encoded = ahead(lambda part: encoder.encode(part[1]), parts)
            async with aclosing(encoded):
                async for (kwargs, contexts), ids in encoded:
                    room = self.max_length - kwargs.get("max_gen_toks", self._max_gen_toks)
                    prompts = [tokens[-room:] for tokens in ids]
                    keys = [(context, kwargs) for context in contexts]
                    for batch, batch_keys in zip(
                        chunks(prompts, n=self._batch_size), chunks(keys, n=self._batch_size), strict=True
                    ):
                        started.append(
                            await sending.start(
                                messages=batch,
                                cache_keys=batch_keys,
                                generate=True,
                                gen_kwargs=copy.deepcopy(kwargs),
                            )
                        )
            return collator.get_original(chain.from_iterable(await asyncio.gather(*started)))

    def _encoder(self, arguments: list[tuple[Any, ...]], count: int) -> Encoder | None:
        """None where lm_eval has to encode, and to send, itself. `arguments` are all to be `count` texts."""
        if self._concurrent <= 1 or self._batch_size < 1 or not arguments:
            return None
        if any(len(texts) != count or any(type(text) is not str for text in texts) for texts in arguments):
            return None
        encoder = open_encoder(self)
        if encoder is None:
            return None
        probes = arguments[:: -(-len(arguments) // _PROBES)]
        if self._agrees_on_texts(encoder, probes) if count == 1 else self._agrees_on_pairs(encoder, probes):
            return encoder
        _logger.warning("lm_eval encodes some texts in another way than we do, so its own code sends these requests")
        return None

    def _agrees_on_texts(self, encoder: Encoder, probes: list[tuple[str]]) -> bool:
        texts = [text for (text,) in probes]
        return [self.tok_encode(text) for text in texts] == encoder.encode(texts)

    def _agrees_on_pairs(self, encoder: Encoder, probes: list[tuple[str, str]]) -> bool:
        lm = copy.copy(self)
        lm._loglikelihood_tokens = lambda encoded, **_: [tuple(ids) for _, *ids in encoded]
        requests = [SimpleNamespace(args=pair) for pair in probes]
        return super(_Engine, lm).loglikelihood(requests, disable_tqdm=True) == encoder.encode_pairs(probes)

    def _scoring(self, batch: list[Any]) -> dict[str, Any]:
        """What lm_eval would send for encoded requests: the last `max_length` ids."""
        inputs, context_lengths, keys = self.batch_loglikelihood_requests([batch])
        return {"messages": inputs, "ctxlens": context_lengths, "cache_keys": keys, "generate": False}

    def _parts(self, items: list[Any]) -> Iterator[list[Any]]:
        """Whole batches of about `_PART`; all items at once where sending needs the tokenizer too."""
        if not self.tokenized_requests:
            return iter([items])
        return chunks(items, n=self._batch_size * -(-_PART // self._batch_size))
