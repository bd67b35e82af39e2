"""HTTP clients: one for whole answers, one on a raw socket that sees a stream as it arrives and can misbehave."""

import http.client
import json
import os
import secrets
import socket
import struct
import time

from process import PATIENCE

CHAT = "/v1/chat/completions"


def ask(text="What is a pavise?", **fields):
    """The body of a chat request."""
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **fields}


def as_bytes(body):
    if body is None or isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def events_of(text):
    """The data of every event of a whole stream: parsed, or "[DONE]"."""
    out = []
    for block in text.split("\n\n"):
        data = [line[6:] for line in block.split("\n") if line.startswith("data: ")]
        if data:
            out.append(data[0] if data[0] == "[DONE]" else json.loads("\n".join(data)))
    return out


class Answer:
    """status, headers (any case), body (bytes); json and events parse it."""

    def __init__(self, status, headers, body, request_id):
        self.status, self.headers, self.body, self.request_id = status, headers, body, request_id

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error object, which must have its four keys and nothing beside it."""
        answer = self.json
        assert list(answer) == ["error"], answer
        assert set(answer["error"]) == {"message", "type", "param", "code"}, answer
        assert answer["error"]["message"], answer
        return answer["error"]

    @property
    def events(self):
        return events_of(self.body.decode())

    @property
    def cache(self):
        return self.headers["X-Cache"]

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:600]!r}>"


class Client:
    """Speaks to one web server. Every request has an x-request-id of its own, by which its log line is found."""

    def __init__(self, port, key="demo", timeout=30):
        self.port, self.key, self.timeout = port, key, timeout

    def with_key(self, key):
        return Client(self.port, key, self.timeout)

    def headers(self, extra, body):
        """extra: names → values; a None leaves the header out."""
        headers = {"Host": f"127.0.0.1:{self.port}", "x-request-id": "test-" + secrets.token_hex(8)}
        if self.key is not None:
            headers["Authorization"] = "Bearer " + self.key
        if body is not None:
            headers["Content-Type"] = "application/json"
        for name, value in extra.items():
            for same in [n for n in headers if n.lower() == name.lower()]:
                del headers[same]
            if value is not None:
                headers[name] = value
        return headers

    def call(self, method, path, body=None, headers=None):
        """A whole answer. body: bytes as they are, str, or anything that becomes JSON."""
        data = as_bytes(body)
        all_headers = self.headers(headers or {}, data)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            connection.request(method, path, data, all_headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read(), all_headers.get("x-request-id"))
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.call("GET", path, headers=headers)

    def post(self, body, headers=None, path=CHAT):
        return self.call("POST", path, body, headers)

    def chat(self, text="What is a pavise?", headers=None, **fields):
        """A chat that must work; .json or, with stream=True, .events."""
        answer = self.post(ask(text, **fields), headers)
        assert answer.status == 200, answer
        return answer

    def stream(self, body, headers=None, path=CHAT):
        """A Stream, whose request is sent and whose answer is not yet awaited."""
        data = as_bytes(body)
        return Stream(self.port, "POST", path, self.headers(headers or {}, data), data)

    def raw(self, sent):
        """A Stream on which exactly these bytes were sent."""
        stream = Stream(self.port)
        stream.send(sent)
        return stream


class Event:
    """What came between two empty lines: data (str, None for a comment), comment (str or None), when it came."""

    def __init__(self, block, at):
        lines = block.split("\n")
        data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
        comments = [line[1:].strip() for line in lines if line.startswith(":")]
        self.at = at
        self.data = "\n".join(data) if data else None
        self.comment = comments[0] if comments else None

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def content(self):
        """Of the first choice's delta; None if it has none."""
        choices = self.json["choices"]
        return choices[0]["delta"].get("content") if choices else None

    def __repr__(self):
        return f"<{self.data if self.data is not None else ':' + str(self.comment)}>"


class Stream:
    """One request on a socket of its own, its answer read piece by piece. Leaving the `with` closes the socket."""

    def __init__(self, port, method=None, path=None, headers=None, body=None):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got, self.head, self.text = b"", None, b""
        self.request_id = (headers or {}).get("x-request-id")
        self.pieces = None
        if method:
            lines = [f"{method} {path} HTTP/1.1"] + [f"{n}: {v}" for n, v in headers.items()]
            if body is not None and not any(n.lower() == "content-length" for n in headers):
                lines.append(f"Content-Length: {len(body)}")
            lines.append("Connection: close")
            self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        """Reads what there is into self.got; False at the end of the connection. TimeoutError when patience ends."""
        piece = self.socket.recv(65536)
        self.got += piece
        return bool(piece)

    def take_until(self, mark):
        while mark not in self.got:
            if not self.more():
                raise ConnectionError(f"the connection ended before {mark!r}; got {self.got[:500]!r}")
        taken, self.got = self.got.split(mark, 1)
        return taken

    def read_head(self):
        if self.head is None:
            lines = self.take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            self.head = http.client.HTTPMessage()
            for line in lines[1:]:
                name, value = line.split(":", 1)
                self.head[name] = value.strip()
            self.status_code = int(lines[0].split()[1])
        return self.head

    @property
    def status(self):
        self.read_head()
        return self.status_code

    @property
    def headers(self):
        return self.read_head()

    def body_pieces(self):
        """The body's bytes as they come, without the marks of the chunked encoding."""
        if "chunked" in (self.headers["Transfer-Encoding"] or ""):
            yield from self.chunks()
            return
        left = int(self.headers["Content-Length"]) if self.headers["Content-Length"] else None
        while left is None or left > 0:
            if not self.got and not self.more():
                if left:
                    raise ConnectionError(f"{left} bytes are missing")
                return
            piece, self.got = (self.got, b"") if left is None else (self.got[:left], self.got[left:])
            left = None if left is None else left - len(piece)
            yield piece

    def chunks(self):
        while True:
            left = int(self.take_until(b"\r\n").split(b";")[0], 16)
            if left == 0:
                self.take_until(b"\r\n")
                return
            while left:
                if not self.got and not self.more():
                    raise ConnectionError("the connection ended inside a chunk")
                piece, self.got = self.got[:left], self.got[left:]
                left -= len(piece)
                yield piece
            self.take_until(b"\r\n")

    def __iter__(self):
        """Events and comments, each at the moment when it is whole."""
        while True:
            event = self.next()
            if event is None:
                return
            yield event

    def next(self, timeout=PATIENCE):
        """The next event or comment; None at the end of the answer. TimeoutError when none comes."""
        self.socket.settimeout(timeout)
        self.pieces = self.pieces or self.body_pieces()
        while b"\n\n" not in self.text:
            piece = next(self.pieces, None)
            if piece is None:
                assert not self.text.strip(), f"the answer ends inside an event: {self.text!r}"
                return None
            self.text += piece
        block, self.text = self.text.split(b"\n\n", 1)
        return Event(block.decode(), time.monotonic())

    def next_data(self, timeout=PATIENCE):
        """As next(), comments left out."""
        while True:
            event = self.next(timeout)
            if event is None or event.data is not None:
                return event

    def rest(self):
        """The data of all events that are still to come."""
        return [event.data for event in self if event.data is not None]

    def whole(self):
        """The answer as an Answer, when all of it is here."""
        body = b"".join(self.pieces or self.body_pieces())
        return Answer(self.status, self.headers, body, self.request_id)

    def close(self):
        self.socket.close()

    def reset(self):
        """As a client whose machine died: RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def unique(text="question"):
    """A prompt that nobody has asked before."""
    return f"{text} {os.getpid()} {secrets.token_hex(8)}"
