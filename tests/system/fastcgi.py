"""FastCGI spoken by hand, straight to pavise's socket: for what no web server would send, and for readiness."""

import socket
import struct

from client import Answer
from process import PATIENCE

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
RESPONDER, KEEP_CONNECTION = 1, 1


def record(kind, content=b"", request_id=1, version=1, padding=0):
    return struct.pack(">BBHHBx", version, kind, request_id, len(content), padding) + content + bytes(padding)


def begin(role=RESPONDER, flags=0):
    return record(BEGIN, struct.pack(">HB5x", role, flags))


def length(n):
    return bytes([n]) if n < 128 else struct.pack(">I", n | 1 << 31)


def pairs(params):
    """Names and values, str or bytes, in FastCGI's encoding."""
    out = b""
    for name, value in params.items():
        name, value = (x.encode() if isinstance(x, str) else x for x in (name, value))
        out += length(len(name)) + length(len(value)) + name + value
    return out


def stream(kind, data):
    """Records of at most 32 kB, and the empty one that ends them."""
    return b"".join(record(kind, data[i:i + 32768]) for i in range(0, len(data), 32768)) + record(kind)


def params_of(path="/v1/chat/completions", method="POST", body=b"", key="demo", **more):
    """What a web server would say; a None takes a parameter away."""
    params = {"REQUEST_METHOD": method, "REQUEST_URI": path, "SCRIPT_NAME": path, "SERVER_PROTOCOL": "HTTP/1.1",
              "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1",
              "HTTP_AUTHORIZATION": f"Bearer {key}", **more}
    return {name: value for name, value in params.items() if value is not None}


class FastCGI:
    """One connection to pavise. Context manager."""

    def __init__(self, path, timeout=PATIENCE):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.got, self.out, self.err, self.ended = b"", b"", [], False

    def send(self, data):
        self.socket.sendall(data)

    def request(self, params, body=b""):
        """Begins, and sends everything."""
        self.send(begin() + stream(PARAMS, pairs(params)) + stream(STDIN, body))

    def read(self):
        """Reads records until the request or the connection ends; self.out and self.err have what came."""
        while not self.ended:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return self
            self.got += piece
            self.take()
        return self

    def take(self):
        while len(self.got) >= 8:
            _, kind, _, size, padding = struct.unpack(">BBHHBx", self.got[:8])
            if len(self.got) < 8 + size + padding:
                return
            content, self.got = self.got[8:8 + size], self.got[8 + size + padding:]
            if kind == STDOUT:
                self.out += content
            elif kind == STDERR:
                self.err.append(content.decode())
            elif kind == END:
                self.ended = True

    def answer(self):
        """The whole answer as an Answer; None if there was none. CGI's head becomes status and headers."""
        import email.parser
        self.read()
        if b"\r\n\r\n" not in self.out:
            return None
        head, body = self.out.split(b"\r\n\r\n", 1)
        headers = email.parser.HeaderParser().parsestr(head.decode("latin-1"))
        return Answer(int(headers["Status"].split()[0]), headers, body, headers["x-request-id"])

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def call(path, params, body=b"", timeout=PATIENCE):
    """One request, one answer; answer.err has the FastCGI stderr lines."""
    with FastCGI(path, timeout) as connection:
        connection.request(params, body)
        answer = connection.answer()
        if answer is not None:
            answer.err = connection.err
        return answer
