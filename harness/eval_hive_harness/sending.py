"""Requests on their way to the server, each made by lm_eval's own `amodel_call`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from tqdm import tqdm

from .loopback import LoopbackSession

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# So many times `num_concurrent` requests are ready or under way; the rest waits to be made.
_READY = 2

_logger = logging.getLogger(__name__)


class Sending:
    """
    One session for all requests of a model call. As with lm_eval, `num_concurrent` are under way at once, a failed one is
    tried again after a pause in which others take its place, and one that fails for good ends all: leaving the context
    cancels what is left.
    """

    def __init__(self, lm: Any, total: int | None) -> None:
        """`total` requests will be started, if that is known."""
        self._lm = lm
        self._session: LoopbackSession
        self._places = asyncio.Semaphore(lm._concurrent)
        self._room = asyncio.Semaphore(_READY * lm._concurrent)
        self._tasks: list[asyncio.Task[Any]] = []
        self._failure: BaseException | None = None
        self._bar = tqdm(desc="Requesting API", total=total)

    async def __aenter__(self) -> Sending:
        connector = TCPConnector(limit=self._lm._concurrent, ssl=self._lm.verify_certificate)
        timeout = ClientTimeout(total=self._lm.timeout)
        self._session = LoopbackSession(ClientSession(connector=connector, timeout=timeout))
        return self

    async def __aexit__(self, failure: type | None, *_: object) -> None:
        if failure is not None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        self._bar.close()

    async def start(self, **request: Any) -> asyncio.Task[list[Any]]:
        """Sends as soon as there is a place; waits while enough others do. Raises what made another request fail."""
        await self._room.acquire()
        task = self.attend(self._answers(request))
        task.add_done_callback(self._settled)
        return task

    def attend(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Something that waits for requests, and ends with them. Raises what made a request fail."""
        if self._failure is not None:
            work.close()
            raise self._failure
        task = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._room.release()
        self._bar.update()
        if not task.cancelled():
            self._failure = self._failure or task.exception()

    async def _answers(self, request: dict[str, Any]) -> list[Any]:
        """Attempts and pauses are those of lm_eval's `retry` (models/api_models.py, get_batched_requests)."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._lm.amodel_call(self._session, self._places, **request)
            except Exception:
                if attempt >= self._lm.max_retries:
                    raise
            _logger.info("Retry attempt %d", attempt)
            await asyncio.sleep(min(max(0.5 * 2 ** (attempt - 1), 1), 10))


async def ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item]
) -> AsyncIterator[tuple[_Item, _Result]]:
    """What `work` makes of each item, in order. While the caller has one, a thread works at the next."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        at_work: tuple[_Item, asyncio.Future[_Result]] | None = None
        for item in items:
            finished, at_work = at_work, (item, loop.run_in_executor(thread, work, item))
            if finished is not None:
                yield finished[0], await finished[1]
        if at_work is not None:
            yield at_work[0], await at_work[1]
