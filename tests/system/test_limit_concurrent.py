"""Calls at the same time: never one more than there are slots, on however many hosts, whoever dies or forgets."""

import concurrent.futures
import os
import signal
import threading

import pytest

from client import ask, unique
from process import wait_until
from procs import let_go, owner_of
from provider import chunk
from recorder import Recorder
from servers import Memcached, Stack
from test_limits_cache import limit

SLOT_S = 10  # lib/gate/slots.c


def calls(amount, name="calls", per=("key",), **fields):
    return {"name": name, "count": "concurrent", "per": list(per), "amount": amount, **fields}


def settings(*limits, **more):
    return {"limits": list(limits), "server": {"workers": {"min": 12, "max": 100, "spare": 8, "reserve": 1}}, **more}


@pytest.fixture
def own(folder):
    """A memcached of this test's own, to be hurt."""
    with Memcached(folder) as m:
        yield m


@pytest.fixture
def hosts(folder, memcached):
    """hosts(*limits) → two supervisors, each with a RUN_DIR, on one memcached and one provider."""
    stacks = []

    def start_both(*limits):
        prefix = {"memcached": {"prefix": unique()[-16:].replace(" ", "x")}}
        stacks.append(Stack(folder, settings(*limits, **prefix), memcached=memcached))
        stacks.append(Stack(folder, settings(*limits, **prefix), memcached=memcached,
                            provider_url=stacks[0].provider.url))
        return stacks
    yield start_both
    for stack in reversed(stacks):
        stack.end()


class Held:
    """Calls that the provider has and does not answer: .take(n) waits for n more, .answer(n) answers the oldest."""

    def __init__(self, stack, client=None, **fields):
        self.stack, self.fields = stack, fields
        self.client = client or stack.client
        self.pool = concurrent.futures.ThreadPoolExecutor(40)
        self.calls = []

    def ask(self, count=1, client=None):
        """Begins so many calls, which all reach the provider."""
        for _ in range(count):
            prompt = self.stack.provider.manual()
            answer = self.pool.submit((client or self.client).post, ask(prompt, **self.fields))
            self.calls.append((self.stack.provider.take(prompt), answer))

    def answer(self, count=None):
        for call, answer in self.calls[:count]:
            call.plain()
            assert answer.result().status == 200
        del self.calls[:count]

    def end(self):
        self.answer()
        self.pool.shutdown()


@pytest.fixture
def held():
    """held(stack) → a Held, answered with the test."""
    all_of_them = []

    def hold(*args, **fields):
        all_of_them.append(Held(*args, **fields))
        return all_of_them[-1]
    yield hold
    for one in all_of_them:
        one.end()


def refused(client, **fields):
    answer = client.post(ask(unique(), **fields))
    assert answer.status in (200, 429), answer
    return answer.status == 429


# ── What counts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_refusal(start, held):
    stack = start(settings(calls(2)), webs=("lighttpd", "apache"))
    busy = held(stack)
    busy.ask(2)
    for web in stack.webs.values():
        for stream in False, True:
            answer = web.client.post(ask(unique(), stream=stream))
            assert (answer.status, answer.error["type"], answer.error["code"]) == \
                (429, "rate_limit_error", "rate_limit_exceeded")
            assert "'calls'" in answer.error["message"] and "2 calls at the same time" in answer.error["message"]
            assert (answer.headers["Retry-After"], answer.headers["retry-after-ms"]) == ("1", "1000")
            assert answer.headers["RateLimit"] == '"calls";r=0' and "x-should-retry" not in answer.headers
            line = stack.log_of(answer)
            assert (line["limit"], line["error.type"], line["cache"]) == ("calls", "policy_rate_limit", "miss")
    assert not refused(stack.client.with_key("alice"))  # another key has its own
    assert len(stack.provider.seen) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_who_has_an_answer_may_ask_at_once(start, stream):
    """One after the other, as fast as it goes: the slot is free before the client knows that the answer is whole."""
    stack = start(settings(calls(1)), webs=("lighttpd", "apache"))
    for web in stack.webs.values():
        for _ in range(60):
            answer = web.client.post(ask(unique(), stream=stream))
            assert answer.status == 200 and (not stream or answer.events[-1] == "[DONE]"), answer


def test_every_end_of_a_call_frees_its_slot(start, held):
    stack = start(settings(calls(1), providers={"fake": {"timeout": {"first_byte": "300ms"}}}))
    provider = stack.provider
    ways = [lambda c: c.error(500), lambda c: c.error(400), lambda c: c.reset(), lambda c: c.close(),
            lambda c: c.answer(b"no json"), lambda c: c.hang(), lambda c: c.stream([]),
            lambda c: (c.stream_head(), c.event(chunk("a")), c.close())]
    for way in ways:
        for stream in False, True:
            stack.client.post(ask(provider.on(way), stream=stream))
            assert not refused(stack.client)


def test_a_client_that_leaves_frees_it(start):
    stack = start(settings(calls(1), stream={"commit_after": "0s", "heartbeat": "100ms"}))
    prompt = stack.provider.manual()
    with_it = stack.client.stream(ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    assert refused(stack.client)
    with_it.socket.close()
    wait_until(lambda: not refused(stack.client))
    let_go(call)


def test_hits_and_followers_need_none(start, held):
    stack = start(settings(calls(1)))
    known = unique()
    stack.client.chat(known)
    busy = held(stack)
    busy.ask()
    assert [stack.client.chat(known, stream=stream).cache for stream in (False, True)] == ["HIT", "HIT"]
    call, answer = busy.calls[0]
    follower = busy.pool.submit(stack.client.post, ask(call.prompt))
    assert refused(stack.client)
    busy.answer()
    assert follower.result().cache in ("COLLAPSED", "HIT") and follower.result().status == 200


def test_a_refused_leader_does_not_speak_for_others(start, held):
    """bob follows nobody who was refused: he asks for himself."""
    stack = start(settings(calls(1), models={"demo": {"cache": {"scope": "everyone"}}}))
    busy, prompt = held(stack), unique()
    busy.ask(client=stack.client.with_key("alice"))
    clients = [stack.client.with_key(key) for key in ("alice", "bob") * 8]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda client: client.post(ask(prompt)), clients))
    assert {a.status for a in answers[1::2]} == {200} and {a.status for a in answers[::2]} <= {200, 429}
    assert stack.provider.calls(prompt) == 1


def test_a_refresh_counts_and_is_left_out(start, held):
    stack = start(settings(calls(1), cache={"ttl": "1s", "stale_while_revalidate": "1m"}))
    asked = []
    prompt = stack.provider.on(lambda call: (asked.append(1), call.plain()))
    stack.client.chat(prompt)
    busy = held(stack)
    busy.ask()
    wait_until(lambda: stack.client.chat(prompt).cache == "STALE")
    for _ in range(5):
        assert stack.client.chat(prompt).cache == "STALE"
    assert len(asked) == 1
    busy.answer()
    wait_until(lambda: stack.client.chat(prompt).cache in ("STALE", "HIT") and len(asked) > 1)


def test_a_refresh_holds_a_slot(start):
    stack = start(settings(calls(1), cache={"ttl": "1s", "stale_while_revalidate": "1m"}))
    prompt = stack.provider.manual()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(stack.client.chat, prompt)
        stack.provider.take(prompt).plain()
        first.result()
    wait_until(lambda: stack.client.chat(prompt).cache == "STALE")
    behind = stack.provider.take(prompt)
    assert refused(stack.client)
    behind.plain()
    wait_until(lambda: not refused(stack.client))


def test_several_and_all_or_none(start, held):
    stack = start(settings(calls(3, "ours", per=[]), calls(1, "mine")))
    busy = held(stack)
    busy.ask(client=stack.client.with_key("alice"))
    for _ in range(5):
        answer = stack.client.with_key("alice").post(ask(unique()))
        assert answer.status == 429 and "'mine'" in answer.error["message"]
    busy.ask(client=stack.client.with_key("bob"))
    busy.ask(client=stack.client.with_key("carol"))  # what alice was refused is not missing
    answer = stack.client.post(ask(unique()))
    assert answer.status == 429 and "'ours'" in answer.error["message"]


def test_a_dry_run(start, held):
    stack = start(settings(calls(1, enforce=False), calls(1, "narrow", per=["model"], enforce=False),
                           limit("dry", amount=2, enforce=False)))
    busy = held(stack)
    busy.ask()
    answers = [stack.client.chat(unique()) for _ in range(2)]
    assert [stack.log_of(a)["would_refuse"] for a in answers] == ["calls,narrow", "dry,calls,narrow"] or \
        [set(stack.log_of(a)["would_refuse"].split(",")) for a in answers] == \
        [{"calls", "narrow"}, {"dry", "calls", "narrow"}]
    assert "RateLimit-Policy" not in answers[0].headers
    busy.answer()
    assert stack.log_of(stack.client.chat(unique()))["would_refuse"] == "dry"


def test_round_trips(folder, own, held):
    """One to take a slot and one to give it back; two more to know that none is free."""
    with Recorder(folder, own.path) as recorder:
        with Stack(folder, settings(calls(8), memcached={"servers": [str(recorder.path)], "counters": [str(recorder.path)]}),
                   memcached=own) as stack:
            stack.client.chat(unique(), store=True)  # connections are made
            recorder.taken()
            stack.client.chat(unique(), store=True)  # no cache, no lease: slots alone
            trips = [[words[0] for words in trip if ":t:" in words[1]] for trip in recorder.taken()]
            assert [trip for trip in trips if trip] == [["ms"], ["md"]]
            busy = held(stack, store=True)
            busy.ask(8)
            recorder.taken()
            assert refused(stack.client, store=True)
            trips = [[words[0] for words in trip if ":t:" in words[1]] for trip in recorder.taken()]
            assert [trip for trip in trips if trip] == [["ms"], 8 * ["mg"]]
            busy.answer()


# ── Whoever dies ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_worker_leaves_its_slot(start, held):
    stack = start(settings(calls(2)))
    busy = held(stack)
    busy.ask(2)
    assert refused(stack.client)
    call, answer = busy.calls.pop()
    worker = owner_of(call.socket, stack.pavise.workers())
    os.kill(worker, signal.SIGKILL)
    stack.pavise.wait_event("worker_died")
    answer.result()
    assert not refused(stack.client)  # at once: the supervisor has seen it
    busy.ask()
    assert refused(stack.client)
    let_go(call)


def test_a_killed_worker_of_another_host(hosts, held):
    a, b = hosts(calls(1))
    prompt = a.provider.manual()
    stream = a.client.stream(ask(prompt, stream=True))
    call = a.provider.take(prompt)
    assert refused(b.client)
    os.kill(owner_of(call.socket, a.pavise.workers()), signal.SIGKILL)
    wait_until(lambda: not refused(b.client), 2 * SLOT_S)
    stream.socket.close()
    let_go(call)


@pytest.mark.parametrize("stream", [False, True])
def test_a_long_call_keeps_its_slot(hosts, held, stream):
    """It is renewed long before its time is over; the other host knows of it from memcached alone."""
    a, b = hosts(calls(1))
    busy = held(a, stream=stream)
    busy.ask()
    [key] = a.memcached.keys(a.pavise.config["memcached"]["prefix"] + ":t:")

    def seconds_left():
        return int(a.memcached.command(f"mg {key} t".encode()).split(b"t")[1])
    for left in 7, 9, 7, 9:
        wait_until(lambda: seconds_left() <= left if left == 7 else seconds_left() >= left)
        assert refused(b.client)
    busy.answer()
    assert not refused(b.client)


# ── Exactly so many ───────────────────────────────────────────────────────────────────────────────────────────────────


class Counting:
    """A provider's script that knows how many calls it has at a time. The first `full` wait until that many are there."""

    def __init__(self, full):
        self.lock, self.all_there, self.full = threading.Condition(), False, full
        self.inside = self.most = self.calls = 0

    def __call__(self, call):
        with self.lock:
            self.inside += 1
            self.calls += 1
            self.most = max(self.most, self.inside)
            self.all_there |= self.inside >= self.full
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.all_there, 10)
            self.inside -= 1
        call.plain()


def test_never_nine_and_all_eight(hosts):
    """64 clients of two hosts ask again and again, whole answers and streams."""
    stacks = hosts(calls(8, per=[]))
    count = Counting(8)
    clients = [stack.client for stack in stacks]

    def client(i):
        statuses = []
        for j in range(12):
            prompt = stacks[0].provider.on(count)
            statuses.append(clients[(i + j) % 2].post(ask(prompt, stream=j % 3 == 0)).status)
        return statuses
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        statuses = sum(pool.map(client, range(64)), [])
    assert count.most == 8 and set(statuses) == {200, 429}
    assert count.calls == statuses.count(200) >= 64
    assert len([line for s in stacks for log in s.logs() for line in log.find(lambda l: l.get("limit") == "calls")]) == \
        statuses.count(429)
    for client in clients:  # and all of it is there again
        assert not refused(client)


# ── Store down ────────────────────────────────────────────────────────────────────────────────────────────────────────


def store_line(stack, answer):
    return stack.log_of(answer).get("limit_store")


HURT = {"dead": lambda m: m.kill(), "stopped": lambda m: m.stop()}
HEAL = {"dead": lambda m: m.start(), "stopped": lambda m: m.cont()}


@pytest.mark.parametrize("how", HURT)
@pytest.mark.parametrize("decision", ["open", "closed", "local"])
def test_without_memcached(start, held, own, how, decision):
    stack = start(settings(calls(2, on_store_down=decision), memcached={"timeout": "200ms"}), memcached=own)
    HURT[how](own)
    stack.client.post(ask(unique()))
    if decision == "closed":
        answer = stack.client.post(ask(unique()))
        assert (answer.status, answer.error["code"]) == (503, "limit_store_unavailable")
        assert store_line(stack, answer) == "closed" and stack.log_of(answer)["limit"] == "calls"
        assert answer.headers["Retry-After"] == "1"
    busy = held(stack)
    if decision != "closed":
        busy.ask(2)
        answer = stack.client.post(ask(unique()))
        assert answer.status == (200 if decision == "open" else 429)
        assert store_line(stack, answer) == decision
    HEAL[how](own)
    # what began in the meantime is known of, and nothing is lost or left over when it has ended
    wait_until(lambda: store_line(stack, stack.client.post(ask(unique()))) is None)
    if decision != "closed":
        assert refused(stack.client)
    busy.answer()
    wait_until(lambda: not refused(stack.client), SLOT_S + 5)
    busy.ask(2)
    assert refused(stack.client)


def test_a_flushed_memcached_refills_nothing(start, held, own):
    stack = start(settings(calls(3)), memcached=own)
    busy = held(stack)
    busy.ask(3)
    own.flush()
    for _ in range(10):
        assert refused(stack.client)
    prefix = stack.pavise.config["memcached"]["prefix"] + ":t:"
    wait_until(lambda: len(own.keys(prefix)) == 3)  # each takes its own again
    busy.answer(1)
    assert not refused(stack.client)
