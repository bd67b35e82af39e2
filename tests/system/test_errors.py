"""Whatever is sent: a clear refusal that names the field, from a worker that lives on (there is only one here)."""

import concurrent.futures
import json
import os
import signal
import socket
import time

import pytest

import fastcgi
from client import CHAT, ask, unique
from fastcgi import ABORT, END, PARAMS, STDIN, FastCGI, begin, pairs, params_of, record

CONFIG = {"server": {"workers": {"min": 1, "max": 1, "spare": 1, "reserve": 0}, "max_body": "256KiB"}}
GOOD = json.dumps(ask("good")).encode()


@pytest.fixture(autouse=True)
def the_worker_lives(stack):
    """Behind every test: a good request works, and the same process answers it."""
    before = stack.pavise.workers()
    yield
    answer = stack.pavise.call(CHAT, "POST", json.dumps(ask(unique())).encode())
    assert answer.status == 200, answer
    assert stack.pavise.workers() == before == [json.loads(answer.err[0])["worker"]]


def refused(answer, status, code, param):
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.error["code"], answer.error["param"]) == (code, param), answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers["x-should-retry"] == "false"
    return answer.error["message"]


# ── Bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────────

PREFIX = b'{"model":"demo","messages":[{"role":"user","content":"hi"}]'
BROKEN = {
    "nothing": b"", "white space": b" \n", "a word": b"hello", "no end": PREFIX, "too much": PREFIX + b"} {",
    "a comma too many": PREFIX + b",}", "a comment": PREFIX + b"/* */}", "single quotes": b"{'model':'demo'}",
    "NaN": PREFIX + b',"temperature":NaN}', "Infinity": PREFIX + b',"temperature":-Infinity}',
    "leading zero": PREFIX + b',"seed":01}', "a point at the end": PREFIX + b',"temperature":1.}',
    "a bare minus": PREFIX + b',"seed":-}', "a plus": PREFIX + b',"seed":+1}',
    "a raw newline": PREFIX + b',"user":"a\nb"}', "a bad escape": PREFIX + b',"user":"\\x41"}',
    "a half surrogate": PREFIX + b',"user":"\\ud800"}',
    "surrogates the wrong way round": PREFIX + b',"user":"\\udc00\\ud800"}',
    "NUL in a name": PREFIX + b',"a\\u0000b":1}', "a NUL byte": PREFIX + b',"user":"a\0b"}',
    "Latin-1": PREFIX + b',"user":"caf\xe9"}', "overlong UTF-8": PREFIX + b',"user":"\xc0\xaf"}',
    "a surrogate in UTF-8": PREFIX + b',"user":"\xed\xa0\x80"}',
    "beyond Unicode": PREFIX + b',"user":"\xf4\x90\x80\x80"}',
    "cut UTF-8": PREFIX + b',"user":"\xe2\x82"}', "UTF-16": PREFIX.decode().encode("utf-16"),
    "depth 1,000": PREFIX + b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}", "only brackets": b"[" * 200000,
    "depth 1,000 of objects": PREFIX + b',"x":' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_json(each, stack, name):
    answer = each.post(BROKEN[name])
    assert answer.status == 400 and answer.error["code"] == "invalid_json", answer
    assert stack.log_of(answer)["error.type"] == "caller_invalid_json"


MEMBERS = {  # what is added to a good body → code, param
    b',"model":"demo"': ("duplicate_name", "model"),
    b',"x":{"a":1,"b":[{"c":1,"\\u0063":2}]}': ("duplicate_name", "x.b[0].c"),
    b',"seed":123456789012345678901234567890': ("number_out_of_range", "seed"),
    b',"seed":-9223372036854775809': ("number_out_of_range", "seed"),
    b',"temperature":1e999': ("number_out_of_range", "temperature"),
    b',"x":9007199254740993.0': ("number_out_of_range", "x"),
    b',"x":[12345678901234567890.0]': ("number_out_of_range", "x[0]"),
    b',"x":{"y":[1,-1e400]}': ("number_out_of_range", "x.y[1]"),
}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.decode())
def test_what_would_not_survive(each, member):
    code, param = MEMBERS[member]
    refused(each.post(PREFIX + member + b"}"), 400, code, param)


def user(content):
    return {"messages": [{"role": "user", "content": content}]}


FIELDS = [  # fields of a request, code, param
    ({"model": None}, "missing_required_parameter", "model"),
    ({"model": 7}, "invalid_type", "model"),
    ({"model": "x" * 257}, "invalid_value", "model"),
    ({"messages": None}, "missing_required_parameter", "messages"),
    ({"messages": "hi"}, "invalid_type", "messages"),
    ({"messages": []}, "invalid_value", "messages"),
    ({"messages": ["hi"]}, "invalid_type", "messages[0]"),
    ({"messages": [{"role": "user", "content": "x"}, {"content": "x"}]}, "missing_required_parameter",
     "messages[1].role"),
    ({"messages": [{"role": 1, "content": "x"}]}, "invalid_type", "messages[0].role"),
    ({"messages": [{"role": "", "content": "x"}]}, "invalid_value", "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "missing_required_parameter", "messages[0].tool_call_id"),
    ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "invalid_type", "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "invalid_type", "messages[0].tool_calls[0]"),
    (user(5), "invalid_type", "messages[0].content"),
    (user({"text": "x"}), "invalid_type", "messages[0].content"),
    (user(["x"]), "invalid_type", "messages[0].content[0]"),
    (user([{"text": "x"}]), "missing_required_parameter", "messages[0].content[0].type"),
    (user([{"type": "text"}]), "missing_required_parameter", "messages[0].content[0].text"),
    (user([{"type": "text", "text": 1}]), "invalid_type", "messages[0].content[0].text"),
    (user([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]), "missing_required_parameter",
     "messages[0].content[1].image_url.url"),
    ({"stream": "yes"}, "invalid_type", "stream"),
    ({"stream_options": True}, "invalid_type", "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "invalid_type", "stream_options.include_usage"),
    ({"temperature": "hot"}, "invalid_type", "temperature"),
    ({"temperature": -0.1}, "invalid_value", "temperature"),
    ({"top_p": -0.1}, "invalid_value", "top_p"),
    ({"n": 0}, "invalid_value", "n"),
    ({"n": 1.5}, "invalid_type", "n"),
    ({"max_tokens": -2}, "invalid_value", "max_tokens"),
    ({"max_completion_tokens": "9"}, "invalid_type", "max_completion_tokens"),
    ({"stop": {}}, "invalid_type", "stop"),
    ({"stop": ["a", 1]}, "invalid_type", "stop[1]"),
    ({"tools": {}}, "invalid_type", "tools"),
    ({"tools": ["f"]}, "invalid_type", "tools[0]"),
    ({"tool_choice": 1}, "invalid_type", "tool_choice"),
    ({"response_format": "json"}, "invalid_type", "response_format"),
    ({"response_format": {}}, "missing_required_parameter", "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "missing_required_parameter", "response_format.json_schema"),
    ({"metadata": []}, "invalid_type", "metadata"),
    ({"store": 1}, "invalid_type", "store"),
    ({"user": 1}, "invalid_type", "user"),
    ({"logit_bias": []}, "invalid_type", "logit_bias"),
]


@pytest.mark.parametrize("fields,code,param", FIELDS, ids=lambda v: v if isinstance(v, str) else json.dumps(v)[:60])
def test_wrong_fields(client, stack, fields, code, param):
    answer = client.post({name: value for name, value in ask("x", **fields).items() if value is not None})
    assert param in refused(answer, 400, code, param)
    line = stack.log_of(answer)
    assert (line["error.type"], line["error.param"]) == ("caller_invalid_request", param)


@pytest.mark.parametrize("body", [b"[]", b'"hello"', b"7", b"null", b"true"], ids=repr)
def test_a_body_that_is_no_object(each, body):
    refused(each.post(body), 400, "invalid_type", None)


def test_a_null_is_as_good_as_nothing(each):
    names = ["stream", "temperature", "n", "stop", "tools", "user", "response_format", "stream_options", "max_tokens"]
    assert each.post(ask("x", **dict.fromkeys(names))).status == 200


def test_an_unknown_model(each, stack):
    answer = each.post(ask("x", model='no"such\nmodel ü'))
    assert 'no"such\nmodel ü' in refused(answer, 404, "model_not_found", "model")
    assert stack.log_of(answer)["gen_ai.request.model"] == 'no"such\nmodel ü'


@pytest.mark.parametrize("depth,status", [(120, 200), (129, 400)])
def test_depth(each, depth, status):
    assert each.post(PREFIX + b',"x":' + b"[" * depth + b"]" * depth + b"}").status == status


@pytest.mark.parametrize("content_type,status", [
    ("application/json", 200), ("application/json; charset=utf-8", 200), ("Application/JSON ;x=y", 200),
    ("text/plain", 415), ("application/jsonx", 415), ("application/x-www-form-urlencoded", 415), ("", 415), (None, 415),
    ("multipart/form-data; boundary=x", 415), ("application/json, text/plain", 415)])
def test_content_types(each, content_type, status):
    answer = each.post(ask("x"), {"Content-Type": content_type})
    assert answer.status == status, answer
    if status == 415:
        refused(answer, 415, "unsupported_media_type", None)


@pytest.mark.parametrize("encoding,status", [("identity", 200), ("gzip", 415), ("br", 415)])
def test_content_encodings(each, encoding, status):
    assert each.post(ask("x"), {"Content-Encoding": encoding}).status == status


# ── Sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def padded(size):
    body = json.dumps(ask("x", user="")).encode()
    return body[:-2] + b"u" * (size - len(body)) + body[-2:]


@pytest.mark.parametrize("size,status", [(256 * 1024, 200), (256 * 1024 + 1, 413), (5 << 20, 413), (30 << 20, 413)])
def test_the_largest_body(each, size, status):
    answer = each.post(padded(size))
    assert answer.status == status
    if status == 413:
        assert "262144" in refused(answer, 413, "body_too_large", None)


@pytest.mark.parametrize("size", [100, 200 << 10, 5 << 20, 30 << 20])
def test_a_refusal_is_not_lost_behind_a_large_body(each, size):
    for _ in range(1 if size > 10 << 20 else 3):
        refused(each.with_key("nobody").post(padded(size)), 401, "invalid_api_key", None)
        refused(each.post(padded(size), path="/v1/nothing"), 404, "unknown_url", None)
        refused(each.post(padded(size), {"Content-Type": "text/plain"}), 415, "unsupported_media_type", None)


def test_large_bodies_at_once(each):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for answer in pool.map(lambda i: each.post(padded(3 << 20)), range(16)):
            refused(answer, 413, "body_too_large", None)


def chunked(each, pieces, end=b"0\r\n\r\n"):
    body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + end
    return each.raw(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo\r\nConnection: close\r\n"
                    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body)


@pytest.mark.parametrize("number", ["1e19", "1e-5", "1e5", "1E0", "9e20", "1e-6", "12345678901234567890"])
def test_the_largest_body_of_numbers_that_we_spell_longer(each, number):
    """1e19 has 4 bytes here and 20 in our spelling: five times the body, and no reason to stumble."""
    head = b"{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"numbers " + number.encode() + b"\"}],\"x\":["
    room = (256 * 1024 - len(head) - 2) // (len(number) + 1)
    body = head + b",".join([number.encode()] * room) + b"]}"
    assert each.post(body).status == 200


def test_a_body_in_chunks(each):
    with chunked(each, [GOOD[:9], GOOD[9:10], GOOD[10:]]) as stream:
        assert stream.whole().status == 200
    with chunked(each, [padded(300 << 10)]) as stream:
        refused(stream.whole(), 413, "body_too_large", None)


def test_a_body_that_is_cut_short_by_a_client_that_leaves(each):
    for cut in 0, 1, len(GOOD) // 2, len(GOOD) - 1:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo\r\nContent-Type: application/json\r\n" \
               f"Content-Length: {len(GOOD)}\r\n\r\n"
        for leave in "close", "reset":
            getattr(each.raw(head.encode() + GOOD[:cut]), leave)()
        chunked(each, [GOOD[:cut]] if cut else [], b"5\r\nab").close()
    assert each.chat("still there").status == 200


# ── Straight to the socket ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def call(stack):
    def send(body=GOOD, path=CHAT, method="POST", **params):
        return stack.pavise.call(path, method, body, **params)
    return send


@pytest.mark.parametrize("length,status,code", [
    (len(GOOD) + 1, 400, "body_incomplete"), (250000, 400, "body_incomplete"), (len(GOOD) - 1, 400, "invalid_json"),
    (0, 400, "invalid_json"), (1 << 40, 413, "body_too_large"), (262145, 413, "body_too_large"),
    *((length, 400, "invalid_header") for length in ("-1", "abc", "1e3", " 5", "+5", "5x", "9" * 20, "0x50"))])
def test_a_content_length_that_is_not_the_bodys(call, length, status, code):
    refused(call(CONTENT_LENGTH=str(length)), status, code, None)


@pytest.mark.parametrize("length", [None, ""], ids=repr)
def test_no_content_length(call, length):
    assert call(CONTENT_LENGTH=length).status == 200
    refused(call(padded(400000), CONTENT_LENGTH=length), 413, "body_too_large", None)
    refused(call(b"", CONTENT_LENGTH=length), 400, "invalid_json", None)


def test_parameters_that_are_missing(call):
    assert call(REQUEST_METHOD=None).status == 405
    assert call(REQUEST_METHOD="").status == 405
    assert call(REQUEST_URI=None).status == 200  # SCRIPT_NAME says it too
    assert call(REQUEST_URI=None, SCRIPT_NAME=None).status == 404
    assert call(CONTENT_TYPE=None).status == 415
    assert call(HTTP_AUTHORIZATION=None).status == 401
    assert call(REMOTE_ADDR=None, SERVER_PROTOCOL=None).status == 200


def test_no_parameters_at_all(stack):
    assert fastcgi.call(stack.pavise.socket, {}).status == 404


HOSTILE = [b"\xff\xfe", b"a\r\nSet-Cookie: x=1\r\n\r\n<html>", b'"}\\', b"%n%s%s%s", b"\x00\x01\x02", b"x" * 60000,
           b"\xe2\x82"]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v[:12]))
@pytest.mark.parametrize("name", [
    "REQUEST_URI", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_ADDR", "HTTP_CONTENT_ENCODING",
    "HTTP_USER_AGENT", "HTTP_AUTHORIZATION", "HTTP_X_REQUEST_ID", "HTTP_TRACEPARENT"])
def test_hostile_values(call, name, value):
    answer = call(**{name: value})
    assert answer.status in (200, 400, 401, 404, 405, 413, 415)
    answer.body.decode("utf-8")
    assert answer.status == 200 or answer.error
    assert "Set-Cookie" not in answer.headers
    [line] = answer.err
    assert line.isascii() and json.loads(line)["http.response.status_code"] == answer.status


def test_hostile_models_and_paths_in_messages(call):
    message = call(path=b"/v1/\xffmodels".decode("latin-1"), method="GET").error["message"]
    assert "Unknown request URL" in message
    call(path="/v1/models/%ff%fe%0d%0a%22", method="GET").error
    call(path="/v1/models/%00", method="GET").error
    call(path="/v1/models/%", method="GET").error


def test_many_and_large_parameters(stack):
    params = params_of(body=GOOD) | {f"HTTP_X_{i}": "v" * 100 for i in range(3000)} | {"HTTP_COOKIE": "c" * 900000}
    assert fastcgi.call(stack.pavise.socket, params, GOOD).status == 200
    assert fastcgi.call(stack.pavise.socket, {**params_of(body=GOOD), "": "", "N" * 70000: "v"}, GOOD).status == 200


REQUEST = begin() + fastcgi.stream(PARAMS, pairs(params_of(body=GOOD)))
GARBAGE = {
    "nothing": b"", "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "zeros": bytes(5000), "noise": bytes(range(256)) * 40,
    "half a record": begin()[:5], "a version of tomorrow": record(1, b"\0\1\0\0\0\0\0\0", version=9),
    "parameters that never end": begin() + record(PARAMS, pairs(params_of())[:20]),
    "a length that lies": begin() + record(PARAMS, b"\xff\xff\xff\xff\xff\xff\xff\xffx") + record(PARAMS),
    "no beginning": record(PARAMS) + record(STDIN), "the wrong role": begin(role=7) + record(PARAMS) + record(STDIN),
    "an authorizer": begin(role=2) + record(PARAMS) + record(STDIN), "a record of an unknown type": record(99, b"abc"),
    "another request's records": begin() + record(PARAMS, b"x", request_id=7),
    "an end from the wrong side": record(END, bytes(8)),
    "two beginnings": begin() + begin() + record(PARAMS) + record(STDIN), "parameters only": REQUEST,
    "half a body": REQUEST + record(STDIN, GOOD[:20]), "an abort at once": begin() + record(ABORT),
    "an abort in the parameters": begin() + record(PARAMS, pairs(params_of())) + record(ABORT),
    "an abort in the body": REQUEST + record(STDIN, GOOD[:20]) + record(ABORT),
}


@pytest.mark.parametrize("leave", ["close", "half-close"])
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_instead_of_fastcgi(stack, name, leave):
    with FastCGI(stack.pavise.socket) as connection:
        try:
            connection.send(GARBAGE[name])
            if leave == "half-close":
                connection.socket.shutdown(socket.SHUT_WR)
                connection.read()
        except BrokenPipeError:
            pass  # it has had enough


def test_one_who_leaves_with_the_request_sent_is_logged_once(stack):
    request_id = unique("gone").replace(" ", "-")
    [worker] = stack.pavise.workers()
    os.kill(worker, signal.SIGSTOP)  # so that it finds the request and the end of the connection together
    try:
        with FastCGI(stack.pavise.socket) as connection:
            connection.request(params_of(body=GOOD, HTTP_X_REQUEST_ID=request_id), GOOD)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert stack.log_of(request_id)["key_id"] == "demo"


def test_several_requests_on_one_connection(stack):
    with FastCGI(stack.pavise.socket) as connection:
        for _ in range(3):
            connection.send(begin(flags=fastcgi.KEEP_CONNECTION) + fastcgi.stream(PARAMS, pairs(params_of(body=GOOD)))
                            + fastcgi.stream(STDIN, GOOD))
            assert connection.answer().status == 200
            connection.out, connection.ended = b"", False


def test_records_in_single_bytes_and_with_padding(stack):
    sent = begin() + record(PARAMS, pairs(params_of(body=GOOD)), padding=255) + record(PARAMS) \
        + b"".join(record(STDIN, GOOD[i:i + 1], padding=i % 8) for i in range(len(GOOD))) + record(STDIN)
    with FastCGI(stack.pavise.socket) as connection:
        for i in range(len(sent)):
            connection.send(sent[i:i + 1])
        assert connection.answer().status == 200


@pytest.mark.parametrize("name,body,param", [
    ("model", {"model": "demo\0x"}, "model"),
    ("role", {"messages": [{"role": "user\0x", "content": "hi"}]}, "messages[0].role"),
])
def test_a_name_with_nul_in_it_is_no_name(each, name, body, param):
    assert each.post(json.dumps({**ask("nul"), **body})).status == 400
    assert each.post(json.dumps({**ask("nul"), **body})).error["param"] == param


def test_an_absolute_target_is_its_path(each):
    answer = each.raw(b"GET http://127.0.0.1/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer demo\r\n"
                      b"Connection: close\r\n\r\n")
    assert answer.whole().status == 200


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(start):
    """A slow upload holds a worker; here, one with the head of a body and then nothing, and one that drips."""
    stack = start({"server": {"body_timeout": "1s"}}, webs=())
    for rest in [], [b"x"] * 4:
        with FastCGI(stack.pavise.socket) as slow:
            slow.send(begin() + fastcgi.stream(PARAMS, pairs(params_of(body=b" " * 500))) + record(STDIN, b'{"model'))
            for piece in rest:
                slow.send(record(STDIN, piece))
                time.sleep(0.3)
            answer = slow.answer()
        assert answer.status == 408 and answer.error["code"] == "body_timeout"
        assert set(answer.error) == {"message", "type", "param", "code"}


def test_many_small_values_are_too_much(start):
    """Two bytes of JSON can become seven hundred in memory."""
    stack = start({"server": {"max_body": "1MiB"}}, webs=())
    for value in b"{}", b"[]", b'{"a":0}':
        body = b'{"model":"demo","messages":[{"role":"user","content":"x"}],"x":[' + b",".join(
            [value] * (1000000 // (len(value) + 1))) + b"]}"
        answer = stack.pavise.call(CHAT, "POST", body)
        assert (answer.status, answer.error["code"]) == (413, "body_too_large"), value
