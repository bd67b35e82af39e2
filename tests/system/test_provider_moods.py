"""What else a provider may be in the mood for: every cut, every status, compression unasked, answers without end."""

import concurrent.futures
import gzip
import json
import time
import zlib

import pytest

from client import ask, events_of, unique
from process import wait_until
from provider import USAGE, Call, chunk, completion, usage_chunk

BASE = "http://127.0.0.1:${FAKE_PORT}/v1"
CONFIG = {
    "providers": {
        "bare": {"base_url": BASE, "stream_options": False},
        "small": {"base_url": BASE, "max_response": "1MiB"},
        "hasty": {"base_url": BASE, "timeout": {"first_byte": "20s", "total": "20s"}},
    },
    "models": {name: {"provider": name} for name in ("bare", "small", "hasty")},
    "server": {"workers": {"min": 8, "max": 32, "spare": 8}},
}
MUCH = 1 << 30
GOOD = completion("Fine.")


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def streamed(request):
    return request.param


@pytest.fixture(autouse=True)
def workers_are_free(stack):
    """Behind every test there is somebody to answer, and nobody has died."""
    yield
    assert stack.client.get("/readyz").status == 200
    assert stack.client.chat(unique()).cache == "MISS"
    assert not stack.pavise.deaths()


def texts_of(events):
    return [c["delta"]["content"] for e in events for c in e.get("choices", []) if c["delta"].get("content")]


def forgotten(stack, client, body):
    """Nothing of it was stored."""
    prompt = body["messages"][-1]["content"]
    stack.provider.on(Call.plain, prompt)
    assert client.post(body).cache == "MISS"


def fails(stack, client, script, status, code, **fields):
    body = ask(stack.provider.on(script), **fields)
    answer = client.post(body)
    assert answer.status == status, answer
    assert answer.error["code"] == code, answer
    line = stack.log_of(answer)
    assert line["error.type"] == code and not line["stored"]
    forgotten(stack, client, body)
    return answer, line


# ── One that does not know stream_options ─────────────────────────────────────────────────────────────────────────────


def bare(call):
    """Refuses what it does not know, and never speaks of usage in a stream."""
    if "stream_options" in call.json:
        call.error(400, "Unrecognized request argument supplied: stream_options")
    elif call.json.get("stream"):
        call.stream(["a", "b"], usage=False)
    else:
        call.answer(completion("ab"))


def test_stream_options_are_not_added(each, provider, stack):
    prompt = provider.on(bare)
    body = ask(prompt, model="bare", stream=True, seed=1)
    answer = each.post(body)
    assert texts_of(answer.events[:-1]) == ["a", "b"] and answer.events[-1] == "[DONE]"
    assert provider.requests(prompt)[0].body.decode() == json.dumps(body, separators=(",", ":"))
    line = stack.log_of(answer)
    assert line["stored"] and "cost_usd" not in line and "gen_ai.usage.output_tokens" not in line
    for stream in False, True:
        assert each.chat(prompt, model="bare", stream=stream, seed=1).cache == "HIT"


@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": False}, {}, {"x": 1}], ids=str)
def test_stream_options_of_the_client_stay_here(client, provider, options):
    """The SDKs' users ask for usage without a thought; whoever would refuse that does not get to see it."""
    prompt = provider.on(bare)
    answer = client.chat(prompt, model="bare", stream=True, stream_options=options)
    assert answer.status == 200 and answer.events[-1] == "[DONE]"
    assert "stream_options" not in provider.requests(prompt)[0].json


def test_one_who_asks_for_usage_sees_it_only_if_there_is_some(client, provider):
    prompt = provider.on(bare)
    client.chat(prompt, model="bare", stream=True)
    hit = client.chat(prompt, model="bare", stream=True, stream_options={"include_usage": True})
    assert hit.cache == "HIT" and texts_of(hit.events[:-1]) == ["a", "b"] and hit.events[-1] == "[DONE]"
    assert not any(event.get("usage") for event in hit.events[:-1])


def test_all_others_are_asked_for_usage(client, provider, stack):
    prompt = unique()
    answer = client.chat(prompt, stream=True)
    assert provider.requests(prompt)[0].json["stream_options"] == {"include_usage": True}
    assert stack.log_of(answer)["gen_ai.usage.output_tokens"] == USAGE["completion_tokens"]


# ── Every status ──────────────────────────────────────────────────────────────────────────────────────────────────────


STATUSES = [400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422,
            423, 424, 425, 426, 428, 429, 431, 444, 451, 498, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510,
            511, 520, 522, 524, 529, 530, 598, 599]
BODIES = {"OpenAI's": {"error": {"message": "not now", "type": "t", "param": "p", "code": "c"}},
          "a page": b"<html>no</html>", "nothing": b"",
          "a number as code": {"error": {"message": "not now", "code": 7}}}


@pytest.mark.parametrize("status", STATUSES)
def test_every_status(client, provider, stack, status):
    """Its own, in OpenAI's shape, as JSON and for a stream; and nothing is stored."""
    for name, body in BODIES.items():
        for stream in False, True:
            request = ask(provider.on(lambda call, body=body: call.answer(body, status, {"Retry-After": "3"})))
            answer = client.post({**request, "stream": stream})
            assert answer.status == status, (name, answer)
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Retry-After"] == "3" and answer.headers["retry-after-ms"] == "3000"
            if name == "OpenAI's":
                assert answer.error == BODIES[name]["error"]
            elif name == "a number as code":
                assert (answer.error["message"], answer.error["code"]) == ("not now", 7)
            else:
                assert str(status) in answer.error["message"] and answer.error["code"] == "provider_error"
            line = stack.log_of(answer)
            assert (line["error.type"], line["http.response.status_code"]) == ("provider_error", status)
            assert not line["stored"] and provider.calls(request["messages"][0]["content"]) == 1
    forgotten(stack, client, request)


@pytest.mark.parametrize("status", [401, 404, 429, 500, 529, 599])
def test_a_status_through_each_web_server(each, provider, status):
    answer = each.post(ask(provider.on(lambda call: call.error(status, "not now"))))
    assert (answer.status, answer.error["message"]) == (status, "not now")


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 226, 299, 600, 999, 99])
def test_a_status_beside_them(client, provider, stack, status):
    """Only 200 is an answer, and what is no status of HTTP's is no answer either."""
    prompt = provider.on(lambda call: call.answer(GOOD, status))
    answer = client.post(ask(prompt))
    if status == 200:
        assert answer.json == GOOD
        return
    assert answer.status == 502 and answer.error["code"].startswith("provider_"), answer
    assert not stack.log_of(answer)["stored"]
    forgotten(stack, client, ask(prompt))


# ── Compression that nobody asked for ─────────────────────────────────────────────────────────────────────────────────


PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress, "GZIP": gzip.compress, "x-gzip": gzip.compress}


@pytest.mark.parametrize("coding", PACKERS)
def test_a_compressed_answer(each, provider, coding):
    body = json.dumps(completion("Fine. " * 3000)).encode()
    prompt = provider.on(lambda call: call.answer(PACKERS[coding](body), headers={"Content-Encoding": coding}))
    miss, hit = each.chat(prompt), each.chat(prompt)
    assert miss.body == body and "Content-Encoding" not in miss.headers
    assert hit.cache == "HIT" and hit.json["choices"] == miss.json["choices"]


def test_a_compressed_error(each, provider):
    packed = gzip.compress(json.dumps({"error": {"message": "not now"}}).encode())
    for stream in False, True:
        prompt = provider.on(lambda call: call.answer(packed, 429, {"Content-Encoding": "gzip"}))
        answer = each.post(ask(prompt, stream=stream))
        assert (answer.status, answer.error["message"]) == (429, "not now")


def test_a_compressed_stream_arrives_as_it_is_made(each, provider, stack):
    prompt = provider.manual()
    with each.stream(ask(prompt, stream=True)) as stream:
        call, packer = provider.take(prompt), zlib.compressobj(wbits=31)
        call.stream_head({"Content-Encoding": "gzip"})

        def event(data):
            text = data if isinstance(data, str) else json.dumps(data)
            call.write(packer.compress(f"data: {text}\n\n".encode()) + packer.flush(zlib.Z_SYNC_FLUSH))
        for i in range(5):
            event(chunk(f"{i} "))
            assert stream.next_data().content == f"{i} "
        event(chunk(finish="stop"))
        event(usage_chunk())
        event("[DONE]")
        call.write(packer.flush())
        call.end_stream(done=False)
        assert stream.rest()[-1] == "[DONE]"
    assert stack.log_of(stream)["stored"]
    assert texts_of(each.chat(prompt, stream=True).events[:-1]) == [f"{i} " for i in range(5)]


PACKED = gzip.compress(json.dumps(GOOD).encode())
SPOILED = {
    "cut": (PACKED[:-12], "gzip"), "nothing": (b"", "gzip"),
    "a wrong checksum": (PACKED[:-8] + b"\0" * 8, "gzip"), "no gzip": (json.dumps(GOOD).encode(), "gzip"),
    "an unknown coding": (json.dumps(GOOD).encode(), "br"), "a coding of tomorrow": (b"x", "zzz"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_compression_that_is_spoiled(client, provider, stack, streamed, name):
    data, coding = SPOILED[name]
    body = ask(provider.on(lambda call: call.answer(data, headers={"Content-Encoding": coding})), stream=streamed)
    answer = client.post(body)
    assert answer.status == 502, answer
    assert answer.error["code"] in ("provider_connection_broken", "provider_invalid_response")
    assert not stack.log_of(answer)["stored"]
    forgotten(stack, client, body)


def test_a_small_answer_that_unpacks_to_a_large_one(client, provider, stack, streamed):
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(b" " * (1 << 20)) for _ in range(64)) + bomb.flush()
    body = ask(provider.on(lambda call: call.answer(packed, headers={"Content-Encoding": "gzip"})), model="small",
               stream=streamed)
    answer = client.post(body)
    assert (answer.status, answer.error["code"]) == (502, "provider_response_too_large")
    assert stack.log_of(answer)["error.type"] == "provider_response_too_large"


# ── A cut at every byte ───────────────────────────────────────────────────────────────────────────────────────────────


def tiny(delta, finish=None):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


EVENTS = [tiny({"content": "a"}), tiny({"content": "ü"}), tiny({}, "stop"), "[DONE]"]
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def lines_of(event):
    return b"data: " + (event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)).encode() + b"\n\n"


STREAM = HEAD.format("text/event-stream").encode() + chunked(*map(lines_of, EVENTS))
WHOLE = HEAD.format("application/json").encode() + chunked(
    json.dumps({"choices": [{"index": 0, "message": {"content": "aü"}, "finish_reason": "stop"}]}).encode())
DONE = STREAM.index(b"[DONE]\n\n") + len(b"[DONE]\n\n")


def cut_at(sent, place, then):
    def script(call):
        call.send(sent[:place])
        getattr(call, then)()
    return script


def every_cut(stack, sent, then, streamed):
    """(place, Answer, log line) of one request for each place; the next one is a hit exactly if this was stored."""
    bodies = [ask(stack.provider.on(cut_at(sent, place, then)), stream=streamed) for place in range(len(sent))]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(stack.client.post, bodies))
        for body in bodies:
            stack.provider.on(Call.plain, body["messages"][0]["content"])
        again = list(pool.map(stack.client.post, bodies))
    lines = [stack.log_of(answer) for answer in answers]
    assert [(next_one.status, next_one.cache) for next_one in again] == \
        [(200, "HIT" if line["stored"] else "MISS") for line in lines]
    return zip(range(len(sent)), answers, lines)


@pytest.mark.parametrize("then", ["reset", "close"])
def test_a_stream_that_is_cut_at_each_byte(stack, then):
    for place, answer, line in every_cut(stack, STREAM, then, True):
        if answer.status != 200:
            assert (answer.status, answer.error["code"]) == (502, "provider_connection_broken"), (place, answer)
            assert line["error.type"] == "provider_connection_broken" and not line["stored"]
            continue
        *events, last = answer.events
        assert events == EVENTS[:len(events)], (place, answer)
        assert events or last != "[DONE]"
        if last == "[DONE]":
            assert len(events) == 3 and "error.type" not in line
            assert line["stored"] or place < DONE
        else:
            assert last["error"]["code"] == "provider_connection_broken", (place, answer)
            assert set(last["error"]) == {"message", "type", "param", "code"}
            assert line["error.type"] == "provider_connection_broken" and not line["stored"]
        if then == "close":  # nothing of what was sent is lost
            assert len(events) + (last == "[DONE]") == sum(
                place >= STREAM.index(lines_of(event)) + len(lines_of(event)) for event in EVENTS), (place, answer)


@pytest.mark.parametrize("then", ["reset", "close"])
def test_an_answer_that_is_cut_at_each_byte(stack, then):
    for place, answer, line in every_cut(stack, WHOLE, then, False):
        if place == len(WHOLE) - 1 and answer.status == 200:  # behind the last chunk a line feed is nothing
            continue
        assert (answer.status, answer.error["code"]) == (502, "provider_connection_broken"), (place, answer)
        assert line["error.type"] == "provider_connection_broken" and not line["stored"]


def test_what_is_cut_at_no_byte(each, provider):
    for sent, streamed in (STREAM, True), (WHOLE, False):
        prompt = provider.on(cut_at(sent, len(sent), "close"))
        assert each.chat(prompt, stream=streamed).cache == "MISS"
        assert each.chat(prompt).json["choices"][0]["message"]["content"] == "aü"


# ── Without end ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Flood:
    """A script that begins with a head and goes on with a piece until 1 GB is sent or the peer has had enough."""

    def __init__(self, head, piece=b" " * (1 << 18)):
        self.head, self.piece, self.sent, self.refused = head, piece, 0, None

    def __call__(self, call):
        try:
            call.send(self.head)
            while self.sent < MUCH:
                call.send(self.piece)
                self.sent += len(self.piece)
            self.refused = False
        except OSError:
            self.refused = True
            raise

    def stopped(self):
        """Bytes that were taken until somebody had enough."""
        assert wait_until(lambda: self.refused is not None) and self.refused
        return self.sent


HEADS = {
    "with a length": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{" % (MUCH + 1),
    "without": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{",
}


@pytest.mark.parametrize("name", HEADS)
def test_an_answer_of_1_gb(each, provider, stack, streamed, name):
    flood = Flood(HEADS[name])
    body = ask(provider.on(flood), model="small", stream=streamed)
    answer = each.post(body)
    assert (answer.status, answer.error["code"]) == (502, "provider_response_too_large")
    assert flood.stopped() < 32 << 20  # 1 MiB, and what sockets hold
    assert stack.log_of(answer)["error.type"] == "provider_response_too_large"
    forgotten(stack, each, body)


def test_chunks_of_1_gb(client, provider, streamed):
    flood = Flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"40000\r\n" + b" " * (1 << 18) + b"\r\n")
    answer = client.post(ask(provider.on(flood), model="small", stream=streamed))
    assert (answer.status, answer.error["code"]) == (502, "provider_response_too_large")
    assert flood.stopped() < 32 << 20


def test_an_error_of_1_gb(client, provider, stack, streamed):
    flood = Flood(b"HTTP/1.1 500 X\r\nContent-Type: text/html\r\n\r\n")
    answer = client.post(ask(provider.on(flood), stream=streamed))
    assert answer.status == 500 and flood.stopped() < 64 << 20
    assert stack.log_of(answer)["error.type"].startswith("provider_")


@pytest.mark.parametrize("piece", [b"x" * (1 << 18), b"data: " + b"x" * (1 << 18) + b"\n"], ids=["line", "lines"])
def test_an_event_of_1_gb(client, provider, stack, piece):
    flood = Flood(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ", piece)
    answer = client.post(ask(provider.on(flood), stream=True))
    assert "provider_response_too_large" in answer.body.decode() and flood.stopped() < 128 << 20
    assert stack.log_of(answer)["error.type"] == "provider_response_too_large"


@pytest.mark.parametrize("piece", [b"X-More: " + b"x" * 4000 + b"\r\n", b"x" * 4096], ids=["lines", "one line"])
def test_a_head_that_never_ends(client, provider, stack, streamed, piece):
    flood = Flood(b"HTTP/1.1 200 OK\r\nX-Long: ", piece * 64)
    answer = client.post(ask(provider.on(flood), model="hasty", stream=streamed))
    assert answer.status == 502, answer
    assert flood.stopped() < 64 << 20
    assert stack.log_of(answer)["error.type"].startswith("provider_")


def test_a_long_stream_needs_no_memory(client, provider, stack):
    """64 MB of small events: passed on, not collected."""
    events = b"".join(lines_of(chunk("x" * 1000)) for _ in range(100))

    def script(call):
        call.stream_head()
        for _ in range(600):
            call.write(events)
        call.event(chunk(finish="stop"))
        call.end_stream()
    body = ask(provider.on(script), model="small", stream=True)
    with client.stream(body) as stream:
        size = sum(map(len, stream.body_pieces()))
    assert size > 64 << 20
    line = stack.log_of(stream)
    assert not line["stored"] and "error.type" not in line
    [resident] = [int(word.split()[1]) for word in open(f"/proc/{line['worker']}/status") if word.startswith("VmHWM")]
    assert resident < 48 << 10


# ── Types ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


TYPES = ["text/plain", "text/html; charset=utf-8", "application/octet-stream", "text/event-stream", "", "nonsense",
         "a/b/c", "application/json; charset=latin-1", "x" * 5000]


@pytest.mark.parametrize("content_type", TYPES, ids=lambda t: t[:20])
def test_a_right_answer_with_a_wrong_type(each, provider, content_type):
    prompt = provider.on(lambda call: call.answer(GOOD, headers={"Content-Type": content_type}))
    miss = each.chat(prompt)
    assert miss.json == GOOD and miss.headers["Content-Type"] == "application/json"
    assert each.chat(prompt).cache == "HIT"


@pytest.mark.parametrize("content_type", [t for t in TYPES if t != "text/event-stream"], ids=lambda t: t[:20])
def test_a_stream_with_a_wrong_type_is_no_stream(client, stack, content_type):
    def script(call):
        call.chunked = True
        call.head(200, {"Content-Type": content_type, "Transfer-Encoding": "chunked"})
        call.event(chunk("a"))
        call.event(chunk(finish="stop"))
        call.end_stream()
    fails(stack, client, script, 502, "provider_invalid_response", stream=True)


def test_json_that_says_it_is_a_stream(client, provider, stack):
    body = ask(provider.on(lambda call: call.answer(GOOD, headers={"Content-Type": "text/event-stream"})), stream=True)
    answer = client.post(body)
    assert answer.status == 502 and answer.error["code"].startswith("provider_"), answer
    assert not stack.log_of(answer)["stored"]
    forgotten(stack, client, body)


@pytest.mark.parametrize("content_type", ["TEXT/EVENT-STREAM", "text/event-stream;charset=utf-8",
                                          " text/event-stream ;x"])
def test_a_stream_in_another_spelling(client, provider, content_type):
    def script(call):
        call.stream_head({"Content-Type": content_type})
        call.event(chunk("a"))
        call.event(chunk(finish="stop"))
        call.end_stream()
    assert texts_of(client.chat(provider.on(script), stream=True).events[:-1]) == ["a"]


# ── Slow, and all at once ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_drip_arrives_whole(each, provider):
    """Every byte on its own: the head, the marks of the chunks, the events."""
    def script(call):
        for byte in STREAM:
            call.send(bytes([byte]))
            time.sleep(0.0005)  # the drip itself
        call.finish()
    prompt = provider.on(script)
    miss = each.chat(prompt, stream=True)
    assert miss.events == EVENTS
    hit = each.chat(prompt, stream=True)
    assert hit.cache == "HIT" and texts_of(hit.events[:-1]) == ["a", "ü"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("encoded", [True, False], ids=["chunked", "to the end"])
def test_many_events_in_one_segment(each, provider, end, encoded):
    pieces = [f"{i} " for i in range(500)]
    events = [chunk(delta={"role": "assistant"}), *map(chunk, pieces), chunk(finish="stop"), usage_chunk(), "[DONE]"]
    body = "".join(f"data: {e if isinstance(e, str) else json.dumps(e)}{end}{end}" for e in events).encode()
    head = "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n" + "Transfer-Encoding: chunked\r\n" * encoded + "\r\n"

    def script(call):
        call.send(head.encode() + (chunked(body[:1000], body[1000:]) if encoded else body))
        call.finish() if encoded else call.close()
    prompt = provider.on(script)
    for expected in "MISS", "HIT":
        answer = each.chat(prompt, stream=True)
        assert answer.cache == expected and answer.events[-1] == "[DONE]"
        assert texts_of(answer.events[:-1]) == pieces
    assert events_of(answer.body.decode()) == answer.events


@pytest.mark.parametrize("pieces", [1, 2, 7, 64, 1000])
def test_a_stream_in_pieces_of_any_size(client, provider, pieces):
    body = b"".join(map(lines_of, EVENTS))

    def script(call):
        call.stream_head()
        for i in range(0, len(body), pieces):
            call.write(body[i:i + pieces])
        call.end_stream(done=False)
    assert client.chat(provider.on(script), stream=True).events == EVENTS
