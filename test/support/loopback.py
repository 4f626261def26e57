"""
Asks the same server through aiohttp's own session and through ours, and prints where bytes, answers or errors differ:
one JSON object with `cases`, `differences` and the places that ours does not leave to aiohttp.
"""

import asyncio
import gzip
import json
import zlib

from aiohttp import ClientSession, ClientTimeout
from eval_hive_harness.loopback import LoopbackSession, _target

BODY = b'{"choices":[{"text":"caf\xc3\xa9"}]}'
JSON = "Content-Type: application/json"


def answer(body=BODY, *lines, status="200 OK", sized=True):
    size = [f"content-length: {len(body)}"] if sized else []
    return "\r\n".join([f"HTTP/1.1 {status}", *(lines or (JSON,)), *size, "", ""]).encode() + body


def chunked(body, *lines, trailer=""):
    chunks = b"".join(b"%x;name=value\r\n%s\r\n" % (len(body[at : at + 9]), body[at : at + 9]) for at in range(0, len(body), 9))
    return answer(chunks + f"0\r\n{trailer}\r\n".encode(), *(lines or (JSON,)), "Transfer-Encoding: chunked", sized=False)


def deflated(body, bits):
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(body) + packer.flush()


# By name: what the server says to each request; None hangs up, b"" says nothing.
ANSWERS = {
    "plain": answer(),
    "charset": answer('{"a": "é"}'.encode("latin-1"), "content-type: application/json; charset=ISO-8859-1"),
    "blanks": answer(b" \n {} "),
    "nothing": answer(b""),
    "chunks": chunked(BODY),
    "chunks and a trailer": chunked(BODY, trailer="a: b\r\nc: d\r\n"),
    "gzip": answer(gzip.compress(BODY), JSON, "Content-Encoding: gzip"),
    "gzip in chunks": chunked(gzip.compress(BODY), JSON, "Content-Encoding: gzip"),
    "deflate": answer(deflated(BODY, 15), JSON, "Content-Encoding: deflate"),
    "raw deflate": answer(deflated(BODY, -15), JSON, "Content-Encoding: deflate"),
    "until the end": answer(BODY, JSON, "Connection: close", sized=False),
    # aiohttp makes what it can of it; ours must not wait for the rest for ever.
    "gzip that is cut off": answer(gzip.compress(BODY)[:-9], JSON, "Connection: close", "Content-Encoding: gzip", sized=False),
    "close": answer(BODY, JSON, "Connection: close"),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
    "html": answer(b"<p>", "Content-Type: text/html"),
    "no JSON": answer(b'{"choices": [tru'),
    "problem in JSON": answer(BODY, "Content-Type: application/problem+json; charset=utf-8"),
    "no type": answer(BODY, "X: y"),
    "500": answer(b"overloaded", "Content-Type: text/plain", status="500 Internal Server Error"),
    "429 in JSON": answer(b'{"error": "slow down"}', status="429 Too Many Requests"),
    "503 without a reason": answer(b"", status="503 "),
    "204": answer(status="204 No Content", sized=False, body=b""),
    "moved": answer(b"", "Location: /moved", status="307 Temporary Redirect"),
    "half a body": answer()[:-4],
    "half a head": answer()[:30],
    "half a chunk": chunked(BODY)[:-20],
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "hangs up": None,
    "says nothing": b"",
}
# What is written in another way than it is given has to go through aiohttp.
PLACES = {
    "as lm_eval asks": ("http://127.0.0.1:{port}/eh/secret-token/r1/0/v1/completions", {"Authorization": "Bearer key"}),
    "without headers": ("http://127.0.0.1:{port}/v1/completions", None),
    "a query": ("http://127.0.0.1:{port}/v1/completions?key=a b#c", {"X-Key": "1"}),
    "an odd path": ("http://127.0.0.1:{port}/a/../b c/%7e/ü;x", {"X-Key": "1"}),
    "a name": ("http://localhost:{port}/v1/completions", {}),
    "a user": ("http://user:word@127.0.0.1:{port}/v1/completions", {}),
    "headers of aiohttp's": (
        "http://127.0.0.1:{port}/",
        {"user-agent": "me", "Accept-Encoding": "identity", "Content-type": "text/json", "cookie": "a=b"},
    ),
    "an umlaut in a header": ("http://127.0.0.1:{port}/", {"X-Key": "ü"}),
}
VALUES = [{"prompt": [[1, 2]], "seed": 1234}, {"prompt": "é \ud83d\ude00", "x": [None, 1.5, True]}, {}]


class Server:
    """Gives `says` for an answer, in pieces or at once. Notes requests, by connection."""

    def __init__(self, says, piece):
        self.says, self.piece, self.connections = says, piece, []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def serve(self, reader, writer):
        requests = []
        self.connections.append(requests)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                requests.append((head + body).decode("latin-1").replace(str(self.port), "PORT"))
                says = answer() if head.startswith(b"POST /moved ") else self.says
                for at in range(0, len(says or b""), self.piece):
                    writer.write(says[at : at + self.piece])
                    await writer.drain()
                    await asyncio.sleep(0)
                if says is None or b"onnection: close" in says or says in BROKEN:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


BROKEN = [ANSWERS[name] for name in ("half a body", "half a head", "half a chunk", "no HTTP")]


async def outcome(session, url, headers, value):
    """As lm_eval's amodel_call goes through an answer."""
    seen = []
    try:
        async with session.post(url, json=value, headers=headers) as response:
            if not response.ok:
                seen.append(await response.text())
            response.raise_for_status()
            seen.append(await response.json())
    except Exception as error:  # noqa: BLE001
        broken = type(error).__name__ in ("ServerDisconnectedError", "ClientOSError", "ClientPayloadError", "ClientResponseError")
        # The words for an answer that breaks off are aiohttp's own.
        text = str(error) if getattr(error, "status", 400) != 400 or not broken else ""
        name = type(error).__name__ if text or not broken else "broken"
        seen.append([name, text.replace(url.split("/")[2], "HOST")])
    return seen


async def ask(wrap, name, place, piece):
    url, headers = place
    async with Server(ANSWERS[name], piece) as server:
        session = wrap(ClientSession(timeout=ClientTimeout(total=0.3 if name == "says nothing" else 30)))
        at = url.format(port=server.port)
        one_by_one = [await outcome(session, at, headers, value) for value in VALUES[: 1 if name == "says nothing" else None]]
        together = [] if name == "says nothing" else await asyncio.gather(*(outcome(session, at, headers, VALUES[0]) for _ in range(5)))
        await session.close()
        if name == "moved":
            # Ours asks once before it leaves all to aiohttp.
            return [one_by_one, together]
        # Which of several at a time takes the connection that is there already is nobody's business.
        return [one_by_one, together, len(server.connections), sorted(sum(server.connections, []))]


async def main():
    cases, differences = 0, []
    for place_name, place in PLACES.items():
        for name in ANSWERS if place_name == "as lm_eval asks" else ("plain",):
            if name == "gzip that is cut off":
                continue
            for piece in (1, 1 << 20):
                theirs = await ask(lambda session: session, name, place, piece)
                ours = await ask(LoopbackSession, name, place, piece)
                cases += 1
                if theirs != ours:
                    differences.append({"place": place_name, "answer": name, "piece": piece, "theirs": theirs, "ours": ours})
    own = [name for name, (url, headers) in PLACES.items() if _target(url.format(port=8000), headers) is not None]
    cut_off = await asyncio.wait_for(ask(LoopbackSession, "gzip that is cut off", PLACES["as lm_eval asks"], 1 << 20), 10)
    print(json.dumps({"cases": cases, "differences": differences, "own": own, "cut_off": cut_off[0]}))


asyncio.run(main())
