"""Three memcacheds, and one of them dies, stops or forgets under load: its share of the keys misses, and that is all."""

import concurrent.futures
import contextlib
import json
import random
import socket
import threading
import time

import pytest

from client import ask, unique
from process import wait_until
from provider import chunk
from servers import Memcached, Stack, TcpMemcached
from spelling import key as key_of

TIMEOUT = 0.4
UNTIL_DOWN = 3  # so many late answers in a row are an outage
CLIENTS = 6
PROMPTS = 45


class Ring:
    """A Stack whose answers live on three servers, its counters on a fourth; prompts that are known there."""

    def __init__(self, start, servers, counters, **config):
        self.servers, self.counters = servers, counters
        memcached = {"servers": [s.name for s in servers], "timeout": f"{round(TIMEOUT * 1000)}ms"}
        if counters:
            memcached["counters"] = [counters.name]
        self.stack = start({"memcached": memcached, "server": {"workers": {"min": 8, "max": 40, "spare": 4}}, **config},
                           memcached=False)
        self.client, self.provider = self.stack.client, self.stack.provider
        self.prompts = []

    def warm(self, count=PROMPTS):
        """Prompts that have been answered; each answer is its prompt."""
        self.prompts = [self.provider.on(lambda call: call.plain([call.prompt[:4], call.prompt[4:]]))
                        for _ in range(count)]
        for prompt in self.prompts:
            assert self.client.chat(prompt).cache == "MISS"

    def key(self, prompt):
        return key_of(self.stack.pavise.config["memcached"]["prefix"], json.dumps(ask(prompt)), "key demo", "chat",
                      "fake", self.provider.url, "demo", headers=[("OpenAI-Beta", "")])

    def share(self, server):
        """The prompts whose answers the server holds."""
        return {prompt for prompt in self.prompts if server.get(self.key(prompt)) is not None}

    def events(self, event):
        return self.stack.pavise.log.find(lambda line: line["event"] == event)

    def downs_and_ups(self):
        return len(self.events("memcached_down")), len(self.events("memcached_up"))

    def wait_for(self, downs, ups):
        """Until so many lines have been written, with a request now and then that may find out."""
        wait_until(lambda: self.client.chat(unique()) and self.downs_and_ups() == (downs, ups), 10)


class Load:
    """Clients that ask the ring's prompts, again and again, until the `with` ends: .answers, each checked to be right."""

    def __init__(self, ring):
        self.ring, self.answers, self.over = ring, [], threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(CLIENTS)

    def ask_on(self, seed):
        chance = random.Random(seed)
        while not self.over.is_set():
            prompt, stream, begun = chance.choice(self.ring.prompts), chance.random() < 0.5, time.monotonic()
            answer = self.ring.client.post(ask(prompt, stream=stream))
            assert answer.status == 200, answer
            assert content(answer) == prompt
            self.answers.append((begun, prompt, answer))

    def since(self, moment):
        return [(prompt, answer.cache) for begun, prompt, answer in list(self.answers) if begun > moment]

    def wait(self, count):
        """Until there are so many more answers of requests that begin from now on; those, as (prompt, cache)."""
        moment = time.monotonic()
        wait_until(lambda: len(self.since(moment)) >= count or any(t.done() for t in self.tasks), 30)
        return self.since(moment)

    def __enter__(self):
        self.tasks = [self.pool.submit(self.ask_on, seed) for seed in range(CLIENTS)]
        return self

    def __exit__(self, *_):
        self.over.set()
        for task in self.tasks:
            task.result()
        self.pool.shutdown()


def content(answer):
    """Whatever its form."""
    if answer.body[:1] == b"{":
        return answer.json["choices"][0]["message"]["content"]
    assert answer.events[-1] == "[DONE]", answer
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in answer.events[:-1] if e["choices"])


@pytest.fixture
def servers_of(folder):
    """
    servers_of(kind, count): memcacheds of this test's own, to be hurt. With one thread, they have done what they were
    sent before when they answer.
    """
    with contextlib.ExitStack() as endings:
        yield lambda kind, count: [endings.enter_context(kind(folder, "-t", "1")) for _ in range(count)]


@pytest.fixture(params=[Memcached, TcpMemcached], ids=["unix", "tcp"])
def ring(request, start, servers_of):
    *servers, counters = servers_of(request.param, 4)
    return Ring(start, servers, counters)


def asked(server):
    """How many batches it has been sent, retries among them: each looks for one entry, or stores one."""
    stats = server.stats()
    return int(stats["cmd_get"]) + int(stats["cmd_set"])


def check_shares(answers, share):
    """What the dead one holds is bought again, and what the others hold comes from the cache."""
    assert {cache for prompt, cache in answers if prompt not in share} == {"HIT"}
    assert {cache for prompt, cache in answers if prompt in share} <= {"MISS", "COLLAPSED"}
    assert {prompt for prompt, _ in answers} & share


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_one_of_three_dies_under_load(ring, how):
    ring.warm()
    shares = [ring.share(server) for server in ring.servers]
    assert sum(map(len, shares)) == PROMPTS and set.union(*shares) == set(ring.prompts)
    assert min(map(len, shares)) >= PROMPTS / 9 and max(map(len, shares)) <= PROMPTS * 2 / 3
    dead, share = ring.servers[1], shares[1]
    with Load(ring) as load:
        assert {cache for _, cache in load.wait(60)} == {"HIT"}
        before = asked(dead)
        dead.kill() if how == "killed" else dead.stop()
        died = time.monotonic()
        check_shares(load.wait(120), share)
        wait_until(lambda: ring.downs_and_ups() == (1, 0))
        check_shares(load.wait(120), share)
    seconds = time.monotonic() - died
    dead.start() if how == "killed" else dead.cont()
    if how == "stopped":  # what it was sent meanwhile stood in its sockets
        assert UNTIL_DOWN <= asked(dead) - before <= UNTIL_DOWN + 2 * CLIENTS + seconds
    with Load(ring) as load:
        wait_until(lambda: ring.downs_and_ups() == (1, 1), 30)
        wait_until(lambda: {cache for _, cache in load.wait(60)} == {"HIT"}, 30)
    line = ring.events("memcached_down")[0]
    assert dead.name in line["message"] and line["level"] == "warn"
    workers = {line["worker"] for log in ring.stack.logs() for line in log.read() if line["event"] == "request"}
    assert len(workers) > 2 and ring.downs_and_ups() == (1, 1)  # one line for all of them
    for prompt in ring.prompts:
        ring.client.chat(prompt)
    assert ring.share(dead) == share  # nothing has moved


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_nobody_waits_twice(start, servers_of, when, stream):
    """A request sends a server that has stopped one batch, which it counts when it goes on."""
    *servers, counters = servers_of(Memcached, 4)
    ring = Ring(start, servers, counters)
    ring.warm()
    share = sorted(ring.share(servers[1]))
    for prompt in share[:UNTIL_DOWN + 1]:
        servers[1].flush()
        before = asked(servers[1])
        if when == "before":
            servers[1].stop()
            looked = 0
        else:  # it was there for the lookup, and is not there to remember
            def stop_and_answer(call):
                stop_and_answer.looked = asked(servers[1]) - before
                servers[1].stop()
                call.plain([call.prompt])
            ring.provider.scripts[prompt] = stop_and_answer
        answer = ring.client.chat(prompt, stream=stream)
        assert answer.cache == "MISS" and content(answer) == prompt
        assert ring.stack.log_of(answer)["stored"] is False  # all of it is over
        ring.provider.scripts[prompt] = lambda call: call.plain()
        servers[1].cont()
        looked = looked if when == "before" else stop_and_answer.looked
        assert asked(servers[1]) - before == looked + 1
        ring.client.chat(prompt)  # is answered: it is not down
    assert ring.downs_and_ups() == (0, 0)


@pytest.mark.parametrize("kind", [Memcached, TcpMemcached], ids=["unix", "tcp"])
def test_flushed_in_mid_flight(start, servers_of, kind):
    ring = Ring(start, servers_of(kind, 3), None)
    ring.warm()
    chance = random.Random(1)
    with Load(ring) as load:
        for _ in range(20):
            chance.choice(ring.servers).flush()
            load.wait(10)
        load.wait(60)
        wait_until(lambda: {cache for _, cache in load.wait(60)} == {"HIT"}, 30)
    seen = {answer.cache for _, _, answer in load.answers}
    assert seen <= {"HIT", "MISS", "COLLAPSED"} and {"HIT", "MISS"} <= seen
    assert ring.downs_and_ups() == (0, 0)


def test_each_of_three_in_turn(start, servers_of):
    """Restarted one after the other, as an upgrade of memcached does it: nobody is told anything but misses."""
    ring = Ring(start, servers_of(TcpMemcached, 3), None)
    ring.warm()
    with Load(ring) as load:
        for i, server in enumerate(ring.servers):
            others = set(ring.prompts) - ring.share(server)
            server.kill()
            wait_until(lambda: len(ring.events("memcached_down")) == i + 1, 30)
            assert {cache for prompt, cache in load.wait(60) if prompt in others} == {"HIT"}
            server.start()
            wait_until(lambda: len(ring.events("memcached_up")) == i + 1, 30)
            wait_until(lambda: len(set().union(*map(ring.share, ring.servers))) == PROMPTS, 30)
    assert ring.downs_and_ups() == (3, 3)


def test_a_host_that_has_vanished(start, servers_of):
    """One that no packet comes back from: a listener whose backlog is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        servers = servers_of(TcpMemcached, 2)
        vanished = TcpMemcached.__new__(TcpMemcached)  # but for its name
        vanished.port = listener.getsockname()[1]
        ring = Ring(start, [vanished, *servers], servers[1])
        ring.warm()
        ring.wait_for(1, 0)
        for prompt in ring.prompts:
            ring.client.chat(prompt)
        share = set(ring.prompts) - ring.share(servers[0]) - ring.share(servers[1])
        assert share and share != set(ring.prompts)
        with Load(ring) as load:
            check_shares(load.wait(120), share)
    assert ring.downs_and_ups() == (1, 0)
    assert f"{vanished.name} does not answer in time" in ring.events("memcached_down")[0]["message"]


# ── Counters and leases ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.parametrize("on_store_down", ["open", "closed", "local"])
def test_a_counters_server_down_concerns_its_own_counters(start, servers_of, how, on_store_down):
    limit = {"name": "day", "count": "requests", "per": ["key"], "amount": 1000, "window": "1d",
             "on_store_down": on_store_down}
    *counters, answers = servers_of(Memcached, 4)
    keys = [f"key-{i}" for i in range(18)]
    ring = Ring(start, [answers], None, limits=[limit], keys_file="keys.json")
    ring.stack.pavise.write_keys({"demo": {}, **{key: {} for key in keys}})
    ring.stack.pavise.change({"memcached": {"counters": [c.name for c in counters]}})
    wait_until(lambda: all(ring.client.with_key(key).post(ask("Hello")).status == 200 for key in keys))
    wait_until(lambda: ring.client.with_key(keys[0]).post(ask(unique())) and counters[0].keys(":c:"))
    for key in keys:
        ring.client.with_key(key).chat("Hello")
    lost = {key for key in keys if any(f"key={key}:" in name for name in counters[1].keys(":c:"))}
    assert 0 < len(lost) < len(keys)
    counters[1].kill() if how == "killed" else counters[1].stop()
    # first everybody at once, when nobody knows it yet; then again, when it is known
    for _ in range(2):
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as crowd:
            tasks = {key: crowd.submit(ring.client.with_key(key).post, ask("Hello")) for key in keys}
        results = {key: task.result() for key, task in tasks.items()}
        refused = {key for key, answer in results.items() if answer.status == 503}
        assert refused == (lost if on_store_down == "closed" else set())
        assert {answer.cache for answer in results.values() if answer.status == 200} == {"HIT"}
        assert all(answer.status in (200, 503) for answer in results.values())
    assert ring.downs_and_ups() == (1, 0)


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.parametrize("pool", ["answers", "counters"])
def test_twins_without_a_memcached(start, servers_of, how, pool):
    """Whoever cannot be told of another's call makes one; nobody fails."""
    answers, counters = servers_of(Memcached, 2)
    ring = Ring(start, [answers], counters)
    dead = {"answers": answers, "counters": counters}[pool]
    ring.client.chat(unique())
    dead.kill() if how == "killed" else dead.stop()
    prompt = ring.provider.on(lambda call: call.plain(["the ", "same"]))
    with concurrent.futures.ThreadPoolExecutor(12) as crowd:
        tasks = [crowd.submit(ring.client.chat, prompt, stream=i % 2 == 0) for i in range(12)]
    assert {content(task.result()) for task in tasks} == {"the same"}


def test_who_watched_for_its_host_and_has_a_slow_client(start, servers_of, folder):
    """The call is over, and not to be followed, while its answer is still on its way to who followed it."""
    answers, counters = servers_of(Memcached, 2)
    first = Ring(start, [answers], counters)
    memcached = {**first.stack.pavise.config["memcached"], "timeout": "10s"}
    first.stack.pavise.change({"memcached": memcached})
    question = {"response_format": {"type": "json_object"}}  # which the answer is not: it is not remembered
    with Stack(folder, {"memcached": memcached}, memcached=False, provider_url=first.provider.url) as second:
        prompt = first.provider.manual()
        with first.client.stream(ask(prompt, **question)) as leader:
            call = first.provider.take(prompt)
            before = asked(answers)
            with second.client.stream(ask(prompt, **question)) as slow:
                # it has looked for the end so often that the leader, who looks once a second, knows of it
                wait_until(lambda: asked(answers) > before + 1000)
                call.plain(["large"] * 2_000_000)
                assert leader.whole().cache == "MISS" and slow.headers["X-Cache"] == "COLLAPSED"
                first.provider.scripts[prompt] = lambda another: another.plain(["another"])
                answer = second.client.chat(prompt, **question)
                assert answer.cache == "MISS" and content(answer) == "another"


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_dead_in_mid_stream(start, servers_of, how):
    """The leader's client notices nothing, and who has seen nothing yet is answered by a call of its own."""
    answers, counters = servers_of(Memcached, 2)
    ring = Ring(start, [answers], counters)
    prompt = ring.provider.manual()
    with ring.client.stream(ask(prompt, stream=True)) as leader, concurrent.futures.ThreadPoolExecutor(4) as crowd:
        call = ring.provider.take(prompt)
        call.stream_head()
        before = asked(answers)
        followers = [crowd.submit(ring.client.post, ask(prompt)) for _ in range(4)]
        wait_until(lambda: asked(answers) == before + 4)  # each has looked, found nothing, and sees the leader next
        answers.kill() if how == "killed" else answers.stop()
        ring.provider.scripts[prompt] = lambda another: another.plain(["their ", "own"])
        call.event(chunk("all"))
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert content(leader.whole()) == "all"
        got = [task.result() for task in followers]
    assert [answer.status for answer in got] == 4 * [200], got
    assert {content(answer) for answer in got} == {"their own"}
