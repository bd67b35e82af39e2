"""memcached absent, killed, stopped, slow to come back: chats go on, limits do as they were told, one line says so."""

import concurrent.futures
import signal
import socket
import statistics
import time

import pytest

from client import ask, unique
from process import Process, free_port, listens, wait_until
from servers import Memcached

TIMEOUT = 0.7  # memcached.timeout: large, so that one and two of them cannot be mistaken for each other
UNTIL_DOWN = 3  # so many late answers in a row are an outage; one is a busy machine


def settings(timeout=TIMEOUT, limits=(), **memcached):
    return {"memcached": {"timeout": f"{round(timeout * 1000)}ms", **memcached}, "limits": list(limits),
            "server": {"workers": {"min": 8, "max": 40, "spare": 4, "reserve": 1}}}


def limit(amount, on_store_down="open", name="day"):
    return {"name": name, "count": "requests", "per": ["key"], "amount": amount, "window": "1d",
            "on_store_down": on_store_down}


@pytest.fixture
def own(folder):
    """A memcached of this test's own, to be hurt."""
    with Memcached(folder) as m:
        yield m


@pytest.fixture
def counters(folder):
    with Memcached(folder) as m:
        yield m


def lines(stack, event):
    return stack.pavise.log.find(lambda line: line["event"] == event)


def downs_and_ups(stack):
    return len(lines(stack, "memcached_down")), len(lines(stack, "memcached_up"))


def together(n, function):
    """What n calls of it return that run at the same time."""
    with concurrent.futures.ThreadPoolExecutor(n) as crowd:
        return [task.result() for task in [crowd.submit(function) for _ in range(n)]]


def statuses(answers):
    return sorted(answer.status for answer in answers)


def seconds(function):
    begin = time.monotonic()
    function()
    return time.monotonic() - begin


def cached_again(stack):
    """Waits until an answer that is given twice comes from the cache the second time."""
    def twice():
        prompt = unique()
        return [stack.client.chat(prompt).cache for _ in range(2)] == ["MISS", "HIT"]
    wait_until(twice, 5, "memcached to be used again")


# ── chats ──

def test_absent_from_the_start(start):
    s = start(settings(), memcached=False)
    prompt = unique()
    for stream in (False, True, False):
        answer = s.client.chat(prompt, stream=stream)
        assert answer.cache == "MISS" and s.log_of(answer)["store_down"] is True
        assert answer.headers["Cache-Status"] == "pavise; fwd=uri-miss; detail=store-down"
    assert s.provider.calls(prompt) == 3
    assert statuses(together(40, lambda: s.client.post(ask(unique())))) == 40 * [200]
    assert s.client.get("/readyz").status == s.client.get("/healthz").status == 200
    assert downs_and_ups(s) == (1, 0)
    line = lines(s, "memcached_down")[0]
    assert line["level"] == "warn" and "/nonexistent/memcached.sock cannot be reached" in line["message"]


def test_killed_and_back(start, own):
    s = start(settings(), memcached=own)
    prompt = unique()
    assert [s.client.chat(prompt).cache for _ in range(2)] == ["MISS", "HIT"]
    own.kill()
    for stream in (False, True):
        assert seconds(lambda: s.client.chat(prompt, stream=stream)) < TIMEOUT
        assert s.client.chat(prompt, stream=stream).cache == "MISS"
    assert statuses(together(40, lambda: s.client.post(ask(unique())))) == 40 * [200]
    assert downs_and_ups(s) == (1, 0)
    own.start()
    cached_again(s)
    assert statuses(together(20, lambda: s.client.post(ask(unique())))) == 20 * [200]
    assert downs_and_ups(s) == (1, 1)
    assert lines(s, "memcached_up")[0]["level"] == "info"


def test_stopped_costs_a_request_one_timeout_at_most(start, own):
    s = start(settings(), memcached=own)
    prompt = unique()
    s.client.chat(prompt)
    before = statistics.median(seconds(lambda: s.client.chat(unique())) for _ in range(5))
    own.stop()
    # many at once, each with a worker that does not know it yet
    crowd = together(16, lambda: seconds(lambda: s.client.chat(unique())))
    assert max(crowd) < before + 2 * TIMEOUT
    # one after the other, for a while: one a second tries again, the others do not even ask
    one_by_one, begin = [], time.monotonic()
    while time.monotonic() - begin < 2.5:
        one_by_one.append(seconds(lambda: s.client.chat(prompt)))
    assert max(one_by_one) < before + 2 * TIMEOUT
    assert statistics.median(one_by_one) < before + TIMEOUT / 4
    assert len([t for t in one_by_one if t > TIMEOUT / 2]) <= 3
    assert downs_and_ups(s) == (1, 0)
    assert "does not answer in time" in lines(s, "memcached_down")[0]["message"]
    own.cont()
    wait_until(lambda: s.client.chat(prompt).cache == "HIT", 5)  # nothing was lost
    assert downs_and_ups(s) == (1, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_stopped_while_the_provider_answers(start, own, stream):
    """It was there for the lookup and is not there to remember."""
    s = start(settings(), memcached=own)
    prompt = s.provider.manual()
    with s.client.stream(ask(prompt, stream=stream)) as answer:
        call = s.provider.take(prompt)
        own.stop()
        begin = time.monotonic()
        call.plain()
        assert answer.whole().status == 200
        assert time.monotonic() - begin < 2 * TIMEOUT
    assert s.log_of(answer)["stored"] is False
    assert downs_and_ups(s) == (0, 0)  # one late answer is no outage


def test_restarted_in_a_quiet_moment_is_no_outage(start, own):
    """Every worker's connection is dead then; nobody needs to know."""
    s = start(settings(limits=[limit(1000, "closed")]), memcached=own)
    together(20, lambda: s.client.post(ask(unique())))
    own.restart()
    assert statuses(together(20, lambda: s.client.post(ask(unique())))) == 20 * [200]
    prompt = unique()
    assert [s.client.chat(prompt).cache for _ in range(2)] == ["MISS", "HIT"]
    assert downs_and_ups(s) == (0, 0)


def test_flushed(start, own):
    s = start(settings(limits=[limit(3)]), memcached=own)
    prompt = unique()
    assert [s.client.post(ask(prompt)).status for _ in range(4)] == [200, 200, 200, 429]
    own.flush()
    answers = [s.client.post(ask(prompt)) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.cache for answer in answers[:3]] == ["MISS", "HIT", "HIT"]
    assert downs_and_ups(s) == (0, 0)


def test_a_reload_does_not_warn_again(start, own):
    s = start(settings(), memcached=own)
    own.kill()
    s.client.chat(unique())
    s.pavise.hup()
    s.pavise.wait_event("config_loaded")
    assert statuses(together(20, lambda: s.client.post(ask(unique())))) == 20 * [200]
    assert downs_and_ups(s) == (1, 0)


# ── limits ──

@pytest.fixture(params=["killed", "stopped"])
def hurt(request, own):
    """hurt() makes it be down, heal() lets it come back."""
    def heal():
        own.start() if request.param == "killed" else own.cont()
    return (own.kill if request.param == "killed" else own.stop), heal


def test_open_lets_pass(start, own, hurt):
    s = start(settings(timeout=0.2, limits=[limit(5, "open")]), memcached=own)
    hurt[0]()
    answers = together(20, lambda: s.client.post(ask(unique())))
    assert statuses(answers) == 20 * [200]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"5"}
    assert {answer.headers["x-ratelimit-remaining-requests"] for answer in answers} == {None}
    hurt[1]()
    exact_again(s, own, 5)


def test_closed_refuses(start, own, hurt):
    s = start(settings(timeout=0.2, limits=[limit(5, "closed")]), memcached=own)
    prompt = unique()
    s.client.chat(prompt)
    hurt[0]()
    for refused in together(20, lambda: s.client.post(ask(prompt))):
        assert refused.status == 503
        assert refused.error["code"] == "limit_store_unavailable"
        assert int(refused.headers["Retry-After"]) >= 1
        assert "'day'" in refused.error["message"]
    assert s.provider.calls(prompt) == 1
    line = s.log_of(refused)
    assert (line["error.type"], line["limit"]) == ("store_unavailable", "day")
    hurt[1]()
    exact_again(s, own, 5)


def test_local_counts_on_this_host(start, own, hurt):
    s = start(settings(timeout=0.2, limits=[limit(7, "local")]), memcached=own)
    hurt[0]()
    answers = together(30, lambda: s.client.post(ask(unique())))
    assert statuses(answers) == 7 * [200] + 23 * [429]
    assert sorted(a.headers["x-ratelimit-remaining-requests"] for a in answers if a.status == 200) == list("0123456")
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.error["code"] == "rate_limit_exceeded"
    # another key has a count of its own, and a reload forgets nothing
    assert s.client.with_key("alice").post(ask(unique())).status == 200
    s.pavise.hup()
    s.pavise.wait_event("config_loaded")
    assert statuses(together(10, lambda: s.client.post(ask(unique())))) == 10 * [429]
    hurt[1]()
    exact_again(s, own, 7)


def exact_again(stack, memcached, amount):
    """What memcached counts when it is back decides: exactly the rest of the amount goes through."""
    bob = stack.client.with_key("bob")  # who has not asked yet
    wait_until(lambda: bob.post(ask(unique())) and lines(stack, "memcached_up"), 5, "memcached to be used again")
    today = int(time.time()) // 86400 * 86400
    used = int(memcached.get(f"{stack.pavise.config['memcached']['prefix']}:c:day:key=bob:86400:{today}") or 0)
    assert used < amount
    answers = together(20, lambda: bob.post(ask(unique())))
    assert statuses(answers) == (amount - used) * [200] + (20 - amount + used) * [429]
    assert downs_and_ups(stack) == (1, 1)


def test_limits_that_differ_each_do_as_they_say(start):
    s = start(settings(limits=[limit(3, "local", "local"), limit(1, "open", "open")]), memcached=False)
    assert [s.client.post(ask(unique())).status for _ in range(4)] == [200, 200, 200, 429]


def test_a_limit_that_does_not_enforce_closes_nothing(start):
    s = start(settings(limits=[{**limit(3, "closed"), "enforce": False}]), memcached=False)
    assert s.client.chat(unique()).cache == "MISS"


# ── two pools ──

def test_counters_down_answers_up(start, own, counters):
    s = start(settings(counters=[str(counters.path)], limits=[limit(1000, "open")]), memcached=own)
    prompt = unique()
    s.client.chat(prompt)
    assert own.keys(":a:") and not own.keys(":c:")
    assert counters.keys(":c:") and not counters.keys(":a:")
    counters.stop()
    for _ in range(UNTIL_DOWN):
        hit = s.client.post(ask(prompt))
        assert (hit.status, hit.cache) == (200, "HIT")
    assert {answer.cache for answer in together(20, lambda: s.client.post(ask(prompt)))} == {"HIT"}
    cached_again(s)
    assert downs_and_ups(s) == (1, 0)
    assert str(counters.path) in lines(s, "memcached_down")[0]["message"]
    counters.cont()
    wait_until(lambda: s.client.chat(prompt) and downs_and_ups(s) == (1, 1), 5)


def test_counters_down_and_closed_refuses_even_hits(start, own, counters):
    s = start(settings(counters=[str(counters.path)], limits=[limit(1000, "closed")]), memcached=own)
    prompt = unique()
    s.client.chat(prompt)
    counters.kill()
    assert s.client.post(ask(prompt)).error["code"] == "limit_store_unavailable"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_answers_down_counters_up(start, own, counters, how):
    s = start(settings(counters=[str(counters.path)], limits=[limit(6, "closed")]), memcached=own)
    prompt = unique()
    s.client.chat(prompt)
    getattr(own, how)()
    answers = together(20, lambda: s.client.post(ask(prompt)))
    assert statuses(answers) == 5 * [200] + 15 * [429]
    assert {answer.cache for answer in answers if answer.status == 200} == {"MISS"}
    assert downs_and_ups(s) == (1, 0)
    assert str(own.path) in lines(s, "memcached_down")[0]["message"]


def test_one_of_two_servers_down(start, own, counters):
    """Each has its share of the keys; what the living one holds is still served."""
    s = start(settings(servers=[str(own.path), str(counters.path)], counters=[str(own.path)]))
    prompts = [unique() for _ in range(24)]
    for prompt in prompts:
        s.client.chat(prompt)
    shares = len(own.keys(":a:")), len(counters.keys(":a:"))
    assert sum(shares) == 24 and min(shares) > 0
    counters.kill()
    answers = [s.client.chat(prompt) for prompt in prompts]
    assert [answer.cache for answer in answers].count("HIT") == shares[0]
    assert downs_and_ups(s) == (1, 0)


# ── TCP ──

def tcp_memcached(folder, port):
    process = Process(["memcached", "-u", "root", "-l", "127.0.0.1", "-p", port], folder / "memcached-tcp.log")
    process.wait_ready(lambda: listens(port))
    return process


def test_over_tcp(start, folder):
    port = free_port()
    with tcp_memcached(folder, port) as process:
        s = start(settings(servers=[f"127.0.0.1:{port}"], limits=[limit(1000, "open")]), memcached=False)
        prompt = unique()
        first = s.client.chat(prompt)
        again = s.client.chat(prompt)
        assert (first.cache, again.cache) == ("MISS", "HIT")
        assert again.headers["x-ratelimit-remaining-requests"] == "998"
        process.kill()
        answers = together(20, lambda: s.client.post(ask(prompt)))
        assert statuses(answers) == 20 * [200]
        assert downs_and_ups(s) == (1, 0)
        assert f"127.0.0.1:{port} " in lines(s, "memcached_down")[0]["message"]
    with tcp_memcached(folder, port) as process:
        cached_again(s)
        assert downs_and_ups(s) == (1, 1)
        process.signal(signal.SIGSTOP)
        for _ in range(UNTIL_DOWN):
            assert seconds(lambda: s.client.chat(prompt)) < 2 * TIMEOUT
        assert seconds(lambda: s.client.chat(prompt)) < TIMEOUT
        assert downs_and_ups(s) == (2, 1)


def test_a_host_that_swallows_everything(start):
    """Connecting itself takes for ever: a listener whose backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        s = start(settings(servers=[f"127.0.0.1:{address[1]}"]), memcached=False)
        for _ in range(UNTIL_DOWN):
            assert seconds(lambda: s.client.chat(unique())) < 2 * TIMEOUT
        assert seconds(lambda: s.client.chat(unique())) < TIMEOUT
        assert downs_and_ups(s) == (1, 0)
        for filler in fillers:
            filler.close()
