"""
Requests to this machine, where the balancer is: what lm_eval's `amodel_call` needs of an aiohttp session, with the same bytes
on the wire. aiohttp takes 0.3 to 0.4 ms of CPU more for each of them, a quarter of what a leaf of short prompts costs.
All else is left to aiohttp.
"""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import re
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import (
    ClientOSError,
    ClientPayloadError,
    ClientResponseError,
    ClientSession,
    ContentTypeError,
    RequestInfo,
    ServerDisconnectedError,
)
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

# As with aiohttp: a server may close what has been idle for longer.
_IDLE_S = 15.0
# What aiohttp accepts when no further library is installed, and we can read.
_ACCEPTED = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
# What aiohttp sets by itself, or takes for an order to itself.
_NOT_GIVEN = frozenset((
    "host", "user-agent", "content-type", "content-length", "content-encoding", "transfer-encoding", "accept",
    "accept-encoding", "connection", "cookie", "expect", "trailer", "upgrade",
))  # fmt: skip
_PATH_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/")
# As aiohttp has it.
_JSON = re.compile(r"application/(?:[\w.+-]+?\+)?json")
_WITHOUT_BODY = frozenset((204, 304))


class LoopbackSession:
    """Posts JSON to one place at a time. Whatever it does not know it leaves to `other`, which it closes in the end."""

    def __init__(self, other: ClientSession) -> None:
        self._other = other
        self._timeout_s = other.timeout.total
        self._place: tuple[str, Any] | None = None
        self._target: _Target | None = None
        self._idle: list[_Connection] = []

    def post(self, url: str, *, json: Any, headers: Any) -> Any:
        if (url, headers) != self._place:
            self._close_idle()
            self._place = (url, headers)
            self._target = _target(url, headers)
        if self._target is None:
            return self._other.post(url, json=json, headers=headers)
        return _Post(self, self._target, json)

    def leave_to_other(self) -> ClientSession:
        """From now on, all that goes to this place."""
        self._target = None
        return self._other

    async def close(self) -> None:
        self._close_idle()
        await self._other.close()

    async def ask(self, target: _Target, value: Any) -> Answer:
        loop = asyncio.get_running_loop()
        body = json.dumps(value).encode()
        answer: asyncio.Future[Answer] = loop.create_future()
        timer = loop.call_later(self._timeout_s, _give_up, answer) if self._timeout_s else None
        connection: _Connection | None = None
        try:
            connection = self._take_idle(loop.time()) or await _connect(loop, target, answer)
            connection.ask(target.head(len(body)) + body, target, answer)
            return await answer
        finally:
            if timer is not None:
                timer.cancel()
            if connection is not None and connection.is_reusable:
                connection.idle_since = loop.time()
                self._idle.append(connection)
            elif connection is not None:
                connection.close()

    def _take_idle(self, now: float) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and now - connection.idle_since < _IDLE_S:
                return connection
            connection.close()
        return None

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


class Answer:
    """A response that has arrived as a whole; of aiohttp's ClientResponse what lm_eval uses, with the same errors."""

    def __init__(self, target: _Target, status: int, reason: str, headers: CIMultiDict[str]) -> None:
        self.status = status
        self.headers = headers
        self.ok = status < 400
        self.body = b""
        self._reason = reason
        self._target = target

    def raise_for_status(self) -> None:
        if not self.ok:
            raise self._error(ClientResponseError, self._reason)

    async def text(self) -> str:
        return self.body.decode(self._charset())

    async def json(self) -> Any:
        kind = self.headers.get("Content-Type", "").lower()
        if not _JSON.fullmatch(kind.partition(";")[0].strip()):
            raise self._error(ContentTypeError, f"Attempt to decode JSON with unexpected mimetype: {kind}")
        text = self.body.strip()
        return json.loads(text.decode(self._charset())) if text else None

    def _charset(self) -> str:
        _, named, charset = self.headers.get("Content-Type", "").lower().partition("charset=")
        return charset.partition(";")[0].strip(' "') if named else "utf-8"

    def _error(self, kind: type[ClientResponseError], message: str) -> ClientResponseError:
        return kind(self._target.info, (), status=self.status, message=message, headers=CIMultiDictProxy(self.headers))


class _Target:
    """Where requests go, and what all of them begin with."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        lines = {"Host": parts.netloc, **headers, **_ACCEPTED, "User-Agent": SERVER_SOFTWARE}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.address = (parts.hostname, parts.port)
        self.info = RequestInfo(URL(url), "POST", CIMultiDictProxy(CIMultiDict(lines)), URL(url))
        self._head = f"POST {parts.path} HTTP/1.1\r\n{text}"

    def head(self, length: int) -> bytes:
        return f"{self._head}Content-Length: {length}\r\nContent-Type: application/json\r\n\r\n".encode()


def _target(url: Any, headers: Any) -> _Target | None:
    """None where aiohttp might do anything but write it down: resolve, encrypt, quote, add a cookie, take another header."""
    try:
        parts = urlsplit(url)
        is_plain = (
            ipaddress.IPv4Address(parts.hostname).is_loopback
            and url == f"http://{parts.hostname}:{parts.port}{parts.path}"
            and parts.port != 80
            and parts.path.startswith("/")
            and "/." not in parts.path
            and set(parts.path) <= _PATH_CHARACTERS
            and dict(ClientRequest.DEFAULT_HEADERS) == _ACCEPTED
            and all(_is_plain_header(*header) for header in (headers or {}).items())
        )
    except (TypeError, ValueError, AttributeError):
        return None
    return _Target(url, headers or {}) if is_plain else None


def _is_plain_header(name: Any, value: Any) -> bool:
    return (
        type(name) is type(value) is str
        and f"{name}{value}".isascii()
        and name.replace("-", "").isalnum()
        and name.lower() not in _NOT_GIVEN
        and value.isprintable()
    )


class _Post:
    """What is entered to get the answer, as with aiohttp's own."""

    def __init__(self, session: LoopbackSession, target: _Target, value: Any) -> None:
        self._session = session
        self._target = target
        self._value = value

    async def __aenter__(self) -> Any:
        answer = await self._session.ask(self._target, self._value)
        if 300 <= answer.status < 400 and "Location" in answer.headers:
            info = self._target.info
            headers = {k: v for k, v in info.headers.items() if k.lower() not in _NOT_GIVEN}
            other = self._session.leave_to_other()
            self._other = other.post(str(info.url), json=self._value, headers=headers)
            return await self._other.__aenter__()
        self._other = None
        return answer

    async def __aexit__(self, *failure: Any) -> None:
        if self._other is not None:
            await self._other.__aexit__(*failure)


def _give_up(answer: asyncio.Future[Answer]) -> None:
    if not answer.done():
        answer.set_exception(asyncio.TimeoutError())


async def _connect(
    loop: asyncio.AbstractEventLoop, target: _Target, answer: asyncio.Future[Answer]
) -> _Connection:
    """On this machine that takes no time, unless nobody accepts: then `answer` is the first to be done."""
    connecting = loop.create_task(loop.create_connection(_Connection, *target.address))
    try:
        await asyncio.wait((connecting, answer), return_when=asyncio.FIRST_COMPLETED)
        return connecting.result()[1] if connecting.done() else answer.result()  # type: ignore[return-value]
    except OSError as error:
        raise error if isinstance(error, asyncio.TimeoutError) else ClientOSError(*error.args) from error
    finally:
        connecting.cancel()


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._asked: tuple[_Target, asyncio.Future[Answer]] | None = None
        self._answer: Answer | None = None
        self._end: int | None = None
        self._is_chunked = False
        self._is_open = True
        self.is_reusable = False
        self.idle_since = 0.0

    def ask(self, request: bytes, target: _Target, answer: asyncio.Future[Answer]) -> None:
        self.is_reusable = False
        self._asked, self._answer = (target, answer), None
        if self._is_open:
            self._transport.write(request)
        else:
            self._fail(ServerDisconnectedError())

    def close(self) -> None:
        self._asked = None
        self._is_open = self.is_reusable = False
        self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._is_open = self.is_reusable = False
        if error is not None:
            self._fail(ClientOSError(*error.args))
        elif self._answer is None:
            self._fail(ServerDisconnectedError())
        elif self._end is None and not self._is_chunked:
            self._try(lambda: self._finish(bytes(self._received)))
        else:
            self._fail(ClientPayloadError("Response payload is not completed"))

    def data_received(self, data: bytes) -> None:
        if self._asked is None:
            # Nobody has asked for it.
            self.close()
            return
        self._received += data
        self._try(self._read)

    def _try(self, step: Callable[[], None]) -> None:
        """What the bytes can't be understood as is an error of the request: raised here, nobody would hear of it."""
        try:
            step()
        except (ValueError, OSError, EOFError, zlib.error) as error:
            self._fail(ClientPayloadError(f"Not an answer in HTTP: {error}"))

    def _read(self) -> None:
        if self._answer is None and not self._read_head():
            return
        if self._is_chunked:
            self._read_chunks()
        elif self._end is not None and len(self._received) >= self._end:
            body = bytes(self._received[: self._end])
            del self._received[: self._end]
            self._finish(body)

    def _read_head(self) -> bool:
        """False while it is not all there. What the server says ahead of an answer is dropped."""
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._received[:end].decode("latin-1").split("\r\n")
            del self._received[: end + 4]
            version, _, rest = first.partition(" ")
            status, _, reason = rest.partition(" ")
            if int(status) < 200:
                continue
            pairs = (line.split(":", 1) for line in lines)
            headers = CIMultiDict((name.strip(), value.strip()) for name, value in pairs)
            self._answer = Answer(self._asked[0], int(status), reason.strip(), headers)
            self._is_chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
            self._chunks, self._at = [], 0
            length = "0" if int(status) in _WITHOUT_BODY else headers.get("Content-Length")
            self._end = None if length is None or self._is_chunked else int(length)
            self._keeps = version == "HTTP/1.1" and headers.get("Connection", "").lower() != "close"
            return True
        return False

    def _read_chunks(self) -> None:
        while (line_end := self._received.find(b"\r\n", self._at)) >= 0:
            size = int(self._received[self._at : line_end].partition(b";")[0], 16)
            start = line_end + 2
            if size == 0:
                # Behind the last chunk there may be further lines, and an empty one.
                end = line_end if self._received.startswith(b"\r\n", start) else self._received.find(b"\r\n\r\n", start)
                if end >= 0:
                    del self._received[: end + 4]
                    self._finish(b"".join(self._chunks))
                return
            if len(self._received) < start + size + 2:
                return
            self._chunks.append(bytes(self._received[start : start + size]))
            self._at = start + size + 2

    def _finish(self, body: bytes) -> None:
        coding = self._answer.headers.get("Content-Encoding", "identity").lower()
        if coding == "gzip":
            body = gzip.decompress(body)
        elif coding == "deflate":
            body = zlib.decompress(body, zlib.MAX_WBITS if body[:1] and body[0] & 0x0F == 8 else -zlib.MAX_WBITS)
        elif coding != "identity":
            raise ValueError(f"content-encoding {coding}")
        self._answer.body = body
        # What follows an answer unasked can't be the next one.
        self.is_reusable = self._is_open and self._keeps and not self._received and (self._is_chunked or self._end is not None)
        (_, answer), self._asked = self._asked, None
        if not answer.done():
            answer.set_result(self._answer)

    def _fail(self, error: Exception) -> None:
        self._is_open = self.is_reusable = False
        if self._asked is not None and not self._asked[1].done():
            self._asked[1].set_exception(error)
        self._asked = None
