"""Streams arrive as they are made, say that they are alive, and end when nobody listens any more."""

import concurrent.futures
import http.client
import json
import time

import pytest

from client import CHAT, ask, unique
from process import wait_until
from provider import chunk, completion, usage_chunk

COMMIT_AFTER = 0.8
CONFIG = {"stream": {"commit_after": "800ms"}, "server": {"workers": {"min": 8, "max": 100, "spare": 8}}}
SOON = 3  # seconds within which a client's leaving ends the provider's call: issue 2, item 3


def held_stream(provider, client, **fields):
    """(stream, call): a stream that is asked for, and its call at the provider, unanswered."""
    prompt = provider.manual()
    stream = client.stream(ask(prompt, stream=True, **fields))
    return stream, provider.take(prompt)


def error_of(event):
    answer = event.json
    assert list(answer) == ["error"] and set(answer["error"]) == {"message", "type", "param", "code"}
    return answer["error"]


def asked_again(provider, client, prompt):
    """Whether the provider is called when the same question comes again."""
    before = provider.calls(prompt)
    provider.on(lambda call: call.plain(), prompt)
    assert client.chat(prompt).cache == "MISS"
    return provider.calls(prompt) == before + 1


# ── As they are made ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_event_arrives_before_the_next_one_is_made(each, provider, stack):
    stream, call = held_stream(provider, each)
    with stream:
        call.stream_head()
        for i in range(40):
            call.event(chunk(f"piece {i} "))
            assert stream.next_data().content == f"piece {i} "
        call.event(chunk(finish="stop"))
        assert stream.next_data().json["choices"][0]["finish_reason"] == "stop"
        call.end_stream()
        assert stream.rest() == ["[DONE]"]
    line = stack.log_of(stream)
    assert line["stored"] and line["gen_ai.response.finish_reasons"] == "stop"


def test_fifty_streams_at_once_each_in_step(each, provider):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        pairs = list(pool.map(lambda _: held_stream(provider, each), range(50)))
    for stream, call in pairs:
        call.stream_head()
        call.event(chunk(call.prompt))
    for stream, call in pairs:
        assert stream.next_data().content == call.prompt
    for stream, call in pairs:
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert stream.rest()[-1] == "[DONE]"
        stream.close()


def test_an_event_in_single_bytes(each, provider):
    stream, call = held_stream(provider, each)
    with stream:
        call.stream_head()
        for byte in b"data: " + json.dumps(chunk("ü 🛡")).encode() + b"\r\n\r\n":
            call.write(bytes([byte]))
        assert stream.next_data().content == "ü 🛡"
        call.event(chunk(finish="stop"))
        call.end_stream()


def test_many_events_in_one_piece(each, provider):
    def script(call):
        call.stream_head()
        events = [chunk(f"{i} ") for i in range(100)] + [chunk(finish="stop")]
        body = "".join(f": comment\nevent: message\nid: {i}\ndata: {json.dumps(e)}\n\n" for i, e in enumerate(events))
        call.write(b"\xef\xbb\xbf" + body.encode() + b"retry: 5\n\ndata: [DONE]\n\n")
        call.send(b"0\r\n\r\n")
        call.finish()
    prompt = provider.on(script)
    for cache in "MISS", "HIT":
        answer = each.chat(prompt, stream=True)
        assert answer.cache == cache
        pieces = [e["choices"][0]["delta"].get("content") for e in answer.events[:-1]]
        assert pieces == [f"{i} " for i in range(100)] + [None]


def test_a_client_that_reads_late_gets_everything(each, provider):
    pieces = [f"{i}:" + "x" * 2000 for i in range(2000)]
    prompt = provider.on(lambda call: call.stream(pieces))
    with each.stream(ask(prompt, stream=True)) as stream:
        wait_until(lambda: provider.calls(prompt))
        provider.requests(prompt)[0].finished.wait(1)  # all written, or no buffer on the way takes any more
        got = [json.loads(data)["choices"][0]["delta"].get("content") for data in stream.rest()[:-1]]
    assert [piece for piece in got if piece] == pieces


def test_an_http_1_0_client_gets_its_stream_too(each, provider):
    prompt = provider.manual()
    body = json.dumps(ask(prompt, stream=True))
    with each.raw(f"POST {CHAT} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer demo\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}".encode()) as stream:
        call = provider.take(prompt)
        call.stream_head()
        for piece in "one", "two":
            call.event(chunk(piece))
            assert stream.next_data().content == piece
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert stream.rest()[-1] == "[DONE]"


def test_one_connection_serves_many_requests(each, provider):
    connection = http.client.HTTPConnection("127.0.0.1", each.port, timeout=20)
    connection.connect()
    first = connection.sock
    for i in range(6):
        body = json.dumps(ask(unique(), stream=i % 2 == 1))
        connection.request("POST", CHAT, body, {"Authorization": "Bearer demo", "Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200 and response.read().startswith(b"data: {" if i % 2 else b"{")
    assert connection.sock is first
    connection.close()


def test_calls_to_the_provider_share_connections(start):
    stack = start({"server": {"workers": {"min": 1, "max": 1, "spare": 1, "reserve": 0}}})
    for i in range(8):
        stack.client.chat(unique(), stream=i % 2 == 1)
    assert stack.provider.connections == 1


# ── Silence ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_silence_is_filled_with_comments(each, provider):
    stream, call = held_stream(provider, each)
    with stream:
        call.stream_head()
        call.event(chunk("a"))
        events = [stream.next() for _ in range(3)]
        assert events[0].content == "a"
        assert all(event.data is None and event.comment for event in events[1:])
        call.event(chunk("b"))
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert [json.loads(d)["choices"][0]["delta"].get("content") for d in stream.rest()[:-1]] == ["b", None]
    hit = each.chat(call.prompt, stream=True)
    assert hit.cache == "HIT" and b": keep" not in hit.body


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 422, 429, 500, 503, 529])
def test_an_error_before_the_commitment_keeps_its_status(each, provider, status):
    prompt = provider.on(lambda call: call.error(status, "not now", {"Retry-After": "7"}))
    answer = each.post(ask(prompt, stream=True))
    assert answer.status == status and answer.headers["Content-Type"] == "application/json"
    assert answer.error == {"message": "not now", "type": "fake_error", "param": None, "code": "fake_code"}
    assert answer.headers["Retry-After"] == "7"
    assert asked_again(provider, each, prompt)


def test_after_commit_after_a_stream_is_committed(each, provider, stack):
    stream, call = held_stream(provider, each)
    with stream:
        assert stream.status == 200  # the provider has said nothing yet
        assert time.monotonic() - call.at >= COMMIT_AFTER * 0.9
        assert stream.next().comment
        call.error(429, "too late", {"Retry-After": "7"})
        [error] = [e for e in stream if e.data is not None]  # and no [DONE]
        assert error_of(error) == {"message": "too late", "type": "fake_error", "param": None, "code": "fake_code"}
    line = stack.log_of(stream)
    assert (line["http.response.status_code"], line["error.type"]) == (200, "provider_error")
    assert asked_again(provider, each, call.prompt)


def test_a_connection_that_breaks_after_the_commitment(each, provider, stack):
    stream, call = held_stream(provider, each)
    with stream:
        assert stream.next().comment
        call.stream_head()
        call.event(chunk("a"))
        assert stream.next_data().content == "a"
        call.reset()
        [error] = [e for e in stream if e.data is not None]
        assert error_of(error)["code"] == "provider_connection_broken"
    assert stack.log_of(stream)["error.type"] == "provider_connection_broken"
    assert asked_again(provider, each, call.prompt)


def test_a_late_answer_after_the_commitment(each, provider):
    stream, call = held_stream(provider, each, stream_options={"include_usage": True})
    with stream:
        assert stream.next().comment
        call.stream_head()
        call.event(chunk("late"))
        call.event(chunk(finish="stop"))
        call.event(usage_chunk())
        call.end_stream()
        events = stream.rest()
        assert json.loads(events[0])["choices"][0]["delta"] == {"content": "late"} and events[-1] == "[DONE]"
    assert each.chat(call.prompt).json["choices"][0]["message"]["content"] == "late"


def test_a_late_answer_in_one_piece_after_the_commitment(each, provider):
    stream, call = held_stream(provider, each)
    with stream:
        assert stream.next().comment
        call.answer(completion("as JSON"))
        events = stream.rest()
        assert json.loads(events[1])["choices"][0]["delta"]["content"] == "as JSON" and events[-1] == "[DONE]"


# ── Clients that leave: everything at once, since each takes its seconds ──────────────────────────────────────────────


def before_the_first_byte(provider, client):
    stream, call = held_stream(provider, client)
    stream.close()
    return stream, call, call.at + COMMIT_AFTER


def after_the_commitment(provider, client):
    stream, call = held_stream(provider, client)
    assert stream.next().comment
    stream.close()
    return stream, call, time.monotonic()


def before_the_first_event(provider, client):
    stream, call = held_stream(provider, client)
    call.stream_head()
    assert stream.status == 200
    stream.close()
    return stream, call, time.monotonic()


def in_mid_stream(provider, client, leave="close"):
    stream, call = held_stream(provider, client)
    call.stream_head()
    call.event(chunk("a"))
    assert stream.next_data().content == "a"
    getattr(stream, leave)()
    return stream, call, time.monotonic()


def in_mid_stream_with_a_reset(provider, client):
    return in_mid_stream(provider, client, "reset")


def while_a_stream_is_answered_as_json(provider, client):
    stream, call = held_stream(provider, client)
    call.head(200, {"Content-Type": "application/json", "Content-Length": "100000"})
    call.send(b"{")
    stream.close()
    return stream, call, call.at + COMMIT_AFTER


def while_an_error_trickles_in(provider, client):
    stream, call = held_stream(provider, client)
    call.head(500, {"Content-Type": "text/html", "Content-Length": "100000"})
    call.send(b"<html>")
    stream.close()
    return stream, call, call.at + COMMIT_AFTER


DEPARTURES = [before_the_first_byte, after_the_commitment, before_the_first_event, in_mid_stream,
              in_mid_stream_with_a_reset, while_a_stream_is_answered_as_json, while_an_error_trickles_in]


def depart(departure, provider, client):
    """Leaves, and waits until the provider's call has ended: (stream, call, seconds that it took or None)."""
    stream, call, since = departure(provider, client)
    gone = call.peer_gone(since + 2 * SOON - time.monotonic())
    call.closing = True
    call.finish()
    return stream, call, gone and gone - since


@pytest.fixture(scope="module")
def departures(stack):
    with concurrent.futures.ThreadPoolExecutor(2 * len(DEPARTURES)) as pool:
        return {(departure, kind): pool.submit(depart, departure, stack.provider, web.client)
                for departure in DEPARTURES for kind, web in stack.webs.items()}


@pytest.mark.parametrize("kind", ["lighttpd", "apache"])
@pytest.mark.parametrize("departure", DEPARTURES, ids=lambda d: d.__name__)
def test_leaving_ends_the_call(departures, provider, stack, departure, kind):
    stream, call, seconds = departures[departure, kind].result()
    assert seconds is not None, "the provider's call goes on"
    assert seconds <= SOON
    line = stack.log_of(stream)
    assert (line["error.type"], line["http.response.status_code"]) == ("caller_gone", 499)
    assert not line["stored"]
    assert asked_again(provider, stack.client, call.prompt)


def test_leaving_while_events_flow_ends_the_call(each, provider, stack):
    def script(call):
        call.stream_head()
        while not call.peer_gone(0.02):
            call.event(chunk("and on "))
    stream = each.stream(ask(provider.on(script), stream=True))
    assert stream.next_data() and stream.next_data()
    stream.close()
    assert stack.log_of(stream, SOON)["error.type"] == "caller_gone"


def test_one_who_leaves_disturbs_nobody(each, provider, stack):
    staying, call = held_stream(provider, each)
    leaving, other = held_stream(provider, each)
    with staying:
        call.stream_head()
        other.stream_head()
        other.event(chunk("x"))
        assert leaving.next_data().content == "x"
        leaving.reset()
        assert other.peer_gone(2 * SOON)
        other.finish()
        call.event(chunk("still here"))
        assert staying.next_data().content == "still here"
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert staying.rest()[-1] == "[DONE]"
    assert stack.log_of(staying)["stored"]
