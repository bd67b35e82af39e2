"""Whatever a provider does: the right status and code, a log line that says whose fault it was, and nothing stored."""

import json
import socket
import time

import pytest

from client import CHAT, ask, unique
from fastcgi import FastCGI, params_of
from process import free_port
from provider import Call, chunk, completion, usage_chunk

COMMIT_AFTER = 1


def provider_of(**timeout):
    return {"base_url": "http://127.0.0.1:${FAKE_PORT}/v1", "timeout": timeout}


CONFIG = {
    "stream": {"commit_after": f"{COMMIT_AFTER}s"},
    "providers": {
        "first": provider_of(first_byte="400ms"), "between": provider_of(between_bytes="400ms"),
        "total": provider_of(total="600ms"), "late": provider_of(first_byte="1500ms"),
        "small": {"base_url": "http://127.0.0.1:${FAKE_PORT}/v1", "max_response": "2KiB"},
        "refused": {"base_url": "http://127.0.0.1:${REFUSED_PORT}/v1"},
        "full": {"base_url": "http://127.0.0.1:${FULL_PORT}/v1", "timeout": {"connect": "400ms"}},
    },
    "models": {name: {"provider": name} for name in ("first", "between", "total", "late", "small", "refused", "full")},
    "server": {"workers": {"min": 4, "max": 8, "spare": 1}},
}


def full_backlog():
    """A socket that listens and to which no connection comes about, and what keeps it full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    guests = []
    for _ in range(8):
        guest = socket.socket()
        guest.setblocking(False)
        guest.connect_ex(listener.getsockname())
        guests.append(guest)
    return listener, guests


BUSY, BUSY_GUESTS = full_backlog()
STACK = {"env": {"FULL_PORT": str(BUSY.getsockname()[1]), "REFUSED_PORT": str(free_port())}}
BODY = json.dumps(completion("Fine.")).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def sends(*pieces, then="close"):
    """A script that sends these bytes and then closes, resets or hangs."""
    def script(call):
        for piece in pieces:
            call.send(piece)
        getattr(call, then)()
    return script


def drips(head, piece):
    """A script that sends a piece every 50 ms, for ever."""
    def script(call):
        call.send(head)
        while not call.peer_gone(0.05):
            call.send(piece)
        call.closing = True
        call.finish()
    return script


def forgotten(stack, client, body):
    """Nothing of it was stored: the same question is a miss, is asked again, and gets its answer."""
    prompt = body["messages"][-1]["content"]
    before = stack.provider.calls(prompt)
    stack.provider.on(Call.plain, prompt)
    answer = client.post(body)
    assert (answer.status, answer.cache) == (200, "MISS")
    assert stack.provider.calls(prompt) == before + 1


def fails(stack, client, script, status, code, model="demo", error_type=None, again=True, **fields):
    """
    One request to a provider with this script: checks everything about its failure; the answer and the log line.
    again: whether to ask the provider once more, for an answer. fields: of the request.
    """
    body = ask(stack.provider.on(script), model=model, **fields)
    answer = client.post(body)
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.error["code"] == code, answer
    line = stack.log_of(answer)
    assert (line["error.type"], line["http.response.status_code"]) == (error_type or code, status)
    assert line["level"] == ("error" if status >= 500 else "warn") and line["cache"] == "miss" and not line["stored"]
    if again:
        forgotten(stack, client, body)
    return answer, line


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def streamed(request):
    return request.param


# ── Before anything of an answer ──────────────────────────────────────────────────────────────────────────────────────


def test_refused(client, stack, streamed):
    _, line = fails(stack, client, None, 502, "provider_unreachable", "refused", again=False, stream=streamed)
    assert "connect" in line["upstream_error"] and line["upstream_duration"] >= 0


def test_no_connection_in_time(client, stack, streamed):
    fails(stack, client, None, 504, "provider_connect_timeout", "full", again=False, stream=streamed)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["nothing", "half a head"])
def test_no_first_byte_in_time(client, stack, streamed, sent):
    fails(stack, client, sends(sent, then="hang"), 504, "provider_timeout", "first", stream=streamed)


def test_no_first_byte_in_time_after_the_commitment(each, stack):
    prompt = stack.provider.on(Call.hang)
    with each.stream(ask(prompt, model="late", stream=True)) as stream:
        assert stream.status == 200
        [error] = [e for e in stream if e.data is not None]
        assert error.json["error"]["code"] == "provider_timeout"
    line = stack.log_of(stream)
    assert (line["error.type"], line["http.response.status_code"]) == ("provider_timeout", 200)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 20", HEAD[:40], HEAD[:-2]], ids=len)
def test_the_connection_ends_before_the_body(client, stack, streamed, sent, then):
    fails(stack, client, sends(sent, then=then), 502, "provider_connection_broken", stream=streamed)


@pytest.mark.parametrize("sent", [b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01\x00\x05hello", b"HTTP/1.1 abc\r\n\r\n",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                                  b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n{}"], ids=lambda b: repr(b[-12:]))
def test_what_is_no_http(each, stack, sent):
    fails(stack, each, sends(sent), 502, "provider_connection_broken")


# ── Whole answers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("cut", [0, 1, len(BODY) // 2, len(BODY) - 1])
def test_a_body_that_is_cut(each, stack, cut, then):
    fails(stack, each, sends(HEAD + BODY[:cut], then=then), 502, "provider_connection_broken")


def test_a_chunked_body_that_is_cut(client, stack, streamed):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for cut in b"%x\r\n%s" % (len(BODY), BODY), b"%x\r\n%s\r\n" % (len(BODY), BODY), b"5\r\n{":
        fails(stack, client, sends(head + cut), 502, "provider_connection_broken", stream=streamed)


def test_silence_in_mid_body(each, stack):
    fails(stack, each, sends(HEAD + BODY[:9], then="hang"), 504, "provider_stalled", "between")


def test_an_answer_that_drips_for_too_long(each, stack):
    head = HEAD.replace(b"%d" % len(BODY), b"9999")
    fails(stack, each, drips(head, b" "), 504, "provider_timeout", "total")


NO_COMPLETIONS = {"nothing": b"", "a page": b"<html>OK</html>", "half of it": BODY[:-1], "an array": b"[]",
                  "null": b"null", "no choices": b"{}", "wrong choices": b'{"choices":{"a":1}}',
                  "not UTF-8": BODY.replace(b"Fine", b"\xff\xfe")}

# JSON to every SDK's library, though not to us
LOOSE = {"twice the same name": BODY[:-1] + b',"x":1,"x":2}', "half a character": BODY.replace(b"Fine", b"\\ud83d"),
         "a number beyond 64 bits": BODY[:-1] + b',"x":123456789012345678901234567890}'}


@pytest.mark.parametrize("name", LOOSE)
def test_loose_json_is_passed_on_and_forgotten(client, stack, name):
    prompt = stack.provider.on(lambda call: call.answer(LOOSE[name]))
    for _ in range(2):
        answer = client.chat(prompt)
        assert (answer.status, answer.body, answer.cache) == (200, LOOSE[name], "MISS")
        assert answer.headers["Cache-Status"] == "pavise; fwd=uri-miss"
    assert stack.provider.calls(prompt) == 2


@pytest.mark.parametrize("where", ["beside choices", "in the choice", "as a reason"])
def test_an_error_among_choices_is_never_remembered(client, stack, streamed, where):
    """OpenRouter's way: the error stands in a chunk that has choices, too."""
    error = {"message": "upstream fell over", "code": 502}
    choice = {"index": 0, "finish_reason": "error" if where == "as a reason" else "stop"}
    if where == "in the choice":
        choice["error"] = error

    def script(call):
        extra = {"error": error} if where == "beside choices" else {}
        if not call.json.get("stream"):
            return call.answer({**completion("half"), "choices": [
                {**choice, "message": {"role": "assistant", "content": "half"}}], **extra})
        call.stream_head()
        call.event(chunk("half"))
        call.event({**chunk(), "choices": [{**choice, "delta": {}}], **extra})
        call.end_stream()
    prompt = stack.provider.on(script)
    for _ in range(2):
        assert client.post(ask(prompt, stream=streamed)).headers["X-Cache"] == "MISS"
    assert stack.provider.calls(prompt) == 2


def test_what_a_choice_says_again_and_again_is_said_once(client, stack):
    """Azure's way: filter results in every chunk, prompt_filter_results in one of their own."""
    results = {"hate": {"filtered": False, "severity": "safe"}}

    def script(call):
        call.stream_head()
        call.event({**chunk(), "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
        for piece in "a", "b", "c":
            call.event({**chunk(), "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None,
                                                "content_filter_results": results}]})
        call.event(chunk(finish="stop"))
        call.end_stream()
    prompt = stack.provider.on(script)
    client.chat(prompt, stream=True)
    hit = client.chat(prompt)
    assert hit.cache == "HIT" and hit.json["choices"][0]["content_filter_results"] == results
    assert hit.json["prompt_filter_results"] == [{"prompt_index": 0}]
    replayed = client.chat(prompt, stream=True)
    assert replayed.events[0]["choices"] == []
    assert [e["choices"][0].get("content_filter_results") for e in replayed.events[1:4]] == [results] * 3
    assert ["prompt_filter_results" in e for e in replayed.events[:-1]] == [True, False, False, False, False]


def test_empty_ids_and_reasons_are_not_said(client, stack):
    """Qwen's way: later fragments of a tool call have an empty id and name, every chunk an empty reason."""
    def call_of(**fields):
        return {**chunk(), "choices": [{"index": 0, "finish_reason": "", "delta": {"tool_calls": [{"index": 0, **fields}]}}]}

    def script(call):
        call.stream_head()
        call.event(call_of(id="call_1", type="function", function={"name": "f", "arguments": ""}))
        call.event(call_of(id="", type="function", function={"name": "", "arguments": '{"a":'}))
        call.event(call_of(id="", type="function", function={"name": "", "arguments": "1}"}))
        call.event(chunk(finish="tool_calls"))
        call.end_stream()
    prompt = stack.provider.on(script)
    client.chat(prompt, stream=True)
    hit = client.chat(prompt)
    assert hit.cache == "HIT"
    assert hit.json["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
    again = client.chat(prompt, stream=True).events[:-2]
    assert [e["choices"][0]["delta"]["tool_calls"][0]["id"] for e in again] == ["call_1", "", ""]


def test_an_answer_of_many_small_values_is_not_held(start):
    """Two bytes each from the provider, hundreds in memory: bounded as a client's are."""
    s = start({"providers": {"fake": {"max_response": "4MiB"}}}, webs=())
    prompt = s.provider.on(lambda call: call.answer(b'{"choices":[' + b",".join([b"{}"] * 1000000) + b"]}"))
    answer = s.pavise.call(CHAT, "POST", json.dumps(ask(prompt)).encode())
    assert (answer.status, answer.error["code"]) == (502, "provider_response_too_large")


def test_choices_that_came_in_one_chunk_are_played_in_one(client, stack):
    def both(**choice):
        return {**chunk(), "choices": [{"index": i, "finish_reason": None, "delta": {}, **choice} for i in (0, 1)]}

    def script(call):
        call.stream_head()
        for piece in "a", "b":
            call.event(both(delta={"content": piece}))
        call.event(chunk("only the first"))
        call.event(both(finish_reason="stop"))
        call.end_stream()
    prompt = stack.provider.on(script)

    def shape(answer):
        return [[(c["index"], c["delta"], c["finish_reason"]) for c in e["choices"]] for e in answer.events[:-1]]
    first = client.chat(prompt, stream=True, n=2)
    again = client.chat(prompt, stream=True, n=2)
    assert again.cache == "HIT" and shape(again) == shape(first)


def test_a_stream_that_ends_before_every_choice_has_begun_is_cut(client, stack):
    def script(call):
        call.stream_head()
        call.event(chunk("only one"))
        call.event(chunk(finish="stop"))
        call.end_stream(done=False)
    answer = client.post(ask(stack.provider.on(script), stream=True, n=2))
    assert answer.events[-1]["error"]["code"] == "provider_connection_broken"


def test_a_usage_chunk_without_choices_is_for_us_alone(client, stack):
    def script(call):
        call.stream_head()
        call.event(chunk("x"))
        call.event(chunk(finish="stop"))
        call.event({**usage_chunk(), "choices": None})
        call.end_stream()
    answer = client.chat(stack.provider.on(script), stream=True)
    assert all(event["choices"] for event in answer.events[:-1])


@pytest.mark.parametrize("name", NO_COMPLETIONS)
def test_a_200_that_is_no_completion(client, stack, streamed, name):
    def script(call):
        call.answer(NO_COMPLETIONS[name])
    fails(stack, client, script, 502, "provider_invalid_response", stream=streamed)


def test_an_error_that_says_200(client, stack, streamed):
    def script(call):
        call.error(200, "fell over")
    answer, _ = fails(stack, client, script, 502, "fake_code", error_type="provider_error", stream=streamed)
    assert answer.error["message"] == "fell over"


@pytest.mark.parametrize("choices", [
    [], [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": None}],
    [{"index": 0, "finish_reason": "stop"}]], ids=["none", "unfinished", "no message"])
def test_an_incomplete_answer_is_passed_on_but_not_stored(client, stack, choices):
    body = ask(stack.provider.on(lambda call: call.answer(completion(choices=choices))))
    answer = client.post(body)
    assert answer.status == 200 and answer.json["choices"] == choices
    assert "stored" not in answer.headers["Cache-Status"] and not stack.log_of(answer)["stored"]
    forgotten(stack, client, body)


@pytest.mark.parametrize("status", [204, 205, 301, 302, 307, 308, 304, 300])
def test_a_status_that_is_no_answer(client, stack, streamed, status):
    def script(call):
        call.head(status, {"Location": f"http://127.0.0.1:{stack.provider.port}/v1/elsewhere", "Content-Length": "0"})
        call.finish()
    fails(stack, client, script, 502, "provider_invalid_response", stream=streamed)
    assert not any("elsewhere" in call.path for call in stack.provider.seen)  # redirects are not followed


def test_an_answer_that_is_too_large(client, stack, streamed):
    def script(call):
        call.answer(completion("x" * 3000))
    fails(stack, client, script, 502, "provider_response_too_large", "small", stream=streamed)
    prompt = stack.provider.on(lambda call: call.answer(completion("x" * 1000)))
    assert client.chat(prompt, model="small").cache == "MISS"


def test_sse_for_a_json_request(each, stack):
    fails(stack, each, lambda call: call.stream(["a", "b"]), 502, "provider_invalid_response")


def chunks_of(data, size, trailer=b""):
    pieces = [data[i:i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n" + trailer + b"\r\n"


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-TYPE:application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = {  # what is strange and right
    "chunked": [CHUNKED + chunks_of(BODY, 7)],
    "trailers": [CHUNKED + chunks_of(BODY, 100, b"X-T: 1\r\nRetry-After: 9\r\n")],
    "100 first": [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + BODY],
    "103 first": [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Type: text/html\r\n\r\n" + HEAD + BODY],
    "to the end": [b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + BODY],
    "without a type": [b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY],
    "byte by byte": [bytes([byte]) for byte in HEAD + BODY],
}


@pytest.mark.parametrize("name", GOOD)
def test_strange_but_right(client, stack, streamed, name):
    prompt = stack.provider.on(sends(*GOOD[name]))
    answer = client.chat(prompt, stream=streamed)
    again = client.chat(prompt)
    assert again.cache == "HIT" and again.json["choices"] == completion("Fine.")["choices"]
    if streamed:
        assert answer.events[1]["choices"][0]["delta"]["content"] == "Fine." and answer.events[-1] == "[DONE]"
    else:
        assert answer.body == BODY


def test_what_is_no_number_ends_nobody(client, stack, streamed):
    """NaN is JSON to some: one body is passed on as it is, and as a stream it becomes null."""
    body = json.dumps(completion("Fine.", score=float("nan"))).encode()
    prompt = stack.provider.on(lambda call: call.answer(body))
    answer = client.chat(prompt, stream=streamed)
    assert (answer.status, answer.cache) == (200, "MISS")
    assert b"NaN" not in answer.body if streamed else answer.body == body
    assert stack.pavise.deaths() == []


def test_a_slow_drip_within_the_limits(client, stack):
    def script(call):
        call.send(HEAD)
        for i in range(0, len(BODY), 40):
            call.send(BODY[i:i + 40])
            time.sleep(0.05)  # the drip itself
        call.finish()
    assert client.chat(stack.provider.on(script), model="between").body == BODY


def test_a_slow_client_is_not_the_providers_silence(stack):
    """3 MB at once from the provider, and a client that looks away for longer than the provider may."""
    pieces = ["x" * 10000] * 300
    prompt = stack.provider.on(lambda call: call.stream(pieces))
    body = json.dumps(ask(prompt, model="between", stream=True)).encode()
    with FastCGI(stack.pavise.socket) as slow:
        slow.request(params_of(body=body), body)
        time.sleep(1.2)  # does not read: three times between_bytes
        answer = slow.answer()
    assert answer.body.rstrip().endswith(b"data: [DONE]") and answer.body.count(b"x" * 10000) == 300


# ── Errors that a provider says ───────────────────────────────────────────────────────────────────────────────────────


def test_an_error_in_openais_shape(each, stack):
    answer, line = fails(stack, each, lambda call: call.error(429, "slow down", {"Retry-After": "7"}, param="model"),
                         429, "fake_code", error_type="provider_error")
    assert answer.error == {"message": "slow down", "type": "fake_error", "param": "model", "code": "fake_code"}
    assert (answer.headers["Retry-After"], answer.headers["retry-after-ms"]) == ("7", "7000")
    assert answer.headers["x-pavise-upstream-request-id"] == line["upstream_request_id"] == "req_fake"


OURS = "The provider 'fake' answered with status 502."


@pytest.mark.parametrize("body,message", [
    (b"<html><h1>502 Bad Gateway</h1></html>", OURS), (b"", OURS), (b"{", OURS), (b"[1]", OURS),
    (b'{"error":null}', OURS), (b'{"detail":"another shape"}', "another shape"), (b'{"error":"as a string"}', "as a string"),
    (b'{"error":{"message":"only this"}}', "only this"), (b"x" * 2000000, None)],
    ids=lambda v: repr(v[:14]) if isinstance(v, bytes) else "")
def test_an_error_in_any_other_shape(client, stack, streamed, body, message):
    prompt = stack.provider.on(lambda call: call.answer(body, 502, {"Content-Type": "text/html"}))
    answer = client.post(ask(prompt, stream=streamed))
    assert answer.status == 502 and answer.headers["Content-Type"] == "application/json"
    assert message is None or answer.error["message"] == message
    assert answer.error["type"] and stack.log_of(answer)["error.type"].startswith("provider_")


@pytest.mark.parametrize("given", ["-5", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "99999999999999999999", "1e9", ""])
def test_any_other_retry_after(client, stack, given):
    prompt = stack.provider.on(lambda call: call.error(503, headers={"Retry-After": given}))
    answer = client.post(ask(prompt))
    assert answer.status == 503
    for header in "Retry-After", "retry-after-ms":
        assert int(answer.headers[header] or 0) >= 0


# ── Streams ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def breaks(stack, client, script, code, model="demo", error_type=None):
    """A stream that fails in its middle: what came, then one error event, and no [DONE]. Returns the error."""
    body = ask(stack.provider.on(script), model=model, stream=True)
    answer = client.post(body)
    assert answer.status == 200, answer
    *events, last = answer.events
    assert [e["choices"][0]["delta"]["content"] for e in events] == ["a", "b"]
    assert list(last) == ["error"] and set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["code"] == code, last
    line = stack.log_of(answer)
    assert (line["error.type"], line["http.response.status_code"]) == (error_type or code, 200)
    assert not line["stored"] and line["level"] in ("warn", "error")
    forgotten(stack, client, body)
    return last["error"]


def stream_then(then, *events):
    """A script: a stream of a, b and these events; then what becomes of the connection."""
    def script(call):
        call.stream_head()
        for event in (chunk("a"), chunk("b"), *events):
            call.event(event)
        then(call)
    return script


def cut_in_an_event(call):
    call.write(b'data: {"id":"x","choices":[{"index":0,"del')
    call.close()


def end_in_an_event(call):
    call.write(b"data: " + json.dumps(chunk("c")).encode())  # without the empty line an event is none
    call.end_stream(done=False)


@pytest.mark.parametrize("then", [Call.close, Call.reset, cut_in_an_event, end_in_an_event,
                                  lambda call: call.end_stream(done=False)],
                         ids=["close", "reset", "inside an event", "an unfinished event", "a proper end"])
def test_a_stream_that_ends_in_its_middle(each, stack, then):
    breaks(stack, each, stream_then(then), "provider_connection_broken")


def test_silence_in_mid_stream(each, stack):
    breaks(stack, each, stream_then(Call.hang), "provider_stalled", "between")


def test_a_stream_of_comments_that_never_ends(each, stack):
    def script(call):
        stream_then(lambda call: None)(call)
        while not call.peer_gone(0.05):
            call.write(b": still thinking\n\n")
        call.closing = True
        call.finish()
    breaks(stack, each, script, "provider_timeout", "total")


def test_an_error_event_in_mid_stream(each, stack):
    event = {"error": {"message": "The model fell over.", "type": "fake_error", "param": None, "code": "fake_code"}}
    error = breaks(stack, each, stream_then(Call.end_stream, event), "fake_code", error_type="provider_error")
    assert error == event["error"]


def test_an_error_event_in_another_shape(client, stack):
    error = breaks(stack, client, stream_then(Call.end_stream, {"error": "fell over"}), "provider_error")
    assert error["message"] == "fell over"


@pytest.mark.parametrize("then", ["close", "end_stream"])
def test_a_stream_without_an_event(client, stack, then):
    def script(call):
        call.stream_head()
        call.end_stream(done=False) if then == "end_stream" else call.close()
    answer = client.post(ask(stack.provider.on(script), stream=True))
    assert "provider_connection_broken" in answer.body.decode() and b"[DONE]" not in answer.body


def whole(stack, client, script, stored):
    """A stream that the client gets to its end all the same."""
    prompt = stack.provider.on(script)
    answer = client.chat(prompt, stream=True)
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in answer.events[:-1]) == "ab"
    assert answer.events[-1] == "[DONE]" and answer.events.count("[DONE]") == 1
    assert stack.log_of(answer)["stored"] is stored
    if not stored:
        forgotten(stack, client, ask(prompt, stream=True))
    else:
        assert client.chat(prompt).cache == "HIT"


def test_a_whole_answer_without_done(each, stack):
    whole(stack, each, stream_then(lambda call: call.end_stream(done=False), chunk(finish="stop")), False)


def test_done_and_then_silence(each, stack):
    started = time.monotonic()
    whole(stack, each, stream_then(Call.hang, chunk(finish="stop"), "[DONE]"), True)
    assert time.monotonic() - started < 30  # and not a time limit's minute


def test_done_and_then_a_cut(each, stack):
    whole(stack, each, stream_then(Call.close, chunk(finish="stop"), "[DONE]"), True)


def test_done_without_a_finish(client, stack):
    whole(stack, client, stream_then(Call.end_stream), False)


def test_nothing_after_done_is_passed_on(client, stack):
    more = chunk("more"), {"error": "x"}, "[DONE]"
    whole(stack, client, stream_then(Call.end_stream, chunk(finish="stop"), "[DONE]", *more), True)


def test_an_event_that_is_no_json_is_passed_on_but_nothing_is_stored(client, stack):
    prompt = stack.provider.on(stream_then(Call.end_stream, "strange", chunk(finish="stop")))
    with client.stream(ask(prompt, stream=True)) as stream:
        data = stream.rest()
    assert data[2] == "strange" and data[-1] == "[DONE]"
    assert not stack.log_of(stream)["stored"]
    forgotten(stack, client, ask(prompt))


def test_usage_in_the_last_chunk_of_a_choice(client, stack):
    last = {**chunk(finish="stop"), "usage": usage_chunk()["usage"]}
    prompt = stack.provider.on(stream_then(Call.end_stream, last))
    plain = client.chat(prompt, stream=True)
    assert not any("usage" in e for e in plain.events[:-1])
    assert client.chat(prompt).json["usage"] == last["usage"]
    assert stack.log_of(plain)["gen_ai.usage.output_tokens"] == 7


def test_json_for_a_stream_request_serves_both_forms(each, stack):
    prompt = stack.provider.on(lambda call: call.answer(completion("Fine.")))
    stream = each.chat(prompt, stream=True)
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.events[1]["choices"][0]["delta"]["content"] == "Fine." and stream.events[-1] == "[DONE]"
    assert each.chat(prompt, stream=True).cache == "HIT"
    assert each.chat(prompt).json["choices"] == completion("Fine.")["choices"]
    assert stack.provider.calls(prompt) == 1


def test_a_stream_larger_than_max_response_is_passed_on_but_not_collected(client, stack):
    prompt = stack.provider.on(lambda call: call.stream(["x" * 500] * 20))
    answer = client.chat(prompt, model="small", stream=True)
    assert answer.events[-1] == "[DONE]" and answer.body.count(b"x" * 500) == 20
    assert not stack.log_of(answer)["stored"]
