"""
FakeProvider: a provider whose every byte a test decides.

    prompt = provider.on(lambda call: call.answer(completion("hello")))   # a script, run for requests with this prompt
    prompt = provider.manual()                                           # or: the test itself holds the pen
    call = provider.take(prompt)                                         # … when the request has arrived
    call.stream_head(); call.event(chunk("a")); …; call.end_stream()

A request is told from others by its prompt: the text of its last message. Requests with unknown prompts get a plain
answer. provider.calls(prompt) is how often it was really asked.
"""

import contextlib
import json
import queue
import select
import socket
import struct
import threading
import time

from client import unique
from process import PATIENCE, Ends

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 3}}


def completion(content="Fine.", **fields):
    """A chat completion as OpenAI sends it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, "refusal": None}, "logprobs": None,
              "finish_reason": "stop"}
    return {"id": "chatcmpl-upstream", "object": "chat.completion", "created": 1700000000, "model": "fake-1",
            "choices": [choice], "usage": USAGE, "service_tier": "default", "system_fingerprint": "fp_fake", **fields}


def chunk(content=None, finish=None, delta=None, **fields):
    """One chunk of a stream: some content, or any delta."""
    delta = delta if delta is not None else {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1700000000, "model": "fake-1",
            "system_fingerprint": "fp_fake", "choices": [choice], "usage": None, **fields}


def usage_chunk():
    return {**chunk(), "choices": [], "usage": USAGE}


class Call:
    """One request that arrived, and the pen for its answer. Headers have names in small letters."""

    def __init__(self, provider, connection, method, path, headers, body):
        self.provider, self.socket = provider, connection
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.at = time.monotonic()
        self.chunked = False
        self.finished = threading.Event()
        self.closing = False  # the answer ends with the connection

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def prompt(self):
        try:
            content = self.json["messages"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            return None
        return content if isinstance(content, str) else None

    # ── bytes ──

    def send(self, data):
        self.socket.sendall(data)

    def head(self, status=200, headers=None, reason="X"):
        lines = [f"HTTP/1.1 {status} {reason}"] + [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def write(self, data):
        """Some of the body, in a chunk of its own where the head announced chunks."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    # ── whole answers ──

    def answer(self, body, status=200, headers=None):
        """A body with its length, and the request is over. body: bytes as they are, or what becomes JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(status, {"Content-Type": "application/json", "x-request-id": "req_fake",
                           "Content-Length": len(data), **(headers or {})})
        self.send(data)
        self.finish()

    def error(self, status, message="no", headers=None, **fields):
        """As OpenAI says no."""
        self.answer({"error": {"message": message, "type": "fake_error", "param": None, "code": "fake_code", **fields}},
                    status, headers)

    # ── streams ──

    def stream_head(self, headers=None):
        self.chunked = True
        self.head(200, {"Content-Type": "text/event-stream; charset=utf-8", "x-request-id": "req_fake",
                        "Transfer-Encoding": "chunked", **(headers or {})})

    def event(self, data):
        """One event: what becomes JSON, or text as it is."""
        self.write(b"data: " + (data if isinstance(data, str) else json.dumps(data)).encode() + b"\n\n")

    def end_stream(self, done=True):
        if done:
            self.event("[DONE]")
        self.send(b"0\r\n\r\n")
        self.finish()

    def stream(self, pieces, usage=True):
        """A whole stream of these pieces of content."""
        self.stream_head()
        self.event(chunk(delta={"role": "assistant", "content": "", "refusal": None}))
        for piece in pieces:
            self.event(chunk(piece))
        self.event(chunk(finish="stop"))
        if usage and self.json.get("stream_options", {}).get("include_usage"):
            self.event(usage_chunk())
        self.end_stream()

    def plain(self, pieces=("It ", "is ", "fine.")):
        """The same answer in the form that was asked for."""
        if self.json.get("stream"):
            self.stream(pieces)
        else:
            self.answer(completion("".join(pieces)))

    # ── the end ──

    def finish(self):
        """The answer is complete; the connection may serve another request."""
        self.finished.set()

    def close(self):
        """FIN."""
        self.closing = True
        with contextlib.suppress(OSError):  # it has gone already
            self.socket.shutdown(socket.SHUT_RDWR)
        self.finished.set()

    def reset(self):
        """RST."""
        self.closing = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.provider.forget(self.socket)
        self.finished.set()

    def peer_gone(self, timeout):
        """Waits until the peer has closed the connection; the time.monotonic() of it, or None when it has not."""
        poll, end = select.poll(), time.monotonic() + timeout
        poll.register(self.socket, select.POLLIN | select.POLLRDHUP)
        while time.monotonic() < end:
            poll.poll(max(1, int((end - time.monotonic()) * 1000)))
            try:
                if self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                    return time.monotonic()
            except BlockingIOError:
                continue
            except OSError:
                return time.monotonic()
        return None

    def hang(self, timeout=60):
        """Says nothing until the peer goes away or the provider ends."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and not self.provider.ended.is_set() and not self.peer_gone(0.2):
            pass
        self.closing = True
        self.finish()


class FakeProvider(Ends):
    """Listens on an ephemeral port of 127.0.0.1. Context manager."""

    def __init__(self):
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.scripts, self.held, self.seen, self.sockets = {}, {}, [], set()
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def on(self, script, prompt=None):
        """A fresh prompt, for which script(call) writes the answers."""
        prompt = prompt or unique()
        self.scripts[prompt] = script
        return prompt

    def manual(self, prompt=None):
        """A fresh prompt, whose calls wait for take(); who takes one must finish, close or reset it."""
        prompt = prompt or unique()
        self.held[prompt] = queue.Queue()
        return self.on(self.hold, prompt)

    def hold(self, call):
        self.held[call.prompt].put(call)
        while not call.finished.wait(0.1) and not self.ended.is_set():
            pass

    def take(self, prompt, timeout=PATIENCE):
        """The next Call with this prompt."""
        return self.held[prompt].get(timeout=timeout)

    def requests(self, prompt):
        """The Calls with this prompt, oldest first."""
        with self.lock:
            return [call for call in self.seen if call.prompt == prompt]

    def calls(self, prompt):
        return len(self.requests(prompt))

    # ── the server ──

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.sockets.add(connection)
                self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def forget(self, connection):
        with self.lock:
            self.sockets.discard(connection)
        connection.close()

    def serve(self, connection):
        try:
            reader = connection.makefile("rb")
            while not self.ended.is_set():
                call = self.read_call(connection, reader)
                if not call:
                    break
                with self.lock:
                    self.seen.append(call)
                self.scripts.get(call.prompt, Call.plain)(call)
                call.finished.wait()
                if call.closing:
                    break
        except (OSError, ValueError):
            pass  # the peer went away, or the test closed the socket under us
        finally:
            self.forget(connection)

    def read_call(self, connection, reader):
        line = reader.readline().decode("latin-1").split()
        if len(line) != 3:
            return None
        headers = {}
        while (header := reader.readline().decode("latin-1").strip()):
            name, value = header.split(":", 1)
            headers[name.lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", 0)))
        return Call(self, connection, line[0], line[1], headers, body)

    def end(self):
        self.ended.set()
        # a mere close() would leave the thread in accept(), on a file descriptor that is soon somebody else's
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        with self.lock:
            sockets, self.sockets = self.sockets, set()
        for connection in sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
