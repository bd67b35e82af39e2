"""
One call for all who ask the same at the same time: the first leads, the others follow it, on every host, and nobody
depends on anybody's client.
"""

import asyncio
import collections
import concurrent.futures
import json
import os
import signal
import time

import pytest

import fastcgi
from client import ask, events_of, unique
from process import wait_until
from procs import owner_of
from provider import chunk, completion, usage_chunk
from servers import Memcached, Stack

CONFIG = {"models": {"shared": {"provider": "fake", "cache": {"scope": "everyone"}},
                     "uncached": {"provider": "fake", "cache": {"off": True}}}}


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(64) as executor:
        yield executor


def chats(pool, client, prompt, n, **fields):
    return [pool.submit(client.post, ask(prompt, **fields)) for _ in range(n)]


SLOTS, SLOT_BYTES, FOLLOWING_AT = 8192, 64, 24  # lib/edge/stats.h: the shared file ends with the workers' slots


def following(stack, n):
    """Until so many workers follow somebody."""
    shared = stack.pavise.folder / "pavise.shm"

    def count():
        with shared.open("rb") as f:
            f.seek(-SLOTS * SLOT_BYTES, os.SEEK_END)
            slots = f.read(4096 * SLOT_BYTES)
        return sum(slots[i + FOLLOWING_AT:i + FOLLOWING_AT + 8] != bytes(8) for i in range(0, len(slots), SLOT_BYTES))
    wait_until(lambda: count() >= n, what=f"{n} followers")


def leader_of(stack, call):
    """The pid of the worker that makes this call."""
    return owner_of(call.socket, stack.pavise.workers())


def content(stream):
    """Of its next event."""
    said = stream.next_data().json
    assert "choices" in said, said
    return said["choices"][0]["delta"]["content"]


def last(stream):
    """What it ends with."""
    data = stream.rest()[-1]
    return data if data == "[DONE]" else json.loads(data)


def text_of(events):
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e != "[DONE]" and e["choices"])


def rest_of(stream):
    """The text of all that is still to come."""
    return text_of(d if d == "[DONE]" else json.loads(d) for d in stream.rest())


def states(answers):
    return collections.Counter(a.cache for a in answers)


# ── One call ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("leads", ["json", "stream"])
def test_one_call_for_both_forms(stack, pool, leads):
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt, stream=leads == "stream"))
    call = stack.provider.take(prompt)
    others = chats(pool, stack.client, prompt, 8) + chats(pool, stack.client, prompt, 8, stream=True)
    following(stack, 16)
    call.plain()
    answers = [f.result() for f in [first, *others]]
    assert stack.provider.calls(prompt) == 1
    assert states(answers) == {"MISS": 1, "COLLAPSED": 16}
    for a in answers[1:]:
        assert a.status == 200 and a.headers["Cache-Status"] == "pavise; fwd=uri-miss; collapsed", a
    for a in answers[1:9]:
        assert a.json["choices"][0]["message"]["content"] == "It is fine."
        assert a.json["usage"]["total_tokens"] == 18
    for a in answers[9:]:
        assert text_of(a.events) == "It is fine." and a.events[-1] == "[DONE]"
    line = stack.log_of(answers[5])
    assert (line["cache"], line["cost_usd"], line["gen_ai.usage.output_tokens"]) == ("collapsed", 0, 7)
    assert line["saved_usd"] > 0 and "cache_age" not in line
    assert stack.client.chat(prompt).cache == "HIT"


def test_followers_see_tokens_as_they_are_made(stack, pool):
    prompt = stack.provider.manual()
    leader = stack.client.stream(ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    followers = [stack.client.stream(ask(prompt, stream=True)) for _ in range(5)]
    following(stack, 5)
    call.stream_head()
    for piece in "abc":
        call.event(chunk(piece))
        for s in [leader, *followers]:  # the next is only made when everybody has this one
            assert content(s) == piece
    late = stack.client.stream(ask(prompt, stream=True))
    assert [content(late) for _ in range(3)] == list("abc")
    call.event(chunk(finish="stop"))
    call.end_stream()
    for s in [leader, *followers, late]:
        assert last(s) == "[DONE]"
    assert stack.provider.calls(prompt) == 1


@pytest.mark.parametrize("sizes", [[540_000], [3_000_000, 1, 5_000_000], [3000] * 2000])
def test_large_events_and_many(stack, pool, sizes):
    """More than an item of memcached holds, and more than is kept for who may come."""
    prompt = stack.provider.manual()
    leader = pool.submit(stack.client.post, ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    followers = [stack.client.stream(ask(prompt, stream=True)) for _ in range(3)]
    following(stack, 3)
    call.stream_head()
    call.event(chunk("a"))
    assert [content(s) for s in followers] == ["a"] * 3
    rest = [pool.submit(rest_of, s) for s in followers]
    for i, size in enumerate(sizes):
        call.event(chunk(str(i % 10) * size))
    call.event(chunk(finish="stop"))
    call.end_stream()
    expected = "".join(str(i % 10) * size for i, size in enumerate(sizes))
    assert text_of(leader.result().events) == "a" + expected
    assert all(f.result() == expected for f in rest)
    assert stack.provider.calls(prompt) == 1


def test_usage_is_for_who_asked(stack, pool):
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    asking = chats(pool, stack.client, prompt, 3, stream=True, stream_options={"include_usage": True})
    others = chats(pool, stack.client, prompt, 3, stream=True)
    following(stack, 6)
    call.stream_head()
    call.event(chunk("a"))
    call.event(chunk(finish="stop"))
    call.event(usage_chunk())
    call.end_stream()
    for f in asking:
        said = [e["usage"] for e in f.result().events if e != "[DONE]" and e.get("usage")]
        assert [u["total_tokens"] for u in said] == [18]
    for f in [first, *others]:
        assert not any("usage" in e for e in f.result().events if e != "[DONE]")
    assert stack.provider.calls(prompt) == 1


def test_two_questions_are_two_calls(stack, pool):
    one, two = stack.provider.manual(), stack.provider.manual()
    a, b = (pool.submit(stack.client.post, ask(p)) for p in (one, two))
    call_one, call_two = stack.provider.take(one), stack.provider.take(two)
    same = pool.submit(stack.client.with_key("alice").post, ask(one))  # another scope
    stack.provider.take(one).answer(completion("alice's"))
    call_one.answer(completion("one"))
    call_two.answer(completion("two"))
    assert [f.result().json["choices"][0]["message"]["content"] for f in (a, b, same)] == ["one", "two", "alice's"]


@pytest.mark.parametrize("headers,fields", [
    ({"Cache-Control": "no-store"}, {}), ({"Cache-Control": "no-cache"}, {}), ({}, {"store": True}),
    ({}, {"model": "uncached"}), ({"X-Pavise-Cache-TTL": "0"}, {})])
def test_who_neither_leads_nor_follows(stack, pool, headers, fields):
    prompt = stack.provider.manual()
    ours = [pool.submit(stack.client.post, ask(prompt, **fields), headers) for _ in range(2)]
    calls = [stack.provider.take(prompt) for _ in range(2)]
    plain = pool.submit(stack.client.post, ask(prompt, **fields))
    calls.append(stack.provider.take(prompt))
    also = pool.submit(stack.client.post, ask(prompt, **fields), headers)
    calls.append(stack.provider.take(prompt))
    for call in calls:
        call.plain()
    assert [f.result().status for f in [*ours, plain, also]] == [200] * 4
    assert all(f.result().cache != "COLLAPSED" for f in [*ours, plain, also])


def test_switched_off(start, pool):
    stack = start({"cache": {"coalesce": False}})
    prompt = stack.provider.manual()
    answers = chats(pool, stack.client, prompt, 3)
    for call in [stack.provider.take(prompt) for _ in range(3)]:
        call.plain()
    assert states([f.result() for f in answers]) == {"MISS": 3}


# ── What is not remembered is shared all the same ─────────────────────────────────────────────────────────────────────


SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {
    "name": "n", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}}


@pytest.mark.parametrize("leads", ["json", "stream"])
def test_an_answer_that_is_not_remembered(stack, pool, leads):
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt, stream=leads == "stream", **SCHEMA))
    call = stack.provider.take(prompt)
    others = chats(pool, stack.client, prompt, 3, **SCHEMA) + chats(pool, stack.client, prompt, 3, stream=True, **SCHEMA)
    following(stack, 6)
    call.plain()
    answers = [f.result() for f in [first, *others]]
    assert stack.provider.calls(prompt) == 1 and states(answers)["COLLAPSED"] == 6
    assert {a.json["choices"][0]["message"]["content"] for a in answers[1:4]} == {"It is fine."}
    assert {text_of(a.events) for a in answers[4:]} == {"It is fine."}
    for a in answers[1:4]:
        assert a.headers["X-Pavise-Schema"] == "invalid"
    for a in answers:
        line = stack.log_of(a)
        assert (line["schema"], line["error.type"]) == ("invalid", "provider_schema_mismatch") and line["schema_detail"]
    again = pool.submit(stack.client.post, ask(prompt, **SCHEMA))
    stack.provider.take(prompt).answer(completion('{"a":1}'))
    assert again.result().cache == "MISS"


SMALL = {"cache": {"max_entry": "64KiB"}}


@pytest.mark.parametrize("leads,script", [
    ("json", lambda call: call.answer(completion("x" * 150_000))),
    ("stream", lambda call: call.plain(["x" * 1000] * 150)),
    ("json", lambda call: call.answer(b'{"odd":NaN,' + json.dumps(completion("x")).encode()[1:])),
    ("stream", lambda call: undone(call))], ids=["large", "large stream", "NaN", "no [DONE]"])
def test_one_that_is_none_for_the_cache(start, pool, leads, script):
    """Too large, hardly JSON, not said to be whole: one call for all who want it in this form."""
    stack = start(SMALL)
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt, stream=leads == "stream"))
    call = stack.provider.take(prompt)
    same = chats(pool, stack.client, prompt, 8, stream=leads == "stream")
    following(stack, 8)
    script(call)
    answers = [f.result() for f in [first, *same]]
    assert stack.provider.calls(prompt) == 1 and states(answers) == {"MISS": 1, "COLLAPSED": 8}
    assert len({a.body.split(b"choices", 1)[1] for a in answers[1:]}) == 1
    assert not stack.log_of(first.result())["stored"]


def undone(call):
    call.stream_head()
    call.event(chunk("x"))
    call.event(chunk(finish="stop"))
    call.end_stream(done=False)


def test_a_stream_of_it_for_who_wants_json(start, pool):
    """One after the other asks in its own form, until one answer is theirs."""
    stack = start(SMALL)
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    others = chats(pool, stack.client, prompt, 8)
    following(stack, 8)
    call.plain(["x" * 1000] * 150)
    stack.provider.take(prompt).answer(completion("x" * 150_000))
    assert {len(f.result().json["choices"][0]["message"]["content"]) for f in others} == {150_000}
    assert first.result().events[-1] == "[DONE]" and stack.provider.calls(prompt) == 2


@pytest.mark.parametrize("leads", ["json", "stream"])
def test_an_error_is_everybodys(stack, pool, leads):
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt, stream=leads == "stream"))
    call = stack.provider.take(prompt)
    others = chats(pool, stack.client, prompt, 3) + chats(pool, stack.client, prompt, 3, stream=True)
    following(stack, 6)
    call.error(429, "slow down", {"Retry-After": "7", "x-request-id": "req_theirs"})
    for f in [first, *others]:
        answer = f.result()
        assert (answer.status, answer.error["message"], answer.headers["Retry-After"]) == (429, "slow down", "7")
        assert answer.headers["x-pavise-upstream-request-id"] == "req_theirs"
    assert stack.provider.calls(prompt) == 1
    line = stack.log_of(others[0].result())
    assert (line["cache"], line["error.type"]) == ("collapsed", "provider_error")


def test_a_stream_that_breaks_breaks_for_all(stack, pool):
    prompt = stack.provider.manual()
    streams = [stack.client.stream(ask(prompt, stream=True))]
    call = stack.provider.take(prompt)
    streams += [stack.client.stream(ask(prompt, stream=True)) for _ in range(3)]
    whole = chats(pool, stack.client, prompt, 2)
    following(stack, 5)
    call.stream_head()
    call.event(chunk("half"))
    for s in streams:
        assert content(s) == "half"
    call.reset()
    for s in streams:
        assert last(s)["error"]["code"] == "provider_connection_broken"
    assert {f.result().status for f in whole} == {502}
    assert stack.provider.calls(prompt) == 1


# ── Those who leave ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["json", "stream"])
def test_the_leaders_client_leaves(stack, pool, form):
    prompt = stack.provider.manual()
    leader = stack.client.stream(ask(prompt, stream=form == "stream"))
    call = stack.provider.take(prompt)
    others = chats(pool, stack.client, prompt, 2, stream=form == "stream")
    following(stack, 2)
    leader.close()
    assert call.peer_gone(2.5) is None  # somebody follows
    call.plain()
    answers = [f.result() for f in others]
    assert states(answers) == {"COLLAPSED": 2} and stack.provider.calls(prompt) == 1
    assert stack.client.chat(prompt).cache == "HIT"


def test_the_call_ends_when_nobody_is_left(stack):
    prompt = stack.provider.manual()
    leader = stack.client.stream(ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    other = stack.client.stream(ask(prompt, stream=True))
    following(stack, 1)
    leader.close()
    assert call.peer_gone(2) is None
    other.close()
    assert call.peer_gone(20)


def test_a_follower_who_leaves_disturbs_nobody(stack, pool):
    prompt = stack.provider.manual()
    leader = pool.submit(stack.client.post, ask(prompt))
    call = stack.provider.take(prompt)
    quitter = stack.client.stream(ask(prompt, stream=True))
    stayer = pool.submit(stack.client.post, ask(prompt))
    following(stack, 2)
    quitter.close()
    wait_until(lambda: stack.pavise.log.find(lambda line: line.get("error.type") == "caller_gone"))
    call.plain()
    assert {leader.result().status, stayer.result().status} == {200}


# ── Those who die ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_leader_killed_before_its_first_token(start, pool):
    stack = start()
    prompt = stack.provider.manual()
    with concurrent.futures.ThreadPoolExecutor(64) as doomed:
        first = doomed.submit(stack.client.post, ask(prompt))
        call = stack.provider.take(prompt)
        others = chats(pool, stack.client, prompt, 4) + chats(pool, stack.client, prompt, 4, stream=True)
        following(stack, 8)
        for _ in range(3):  # one after the other
            os.kill(leader_of(stack, call), signal.SIGKILL)
            assert call.peer_gone(10)
            call.finish()
            call = stack.provider.take(prompt)
            assert stack.provider.held[prompt].empty()  # one call at a time
        call.plain()
        answers = [f.result() for f in [first, *others]]
    good = [a for a in answers if a.status == 200]
    assert len(good) == 9 - 3 and stack.provider.calls(prompt) == 4
    said = states(good)
    assert said["MISS"] == 1 and said["COLLAPSED"] + said["HIT"] == 5  # who wakes last finds it remembered


def test_a_leader_killed_in_mid_stream(start, pool):
    stack = start()
    prompt = stack.provider.manual()
    leader = stack.client.stream(ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    begun = [stack.client.stream(ask(prompt, stream=True)) for _ in range(3)]
    waiting = chats(pool, stack.client, prompt, 3)
    following(stack, 6)
    call.stream_head()
    call.event(chunk("half"))
    for s in [leader, *begun]:
        assert content(s) == "half"
    os.kill(leader_of(stack, call), signal.SIGKILL)
    for s in begun:
        assert last(s)["error"]["code"] == "provider_connection_broken"
    call.finish()
    again = stack.provider.take(prompt)
    again.plain()
    assert {f.result().status for f in waiting} == {200}
    assert stack.provider.calls(prompt) == 2


# ── Two hosts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hosts(folder, memcached):
    """Two supervisors, each with a RUN_DIR and a provider of its own name, on one memcached."""
    config = {"memcached": {"prefix": unique()[-16:].replace(" ", "x")}}
    with Stack(folder, config, memcached=memcached) as a:
        with Stack(folder, config, ("lighttpd", "apache"), memcached=memcached, provider_url=a.provider.url) as b:
            yield a, b


@pytest.mark.parametrize("leads", ["json", "stream"])
def test_two_hosts_one_call(hosts, pool, leads):
    a, b = hosts
    prompt = a.provider.manual()
    first = pool.submit(a.client.post, ask(prompt, stream=leads == "stream"))
    call = a.provider.take(prompt)
    there = chats(pool, b.client, prompt, 4) + chats(pool, b.client, prompt, 4, stream=True)
    following(b, 8)
    call.plain()
    answers = [f.result() for f in [first, *there]]
    assert a.provider.calls(prompt) == 1
    assert states(answers[1:]) == {"COLLAPSED": 8}
    assert all(x.status == 200 for x in answers)


def test_a_stream_followed_on_another_host(hosts):
    a, b = hosts
    prompt = a.provider.manual()
    leader = a.client.stream(ask(prompt, stream=True))
    call = a.provider.take(prompt)
    there = [b.client.stream(ask(prompt, stream=True)) for _ in range(3)]
    following(b, 3)
    call.stream_head()
    for piece in "abcd":
        call.event(chunk(piece))
        for s in [leader, *there]:
            assert content(s) == piece
        if piece == "b":
            there.pop(0).close()  # perhaps the one that watched for its host
    leader.close()
    assert call.peer_gone(2) is None
    call.event(chunk(finish="stop"))
    call.end_stream()
    for s in there:
        assert last(s) == "[DONE]"
    assert a.provider.calls(prompt) == 1


def test_the_call_goes_on_for_who_has_just_come_on_another_host(hosts, pool):
    """The leader has not heard of it yet when its client leaves: it asks before it ends the call."""
    a, b = hosts
    prompt = a.provider.manual()
    body = json.dumps(ask(prompt)).encode()
    client = fastcgi.FastCGI(a.pavise.socket)
    client.request(fastcgi.params_of("/v1/chat/completions", "POST", body, key="demo"), body)
    call = a.provider.take(prompt)
    there = chats(pool, b.client, prompt, 2)
    following(b, 2)
    wait_until(lambda: a.memcached.keys(":wanted"))
    client.close()
    assert call.peer_gone(2) is None
    call.plain()
    assert states([f.result() for f in there]) == {"COLLAPSED": 2} and a.provider.calls(prompt) == 1


def test_a_leader_dies_on_another_host(hosts, pool):
    a, b = hosts
    prompt = a.provider.manual()
    with concurrent.futures.ThreadPoolExecutor(1) as doomed:
        doomed.submit(a.client.post, ask(prompt))
        call = a.provider.take(prompt)
        there = chats(pool, b.client, prompt, 4)
        following(b, 4)
        os.kill(leader_of(a, call), signal.SIGKILL)
        call.finish()
        again = a.provider.take(prompt)  # when its lease has run out
        again.plain()
    said = states([f.result() for f in there])
    assert said["MISS"] == 1 and said["COLLAPSED"] + said["HIT"] == 3  # who wakes last finds it remembered
    assert a.provider.calls(prompt) == 2


# ── memcached ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_memcached_is_flushed_in_mid_stream(start, folder, pool):
    with Memcached(folder) as own:
        stack = start(memcached=own)
        prompt = stack.provider.manual()
        leader = stack.client.stream(ask(prompt, stream=True))
        call = stack.provider.take(prompt)
        whole = chats(pool, stack.client, prompt, 3)
        following(stack, 3)
        call.stream_head()
        call.event(chunk("a"))
        assert content(leader) == "a"
        own.flush()
        late = pool.submit(stack.client.post, ask(prompt, stream=True))  # all has been forgotten, who asks it, too
        stack.provider.take(prompt).plain(["new"])
        assert text_of(late.result().events) == "new"
        call.event(chunk("b"))
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert last(leader) == "[DONE]"
        assert {f.result().json["choices"][0]["message"]["content"] for f in whole} == {"ab"}
        assert stack.provider.calls(prompt) == 2


def test_memcached_stops_for_a_moment(start, folder, pool):
    """What it has not taken is offered again, and nobody who follows sees more of it than a pause."""
    with Memcached(folder) as own:
        stack = start({"memcached": {"timeout": "50ms"}}, memcached=own)
        prompt = stack.provider.manual()
        leader = stack.client.stream(ask(prompt, stream=True))
        call = stack.provider.take(prompt)
        there = [stack.client.stream(ask(prompt, stream=True)) for _ in range(2)]
        whole = chats(pool, stack.client, prompt, 2)
        following(stack, 4)
        call.stream_head()
        call.event(chunk("a"))
        for s in [leader, *there]:
            assert content(s) == "a"
        own.stop()
        call.event(chunk("b"))
        assert content(leader) == "b"  # it has been offered by now
        own.cont()
        call.event(chunk("c"))
        for s in there:
            assert content(s) == "b" and content(s) == "c"
        call.event(chunk(finish="stop"))
        own.stop()
        call.end_stream()
        while leader.next_data().data != "[DONE]":
            pass
        own.cont()  # before it has said how it ended
        for s in there:
            assert last(s) == "[DONE]"
        assert {f.result().json["choices"][0]["message"]["content"] for f in whole} == {"abc"}
        assert stack.provider.calls(prompt) == 1


def test_without_the_leases_server_it_is_one_call_a_host(start, folder, pool):
    with Memcached(folder) as counters:
        stack = start({"memcached": {"counters": [str(counters.path)], "timeout": "200ms"}})
        counters.stop()
        prompt = stack.provider.manual()
        first = pool.submit(stack.client.post, ask(prompt))
        call = stack.provider.take(prompt)
        others = chats(pool, stack.client, prompt, 8)
        following(stack, 8)
        call.plain()
        assert states([f.result() for f in [first, *others]])["MISS"] == 1
        assert stack.provider.calls(prompt) == 1
        counters.cont()


def test_the_leases_server_stops_in_mid_stream(folder, memcached):
    """The host that watches goes on watching."""
    with Memcached(folder) as counters:
        config = {"memcached": {"prefix": unique()[-16:].replace(" ", "x"), "counters": [str(counters.path)],
                                "timeout": "200ms"}}
        with Stack(folder, config, memcached=memcached) as a, \
                Stack(folder, config, memcached=memcached, provider_url=a.provider.url) as b:
            prompt = a.provider.manual()
            leader = a.client.stream(ask(prompt, stream=True))
            call = a.provider.take(prompt)
            there = [b.client.stream(ask(prompt, stream=True)) for _ in range(3)]
            following(b, 3)
            call.stream_head()
            counters.stop()
            for i in range(20):
                call.event(chunk(str(i)))
                for s in [leader, *there]:
                    assert content(s) == str(i)
                time.sleep(0.25)  # longer than any lease lives
            counters.cont()
            call.event(chunk(finish="stop"))
            call.end_stream()
            assert [last(s) for s in [leader, *there]] == ["[DONE]"] * 4
            assert a.provider.calls(prompt) == 1


def test_memcached_is_late_when_twins_come(start, folder, pool):
    """They find it down, and somebody here who leads what they ask."""
    with Memcached(folder) as own:
        stack = start({"memcached": {"timeout": "50ms"}}, memcached=own)
        prompt = stack.provider.manual()
        leader = stack.client.stream(ask(prompt, stream=True))
        call = stack.provider.take(prompt)
        call.stream_head()
        call.event(chunk("a"))
        assert content(leader) == "a"
        own.stop()
        twins = chats(pool, stack.client, prompt, 3) + chats(pool, stack.client, prompt, 3, stream=True)
        wait_until(lambda: stack.pavise.log.find(lambda line: line["event"] == "memcached_down"))
        own.cont()
        following(stack, 6)
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert states([f.result() for f in twins]) == {"COLLAPSED": 6}
        assert stack.provider.calls(prompt) == 1


def test_without_memcached_everybody_asks(start, folder, pool):
    with Memcached(folder) as own:
        stack = start(memcached=own)
        own.kill()
        prompt = stack.provider.manual()
        answers = chats(pool, stack.client, prompt, 5)
        for call in [stack.provider.take(prompt) for _ in range(5)]:
            call.plain()
        assert {f.result().status for f in answers} == {200}


# ── Many ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def twin(port, prompt, stream):
    """A whole answer over a socket of its own; as bytes."""
    body = json.dumps(ask(prompt, stream=stream)).encode()
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer demo\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(head + body)
    await writer.drain()
    answer = await reader.read(-1)
    writer.close()
    return answer


def test_a_thousand_twins(start):
    """Half of them want a stream; they come all at once on a cold key, to a pool that must first grow."""
    stack = start({"server": {"workers": {"min": 4, "max": 1200, "spare": 4, "reserve": 2}}})
    prompt = stack.provider.on(slow_stream)

    async def everybody():
        return await asyncio.wait_for(
            asyncio.gather(*(twin(stack.webs["lighttpd"].port, prompt, i % 2 == 0) for i in range(1000))), 120)
    answers = asyncio.run(everybody())
    statuses = collections.Counter(a.split(b" ", 2)[1] for a in answers)
    assert statuses == {b"200": 1000}
    assert stack.provider.calls(prompt) == 1
    seen = collections.Counter()
    for i, a in enumerate(answers):
        head, _, body = a.partition(b"\r\n\r\n")
        seen[[line for line in head.split(b"\r\n") if line.startswith(b"X-Cache: ")][0]] += 1
        if i % 2 == 0:
            body = unchunked(body) if b"ransfer-Encoding: chunked" in head else body
            events = events_of(body.decode())
            assert text_of(events) == TEXT and events[-1] == "[DONE]", events
        else:
            body = unchunked(body) if b"ransfer-Encoding: chunked" in head else body
            assert json.loads(body)["choices"][0]["message"]["content"] == TEXT
    assert seen[b"X-Cache: MISS"] == 1
    assert not stack.pavise.deaths()


TEXT = "".join(f"{i} " for i in range(20))


def slow_stream(call):
    """Long enough for a thousand to come."""
    time.sleep(1)
    if not call.json.get("stream"):
        call.answer(completion(TEXT))
        return
    call.stream_head()
    for piece in TEXT.split(" ")[:-1]:
        call.event(chunk(piece + " "))
        time.sleep(0.1)
    call.event(chunk(finish="stop"))
    call.end_stream()


def unchunked(body):
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        n = int(size, 16)
        out, body = out + body[:n], body[n + 2:]
        if n == 0:
            break
    return out


def test_a_failure_after_the_leaders_client_has_left(stack, pool):
    prompt = stack.provider.manual()
    leader = stack.client.stream(ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    streams = [stack.client.stream(ask(prompt, stream=True)) for _ in range(2)]
    there = chats(pool, stack.client, prompt, 2)
    following(stack, 4)
    call.stream_head()
    call.event(chunk("a"))
    assert [content(s) for s in [leader, *streams]] == ["a"] * 3
    leader.close()
    for i in range(40):  # it is noticed when something is written
        call.event(chunk(str(i)))
        assert [content(s) for s in streams] == [str(i)] * 2
        time.sleep(0.01)
    call.event({"error": {"message": "melted", "type": "server_error", "param": None, "code": "melted"}})
    call.end_stream(done=False)
    assert [last(s)["error"]["code"] for s in streams] == ["melted"] * 2
    assert [f.result().error["code"] for f in there] == ["melted"] * 2
    assert stack.provider.calls(prompt) == 1


def test_a_long_error_is_everybodys(stack, pool):
    """Longer than an item of memcached."""
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt))
    call = stack.provider.take(prompt)
    there = chats(pool, stack.client, prompt, 4) + chats(pool, stack.client, prompt, 4, stream=True)
    following(stack, 8)
    call.error(503, 'why "' * 300_000)
    said = [f.result() for f in [first, *there]]
    assert {a.status for a in said} == {503} and len({a.body for a in said}) == 1
    assert stack.provider.calls(prompt) == 1


def test_no_entry_in_one_body_for_who_wants_a_stream(stack, pool):
    """A provider that does not know what a stream is, and answers what cannot be remembered: JSON, played as a stream."""
    prompt = stack.provider.manual()
    first = pool.submit(stack.client.post, ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    there = chats(pool, stack.client, prompt, 4) + chats(pool, stack.client, prompt, 4, stream=True)
    following(stack, 8)
    call.answer(b'{"odd":NaN,' + json.dumps(completion("x")).encode()[1:])
    said = [f.result() for f in [first, *there]]
    assert {a.status for a in said} == {200} and len({a.body for a in said[1:5]}) == 1
    assert {a.json["choices"][0]["message"]["content"] for a in said[1:5]} == {"x"}
    assert {text_of(a.events) for a in [first.result(), *said[5:]]} == {"x"}
    assert stack.provider.calls(prompt) == 1


@pytest.mark.parametrize("web", ["lighttpd", "apache"])
def test_a_slow_client_as_leader_slows_nobody(folder, pool, web):
    """
    It does not read at all while the answer is made: 24 MB of it, more than any buffer on the way. In a memcached of its
    own, since one whose memory has gone to other sizes would not keep so much of this one.
    """
    with Stack(folder, webs=(web,)) as stack:
        prompt = stack.provider.manual()
        leader = stack.client.stream(ask(prompt, stream=True))
        call = stack.provider.take(prompt)
        followers = chats(pool, stack.client, prompt, 2, stream=True)
        following(stack, 2)
        call.stream_head()
        for i in range(384):
            call.event(chunk(str(i % 10) * 65536))
        call.event(chunk(finish="stop"))
        call.end_stream()
        for f in followers:
            assert len(text_of(f.result().events)) == 384 * 65536
        assert stack.provider.calls(prompt) == 1
        assert len(rest_of(leader)) == 384 * 65536


def test_a_slow_client_that_watches_slows_nobody(hosts, pool):
    """The first of its host, behind a server that does not take in for it what it does not read."""
    a, b = hosts
    prompt = a.provider.manual()
    leader = a.client.stream(ask(prompt, stream=True))
    call = a.provider.take(prompt)
    slow = b.webs["apache"].client.stream(ask(prompt, stream=True))
    following(b, 1)
    there = [b.client.stream(ask(prompt, stream=True)) for _ in range(3)]
    following(b, 4)
    call.stream_head()
    for i in range(100):
        call.event(chunk(str(i % 10) * 65536))
        for s in [leader, *there]:
            assert len(content(s)) == 65536
    call.event(chunk(finish="stop"))
    call.end_stream()
    assert [last(s) for s in [leader, *there]] == ["[DONE]"] * 4
    assert len(rest_of(slow)) == 100 * 65536
    assert a.provider.calls(prompt) == 1
