"""Answers that are too old: given at once while one refresh goes on behind them, and where the provider fails."""

import concurrent.futures
import fcntl
import json
import pathlib
import struct
import termios

import pytest

from client import ask, unique
from fastcgi import KEEP_CONNECTION, PARAMS, STDIN, FastCGI, begin, pairs, params_of, record, stream as records
from procs import Held, let_go
from process import wait_until
from provider import FakeProvider, chunk, completion
from servers import Memcached
from structured_fields import cache_status

TTL = {"X-Pavise-Cache-TTL": "20ms"}
MEANWHILE, ERROR = {"stale_while_revalidate": "1h"}, {"stale_if_error": "1h"}


def provider_of(**timeout):
    return {"base_url": "http://127.0.0.1:${FAKE_PORT}/v1", "timeout": timeout}


CONFIG = {
    "models": {"meanwhile": {"provider": "fake", "cache": MEANWHILE, "price": {"input": "1.00", "output": "2.00"}},
               "error": {"provider": "fake", "cache": ERROR},
               "both": {"provider": "fake", "cache": {**MEANWHILE, **ERROR}},
               "brief": {"provider": "fake", "cache": {"stale_while_revalidate": "1s", "stale_if_error": "1s"}},
               **{name: {"provider": name, "cache": ERROR} for name in ("first", "between", "total", "small")}},
    "providers": {"first": provider_of(first_byte="400ms"), "between": provider_of(between_bytes="400ms"),
                  "total": provider_of(total="600ms"),
                  "small": {"base_url": "http://127.0.0.1:${FAKE_PORT}/v1", "max_response": "2KiB"}},
    "stream": {"commit_after": "1s"},
}


def content(answer):
    """What an answer says, in either form."""
    if answer.body.startswith(b"{"):
        return answer.json["choices"][0]["message"]["content"]
    assert answer.events[-1] == "[DONE]", answer
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in answer.events[:-1] if e["choices"])


def is_stale(answer, text="old"):
    return (answer.status, answer.cache, content(answer)) == (200, "STALE", text)


def went_stale(stack, model, client=None, **fields):
    """A prompt whose remembered answer is "old", and too old; the provider's next answers are the test's business."""
    client, prompt = client or stack.client, stack.provider.on(lambda call: call.plain(["o", "ld"]))
    first = client.chat(prompt, TTL, model=model, **fields)
    assert stack.log_of(first)["stored"]
    wait_until(lambda: client.post(ask(prompt, model=model), {"Cache-Control": "only-if-cached"}).cache != "HIT")
    return prompt


def entry_of(stack):
    """The key of the one answer that is remembered; memcached does not list what it is just moving about."""
    return wait_until(lambda: stack.memcached.keys(stack.pavise.config["memcached"]["prefix"] + ":a:"))[0]


def refreshes(stack, answer):
    """The log lines of refreshes that this answer's request has caused."""
    trace = stack.log_of(answer)["trace_id"]
    return stack.pavise.log.find(lambda line: line["event"] == "refresh" and line["trace_id"] == trace)


def crowd(n, function):
    """What n calls of it return that run at the same time; it is told which one it is."""
    with concurrent.futures.ThreadPoolExecutor(n) as many:
        return [task.result() for task in [many.submit(function, i) for i in range(n)]]


# ── While it is refreshed ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("streamed", [False, True])
def test_the_stale_answer_and_its_refresh(stack, each, streamed):
    prompt = went_stale(stack, "meanwhile", each)
    stack.provider.manual(prompt)
    answer = each.chat(prompt, model="meanwhile", stream=streamed)
    call = stack.provider.take(prompt)
    assert is_stale(answer)
    said = cache_status(answer)
    assert said.keys() == {"hit", "ttl"} and -60 < said["ttl"] < 0 and answer.headers["Age"].isdigit()
    assert float(answer.headers["x-pavise-cost-usd"]) == 0 and float(answer.headers["x-pavise-saved-usd"]) > 0
    line = stack.log_of(answer)
    assert (line["cache"], line["level"], line["cache_age"]) == ("stale", "info", int(answer.headers["Age"]))
    assert "error.type" not in line and "stored" not in line and "upstream_duration" not in line
    call.plain(["n", "ew"])
    [refresh] = wait_until(lambda: refreshes(stack, answer))
    assert refresh["stored"] is True and refresh["level"] == "info" and refresh["stream"] is streamed
    assert refresh["cost_usd"] > 0 and "saved_usd" not in refresh and refresh["upstream_request_id"] == "req_fake"
    same = ("key_id", "url.path", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "worker")
    assert {name: refresh[name] for name in same} == {name: line[name] for name in same}
    assert not refresh.keys() & {"request_id", "http.response.status_code", "http.response.body.size", "client.address"}
    hit = each.chat(prompt, model="meanwhile", stream=not streamed)
    assert hit.cache == "HIT" and content(hit) == "new" and stack.provider.calls(prompt) == 2


def test_it_asks_as_the_request_did(stack, each):
    """A stream as a stream, so that its boundaries are known; and with the headers that are part of the question."""
    ours = {"OpenAI-Beta": "things=v2", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    prompt = stack.provider.on(lambda call: call.plain(["old"]))
    question = ask(prompt, model="meanwhile", stream=True, user="u", seed=7)
    each.post(question, {**ours, **TTL})
    wait_until(lambda: each.post(question, {**ours, "Cache-Control": "only-if-cached"}).cache == "STALE")
    stack.provider.manual(prompt)
    assert is_stale(each.post(question, ours))
    call = stack.provider.take(prompt)
    first = stack.provider.requests(prompt)[0]
    assert call.json == first.json and call.json["stream"] is True
    assert call.headers["openai-beta"] == "things=v2" and call.headers["traceparent"].startswith(f"00-{'ab' * 16}-")
    differ = {"traceparent"}
    assert {k: v for k, v in call.headers.items() if k not in differ} == {
        k: v for k, v in first.headers.items() if k not in differ}
    call.stream(["a", "new", "one"])
    hit = wait_until(lambda: (a := each.post(question, ours)).cache == "HIT" and a)
    assert [e["choices"][0]["delta"].get("content") for e in hit.events[:-1] if e["choices"]][1:4] == ["a", "new", "one"]


def test_one_refresh_for_a_crowd_and_nobody_waits_for_it(stack, each):
    prompt = went_stale(stack, "meanwhile")
    stack.provider.manual(prompt)
    answers = crowd(20, lambda i: each.chat(prompt, model="meanwhile", stream=i % 2 == 0))
    assert all(is_stale(answer) for answer in answers)  # and all of them are here
    stack.provider.take(prompt).plain(["new"])
    hit = wait_until(lambda: (a := each.chat(prompt, model="meanwhile")).cache == "HIT" and a)
    assert content(hit) == "new" and stack.provider.calls(prompt) == 2
    wait_until(lambda: any(refreshes(stack, answer) for answer in answers))  # the line follows what it speaks of
    assert sum(len(refreshes(stack, answer)) for answer in answers) == 1


def test_one_refresh_of_two_hosts(start):
    one = start(CONFIG)
    other = start({**CONFIG, "memcached": {"prefix": one.pavise.config["memcached"]["prefix"]}},
                  env={"FAKE_PORT": str(one.provider.port)}, provider_url=one.provider.url)
    hosts, prompt = (one, other), went_stale(one, "meanwhile")
    one.provider.manual(prompt)
    answers = crowd(20, lambda i: hosts[i % 2].client.chat(prompt, model="meanwhile", stream=i % 4 < 2))
    assert all(is_stale(answer) for answer in answers)
    one.provider.take(prompt).plain(["new"])
    for host in hosts:
        hit = wait_until(lambda: (a := host.client.chat(prompt, model="meanwhile")).cache == "HIT" and a)
        assert content(hit) == "new"
    assert one.provider.calls(prompt) == 2
    assert sum(line["event"] == "refresh" for host in hosts for line in host.pavise.log.read()) == 1


def counted(memcached, name):
    lines = memcached.command(b"stats", b"END\r\n").decode().splitlines()
    return int(next(line.split()[2] for line in lines if line.split()[1:2] == [name]))


@pytest.fixture
def apart(start, folder):
    """A Stack whose leases are alone on a memcached of their own: .leases."""
    with Memcached(folder) as leases:
        stack = start({**CONFIG, "memcached": {"counters": [str(leases.path)], "timeout": "10s"}})
        stack.leases = leases
        yield stack


def lease_of(stack):
    """Of the one call that is on its way."""
    return wait_until(lambda: stack.leases.keys(stack.pavise.config["memcached"]["prefix"] + ":l:"))[0]


def test_who_comes_too_late_to_refresh_finds_it_done(apart):
    prompt = went_stale(apart, "meanwhile")
    given_back = counted(apart.leases, "delete_hits")
    apart.leases.stop()
    assert is_stale(apart.client.chat(prompt, model="meanwhile"))  # its worker asks for the lease now
    apart.provider.on(lambda call: call.plain(["new"]), prompt)
    assert content(apart.client.chat(prompt, {"Cache-Control": "no-cache"}, model="meanwhile")) == "new"
    apart.leases.cont()
    wait_until(lambda: counted(apart.leases, "delete_hits") == given_back + 1)
    assert apart.provider.calls(prompt) == 2


def test_without_a_lease_there_is_none(apart):
    prompt = went_stale(apart, "meanwhile")
    apart.provider.manual(prompt)
    assert is_stale(apart.client.chat(prompt, model="meanwhile"))
    failing = apart.provider.take(prompt)
    lease = lease_of(apart)
    failing.error(500, "down")
    wait_until(lambda: apart.leases.get(lease) is None)
    apart.leases.set(lease, b"%016x %016x" % (7, 7))  # another host's
    seen = counted(apart.leases, "get_hits")
    # several have seen whose it is
    wait_until(lambda: is_stale(apart.client.chat(prompt, model="meanwhile")) and
               counted(apart.leases, "get_hits") >= seen + 3)
    assert apart.provider.calls(prompt) == 2
    apart.leases.kill()
    assert is_stale(apart.client.chat(prompt, model="meanwhile"))
    wait_until(lambda: apart.pavise.log.find(lambda line: line["event"] == "memcached_down"))
    assert apart.provider.calls(prompt) == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_a_long_refresh_keeps_its_lease(apart, streamed):
    prompt = went_stale(apart, "meanwhile")
    renewed = counted(apart.leases, "touch_hits")
    apart.provider.manual(prompt)
    assert is_stale(apart.client.chat(prompt, model="meanwhile", stream=streamed))
    call = apart.provider.take(prompt)
    lease = lease_of(apart)
    wait_until(lambda: counted(apart.leases, "touch_hits") >= renewed + 4)  # one a second, and it lives for three
    assert apart.leases.get(lease) and is_stale(apart.client.chat(prompt, model="meanwhile"))
    call.plain(["new"])
    wait_until(lambda: apart.client.chat(prompt, model="meanwhile").cache == "HIT")
    assert apart.provider.calls(prompt) == 2
    wait_until(lambda: apart.leases.get(lease) is None)


@pytest.mark.parametrize("streamed", [False, True])
def test_who_wants_none_follows_the_refresh(stack, each, streamed):
    """It leads as any call does that others could ask for in the same moment."""
    prompt = went_stale(stack, "meanwhile")
    stack.provider.manual(prompt)
    each.chat(prompt, model="meanwhile", stream=streamed)
    call = stack.provider.take(prompt)
    with each.stream(ask(prompt, model="meanwhile", stream=True), {"Cache-Control": "max-age=86400"}) as follower:
        assert follower.next().comment == "keep-alive"
        call.plain(["n", "ew"])
        events = [json.loads(data) for data in follower.rest()[:-1]]
        assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]) == "new"
    assert stack.log_of(follower)["cache"] == "collapsed" and stack.provider.calls(prompt) == 2


def test_a_refresh_that_fails_changes_nothing(stack, each):
    prompt = went_stale(stack, "meanwhile", each)
    stack.provider.on(lambda call: call.error(503), prompt)
    for streamed in False, True:
        answer = each.chat(prompt, model="meanwhile", stream=streamed)
        assert is_stale(answer) and stack.log_of(answer)["level"] == "info"
        [line] = wait_until(lambda: refreshes(stack, answer))
        assert (line["error.type"], line["level"], line["stored"]) == ("provider_error", "warn", False)
    stack.provider.on(lambda call: call.plain(["new"]), prompt)
    assert is_stale(each.chat(prompt, model="meanwhile"))
    wait_until(lambda: each.chat(prompt, model="meanwhile").cache == "HIT")


@pytest.mark.parametrize("control", ["no-cache", "max-age=86400", "max-age=86400, only-if-cached"])
def test_who_wants_none(stack, each, control):
    prompt = went_stale(stack, "both")
    stack.provider.on(lambda call: call.error(500), prompt)
    answer = each.post(ask(prompt, model="both"), {"Cache-Control": control})
    assert answer.status == (504 if "only" in control else 500) and answer.cache == "MISS"
    assert stack.provider.calls(prompt) == (1 if "only" in control else 2)


@pytest.mark.parametrize("control", ["only-if-cached", "no-store"])
def test_who_wants_no_call(stack, each, control):
    prompt = went_stale(stack, "meanwhile")
    stack.provider.manual(prompt)
    for _ in range(5):
        assert is_stale(each.chat(prompt, {"Cache-Control": control}, model="meanwhile"))
    answer = each.chat(prompt, model="meanwhile")
    call = stack.provider.take(prompt)
    assert stack.log_of(answer)["trace_id"] in call.headers["traceparent"]  # the first that has caused one
    call.plain(["new"])


def pool(**workers):
    return {**CONFIG, "server": {"workers": {"min": 1, "max": 4, "spare": 1, "reserve": 1, **workers}}}


def test_the_hit_lane_refreshes_nothing(start):
    s = start(pool())
    meanwhile, error = went_stale(s, "meanwhile"), went_stale(s, "error")
    held = [Held(s) for _ in range(3)]
    wait_until(lambda: len(s.pavise.workers()) == 4)
    for _ in range(3):  # the one worker that is left takes the next when it has done with the one before
        assert is_stale(s.client.chat(meanwhile, model="meanwhile"))
    answer = s.client.chat(error, model="error")
    assert is_stale(answer) and cache_status(answer)["hit"] is True and cache_status(answer)["ttl"] < 0
    line = s.log_of(answer)
    assert (line["cache"], line["error.type"], line["level"]) == ("stale", "policy_overloaded", "warn")
    assert s.provider.calls(meanwhile) == s.provider.calls(error) == 1
    for h in held:
        h.finish()
    wait_until(lambda: s.client.chat(meanwhile, model="meanwhile").cache == "HIT")


def test_a_refresh_takes_no_more_than_its_lane(start):
    """While it goes on its worker counts as one that is at a provider."""
    s = start(pool(max=2))
    prompt = went_stale(s, "meanwhile")
    s.provider.manual(prompt)
    assert is_stale(s.client.chat(prompt, model="meanwhile"))
    call = s.provider.take(prompt)
    wait_until(lambda: len(s.pavise.workers()) == 2)
    assert s.client.post(ask(unique())).error["code"] == "server_is_overloaded"
    call.plain(["new"])
    wait_until(lambda: s.client.post(ask(unique())).status == 200)


def test_who_drains_begins_none(start):
    s = start(CONFIG)
    prompt = went_stale(s, "meanwhile")
    body = b" " * 40000 + json.dumps(ask(prompt, model="meanwhile")).encode()
    with FastCGI(s.pavise.socket) as late:
        late.send(begin() + records(PARAMS, pairs(params_of(body=body))) + record(STDIN, body[:40000]))
        # all of it has been read, which is more than libfcgi takes in before there is a request
        wait_until(lambda: struct.unpack("i", fcntl.ioctl(late.socket, termios.TIOCOUTQ, bytes(4)))[0] == 0)
        s.pavise.term()
        s.pavise.wait_event("drain")
        late.send(records(STDIN, body[40000:]))
        assert is_stale(late.answer())
    assert s.pavise.process.wait() == 0 and s.provider.calls(prompt) == 1


def test_a_refresh_that_has_begun_is_finished(start):
    s = start(CONFIG)
    prompt = went_stale(s, "meanwhile")
    s.provider.manual(prompt)
    answer = s.client.chat(prompt, model="meanwhile")
    call = s.provider.take(prompt)
    s.pavise.term()
    s.pavise.wait_event("drain")
    call.plain(["new"])
    assert s.pavise.process.wait() == 0 and refreshes(s, answer)[0]["stored"]


def test_a_single_worker_refreshes_in_front(start):
    s = start(CONFIG, options=("--worker",))
    prompt = went_stale(s, "both")
    s.provider.on(lambda call: call.error(500), prompt)
    answer = s.client.chat(prompt, model="both")
    assert is_stale(answer) and cache_status(answer) == {"fwd": "stale", "fwd-status": 500}
    s.provider.on(lambda call: call.plain(["new"]), prompt)
    answer = s.client.chat(prompt, model="both")
    assert content(answer) == "new" and cache_status(answer) == {"fwd": "stale", "stored": True}
    assert s.client.chat(prompt, model="both").cache == "HIT"
    assert not s.pavise.log.find(lambda line: line["event"] == "refresh")


def test_where_the_connection_is_kept_the_next_one_does_not_wait(start):
    s = start(CONFIG)
    prompt = went_stale(s, "meanwhile")
    s.provider.on(lambda call: call.plain(["new"]), prompt)
    body = json.dumps(ask(prompt, model="meanwhile")).encode()
    with FastCGI(s.pavise.socket) as kept:
        kept.send(begin(flags=KEEP_CONNECTION) + records(PARAMS, pairs(params_of(body=body))) + records(STDIN, body))
        answer = kept.answer()
    assert content(answer) == "new" and cache_status(answer) == {"fwd": "stale", "stored": True}


# ── Where the provider fails ──────────────────────────────────────────────────────────────────────────────────────────


def begins(*events, then):
    """A script of a stream that has its head and these events, and then ends so."""
    def script(call):
        call.stream_head()
        for event in events:
            call.event(event)
        getattr(call, then)()
    return script


def cut(call):
    call.head(200, {"Content-Type": "application/json", "Content-Length": 99})
    call.send(b'{"id":')
    call.close()


FAULTS = {  # what it does, the error.type of it, its status if one came that is not the answer's; the model
    **{str(status): (lambda call, status=status: call.error(status), "provider_error", status, "error")
       for status in (500, 502, 503, 504, 529)},
    "error in a 200": (lambda call: call.answer({"error": {"message": "x"}}), "provider_error", None, "error"),
    "no JSON": (lambda call: call.answer(b"<html>"), "provider_invalid_response", None, "error"),
    "no answer": (lambda call: call.answer({}), "provider_invalid_response", None, "error"),
    "204": (lambda call: call.answer(b"", 204), "provider_invalid_response", 204, "error"),
    "302": (lambda call: call.answer(b"", 302), "provider_invalid_response", 302, "error"),
    "too large": (lambda call: call.answer(completion("x" * 4000)), "provider_response_too_large", None, "small"),
    "closed": (lambda call: call.close(), "provider_connection_broken", None, "error"),
    "reset": (lambda call: call.reset(), "provider_connection_broken", None, "error"),
    "cut": (cut, "provider_connection_broken", None, "error"),
    "silent": (lambda call: call.hang(), "provider_timeout", None, "first"),
    "too slow": (lambda call: call.hang(), "provider_timeout", None, "total"),
    "stalled": (lambda call: (call.head(200, {"Content-Length": 99}), call.hang()), "provider_stalled", None, "between"),
}


def rescued(stack, client, prompt, script, said, error_type, model, streamed):
    stack.provider.on(script, prompt)
    answer = client.post(ask(prompt, model=model, stream=streamed))
    assert is_stale(answer), answer
    assert cache_status(answer) == said and answer.headers["Age"].isdigit()
    assert not [name for name in answer.headers if name.lower().startswith("retry") or name.lower() == "x-should-retry"]
    line = stack.log_of(answer)
    assert (line["cache"], line["error.type"], line["level"]) == ("stale", error_type, "warn")
    assert line["http.response.status_code"] == 200 and line["cache_age"] == int(answer.headers["Age"])
    assert "stored" not in line and "cost_usd" not in line and line["upstream_duration"] > 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_each_kind_of_failure(stack, each, name, streamed):
    script, error_type, status, model = FAULTS[name]
    prompt = went_stale(stack, model, each)
    said = {"fwd": "stale", **({"fwd-status": status} if status else {})}
    for _ in range(2):  # it has not been stored anew: the provider is asked each time
        before = stack.provider.calls(prompt)
        rescued(stack, each, prompt, script, said, error_type, model, streamed)
        assert stack.provider.calls(prompt) > before
    stack.provider.on(lambda call: call.plain(["new"]), prompt)
    answer = each.chat(prompt, model=model)
    assert content(answer) == "new" and cache_status(answer) == {"fwd": "stale", "stored": True}
    assert each.chat(prompt, model=model).cache == "HIT"


@pytest.mark.parametrize("name,script,error_type", [
    ("error event", begins({"error": {"message": "x"}}, then="end_stream"), "provider_error"),
    ("nothing", begins(then="end_stream"), "provider_connection_broken"),
    ("closed", begins(then="close"), "provider_connection_broken"),
    ("reset", begins(then="reset"), "provider_connection_broken")], ids=lambda v: v if isinstance(v, str) else "")
def test_a_stream_that_fails_before_its_first_event(stack, each, name, script, error_type):
    if name == "nothing":
        def script(call):
            call.stream_head()
            call.send(b"0\r\n\r\n")
            call.finish()
    prompt = went_stale(stack, "error", each, stream=True)
    rescued(stack, each, prompt, script, {"fwd": "stale"}, error_type, "error", True)


def test_a_provider_that_is_gone(start):
    with FakeProvider() as provider:
        s = start({**CONFIG, "providers": {**CONFIG["providers"], "fake": {"base_url": provider.url}}})
        provider.scripts = s.provider.scripts
        prompt = went_stale(s, "error")
    for streamed in False, True:
        answer = s.client.chat(prompt, model="error", stream=streamed)
        assert is_stale(answer) and cache_status(answer) == {"fwd": "stale"}
        assert s.log_of(answer)["error.type"] == "provider_unreachable"


def test_a_provider_that_is_switched_off(start):
    s = start(CONFIG)
    prompt = went_stale(s, "error")
    s.pavise.change({"providers": {"fake": {"api_key": "${PAVISE_NEVER_SET}"}}})
    s.provider.on(lambda call: call.error(500), prompt)  # by workers that are not gone yet
    answer = wait_until(lambda: "hit" in cache_status(a := s.client.chat(prompt, model="error")) and a)
    assert is_stale(answer)  # and did not go forward
    assert s.log_of(answer)["error.type"] == "policy_provider_off"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 422, 429])
def test_what_is_not_the_providers_fault(stack, each, status, streamed):
    prompt = went_stale(stack, "error")
    stack.provider.on(lambda call: call.error(status), prompt)
    answer = each.post(ask(prompt, model="error", stream=streamed))
    assert answer.status == status and answer.error["code"] == "fake_code" and answer.cache == "MISS"


def test_behind_nothing_but_comments(stack, each):
    prompt = went_stale(stack, "error")
    stack.provider.manual(prompt)
    with each.stream(ask(prompt, model="error", stream=True)) as answer:
        call = stack.provider.take(prompt)
        assert answer.next().comment == "keep-alive"
        call.error(503)
        events = [json.loads(data) for data in answer.rest()[:-1]]
        assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]) == "old"
        assert answer.headers["Cache-Status"] == "pavise; fwd=stale"  # all that was known when it went
    line = stack.log_of(answer)
    assert (line["cache"], line["error.type"], line["http.response.status_code"]) == ("stale", "provider_error", 200)


@pytest.mark.parametrize("then", ["close", "reset", "error"])
def test_not_behind_half_an_answer(stack, each, then):
    prompt = went_stale(stack, "error")
    stack.provider.manual(prompt)
    with each.stream(ask(prompt, model="error", stream=True)) as answer:
        call = stack.provider.take(prompt)
        call.stream_head()
        call.event(chunk("ne"))
        assert answer.next_data().content == "ne"
        if then == "error":
            call.event({"error": {"message": "x"}})
            call.finish()
        elif then == "close":
            let_go(call)
        else:
            call.reset()
        assert [list(json.loads(data)) for data in answer.rest()] == [["error"]]
    assert stack.log_of(answer)["cache"] == "miss"


def test_all_who_shared_a_call_that_fails(stack, each):
    prompt = went_stale(stack, "error")
    stack.provider.manual(prompt)
    waiting = [each.stream(ask(prompt, model="error", stream=True)) for _ in range(6)]
    call = stack.provider.take(prompt)
    assert all(stream.next().comment == "keep-alive" for stream in waiting)
    call.error(503)
    for stream in waiting:
        events = [json.loads(data) for data in stream.rest()[:-1]]
        assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]) == "old"
        line = stack.log_of(stream)
        assert (line["cache"], line["error.type"], line["level"]) == ("stale", "provider_error", "warn")
        stream.close()
    assert stack.provider.calls(prompt) == 2


def sleeps_on_futex(pid):
    """As those do who follow another."""
    return pathlib.Path(f"/proc/{pid}/wchan").read_text().startswith("futex")


def test_who_followed_a_call_that_fails_says_so(start):
    s = start({**CONFIG, "stream": {"commit_after": "1h"}})
    prompt = went_stale(s, "error")
    s.provider.manual(prompt)
    waiting = [s.client.stream(ask(prompt, model="error", stream=form)) for form in (False, True) * 2]
    call = s.provider.take(prompt)
    wait_until(lambda: sum(sleeps_on_futex(pid) for pid in s.pavise.workers()) == 3)
    call.error(503)
    answers = [stream.whole() for stream in waiting]
    assert all(is_stale(answer) for answer in answers) and s.provider.calls(prompt) == 2
    said = [cache_status(answer) for answer in answers]
    assert said.count({"fwd": "stale", "fwd-status": 503}) == 1
    assert said.count({"fwd": "stale", "fwd-status": 503, "collapsed": True}) == 3


# ── How old ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_gets_a_stale_one_unasked(stack, each):
    prompt = went_stale(stack, "demo")
    stack.provider.on(lambda call: call.error(500), prompt)
    assert each.post(ask(prompt)).status == 500


@pytest.mark.parametrize("streamed", [False, True])
def test_beyond_the_window(start, streamed):
    """Ours: a memcached that keeps what it should forget changes nothing."""
    s = start(CONFIG)
    prompt = s.provider.on(lambda call: call.plain(["old"]))
    s.client.chat(prompt, TTL, model="brief")
    key = entry_of(s)
    value = s.memcached.get(key)
    s.provider.on(lambda call: call.error(500), prompt)

    def failed():
        s.memcached.set(key, value)
        return s.client.post(ask(prompt, model="brief", stream=streamed)).status == 500
    wait_until(failed)
    assert s.memcached.get(key) == value
    assert s.client.post(ask(prompt, model="brief"), {"Cache-Control": "only-if-cached"}).status == 504


def test_the_windows_are_those_of_the_moment(start):
    s = start(CONFIG)
    prompt = went_stale(s, "both")
    s.provider.on(lambda call: call.error(500), prompt)
    assert is_stale(s.client.chat(prompt, model="both"))
    s.pavise.change({"models": {"both": {"cache": {"stale_while_revalidate": "0s"}}}})
    answer = wait_until(lambda: (a := s.client.chat(prompt, model="both")) and "fwd" in cache_status(a) and a)
    assert is_stale(answer) and cache_status(answer) == {"fwd": "stale", "fwd-status": 500}
    s.pavise.change({"models": {"both": {"cache": {"stale_while_revalidate": "0s", "stale_if_error": "0s"}}}})
    wait_until(lambda: s.client.post(ask(prompt, model="both")).status == 500)


@pytest.mark.parametrize("model,seconds", [("demo", 60), ("meanwhile", 3660), ("error", 3660), ("brief", 61)])
def test_memcached_keeps_it_for_the_longer_of_the_two(start, model, seconds):
    s = start(CONFIG)
    s.client.chat(unique(), {"X-Pavise-Cache-TTL": "60"}, model=model)
    key = entry_of(s)
    left = int(s.memcached.command(f"mg {key} t".encode()).split()[1][1:])
    assert seconds - 30 < left <= seconds


def test_cache_has_them_for_every_model(start):
    s = start({"cache": MEANWHILE, "models": {"own": {"provider": "fake", "cache": {"stale_while_revalidate": "0s"}}}})
    assert is_stale(s.client.chat(went_stale(s, "demo")))
    prompt = went_stale(s, "own")
    assert cache_status(s.client.chat(prompt, model="own"))["fwd"] in ("stale", "uri-miss")  # memcached keeps it no longer


def test_embeddings_are_asked_for_again(start):
    def vectors(call):
        call.answer({"object": "list", "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1},
                     "data": [{"object": "embedding", "index": 0, "embedding": [1.5]}]})
    s = start(CONFIG)
    s.provider.scripts[None] = vectors
    body = {"model": "both", "input": unique()}
    assert s.client.post(body, TTL, "/v1/embeddings").status == 200
    wait_until(lambda: s.client.post(body, {"Cache-Control": "only-if-cached"}, "/v1/embeddings").status == 504)
    s.provider.scripts[None] = lambda call: call.error(500)
    assert s.client.post(body, path="/v1/embeddings").status == 500


# ── Purged ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def purge(stack):
    assert stack.client.with_key("root").post({"all": True}, path="/admin/purge").status == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_purged_is_not_even_stale(stack, each, streamed):
    prompt = went_stale(stack, "both")
    purge(stack)
    stack.provider.on(lambda call: call.error(500), prompt)
    assert each.post(ask(prompt, model="both", stream=streamed)).status == 500
    assert each.post(ask(prompt, model="both"), {"Cache-Control": "only-if-cached"}).status == 504


@pytest.mark.parametrize("streamed", [False, True])
def test_purged_while_the_provider_fails(stack, each, streamed):
    prompt = went_stale(stack, "error")
    stack.provider.manual(prompt)
    with each.stream(ask(prompt, model="error", stream=streamed)) as waiting:
        call = stack.provider.take(prompt)
        purge(stack)
        call.error(500)
        answer = waiting.whole()
    assert b"old" not in answer.body and b"fake_code" in answer.body


def test_purged_while_it_is_refreshed(stack, each):
    prompt = went_stale(stack, "meanwhile")
    stack.provider.manual(prompt)
    answer = each.chat(prompt, model="meanwhile")
    assert is_stale(answer)
    call = stack.provider.take(prompt)
    purge(stack)
    call.plain(["asked before"])
    wait_until(lambda: refreshes(stack, answer))
    stack.provider.on(lambda call: call.plain(["asked after"]), prompt)
    assert content(each.chat(prompt, model="meanwhile")) == "asked after"
