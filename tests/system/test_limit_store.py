"""What each limit does while memcached cannot say, and that the log line tells: dead, stopped, flushed, coming back."""

import pytest

from client import ask, unique
from process import wait_until
from servers import Memcached
from test_limits_cache import limit

HURT = {"dead": lambda m: m.kill(), "stopped": lambda m: m.stop()}
HEAL = {"dead": lambda m: m.start(), "stopped": lambda m: m.cont()}


@pytest.fixture
def own(folder):
    """A memcached of this test's own, to be hurt."""
    with Memcached(folder) as m:
        yield m


@pytest.fixture
def begin(start, own):
    """begin(*limits) → a Stack on it."""
    return lambda *limits: start({"limits": list(limits), "memcached": {"timeout": "200ms"}}, memcached=own)


def asked(stack, key="demo"):
    """The status, and what the log line says of the limits."""
    answer = stack.client.with_key(key).post(ask(unique()))
    line = stack.log_of(answer)
    return answer.status, line.get("limit"), line.get("limit_store"), line.get("would_refuse")


def back(stack, key="demo"):
    """Until memcached says what it counts."""
    wait_until(lambda: asked(stack, key)[2] is None)


@pytest.mark.parametrize("how", HURT)
@pytest.mark.parametrize("decision,second,third", [
    ("open", (200, None, "open", None), (200, None, "open", None)),
    ("closed", (503, "l", "closed", None), (503, "l", "closed", None)),
    ("local", (200, None, "local", None), (429, "l", "local", None))])
def test_each_decision_is_told(begin, own, how, decision, second, third):
    stack = begin(limit(amount=1, on_store_down=decision))
    assert asked(stack) == (200, None, None, None)
    HURT[how](own)
    assert [asked(stack, "alice") for _ in range(2)] == [second, third]
    HEAL[how](own)
    back(stack, "carol")
    # who asked before it went has not been forgotten by one that stood still, and a new one has all
    assert asked(stack)[:3] == (429, "l", None) if how == "stopped" else (200, None, None)
    assert asked(stack, "root") == (200, None, None, None)


def test_one_that_has_been_flushed_begins_anew(begin, own):
    """memcached forgets, and nobody can know what: README says so."""
    stack = begin(limit(amount=2))
    assert [asked(stack)[0] for _ in range(3)] == [200, 200, 429]
    own.flush()
    assert [asked(stack) for _ in range(3)] == [(200, None, None, None)] * 2 + [(429, "l", None, None)]


def test_a_dry_run_tells_it_too(begin, own):
    stack = begin(limit("shut", enforce=False, on_store_down="closed"),
                  limit("here", amount=1, enforce=False, on_store_down="local"))
    own.kill()
    assert asked(stack) == (200, None, "closed,local", "shut")
    assert asked(stack) == (200, None, "closed,local", "shut,here")


def test_several_each_as_it_is_told(begin, own):
    """What refuses takes nothing from the others, here as there."""
    stack = begin(limit("door", amount=9), limit("host", per=[], amount=2, on_store_down="local"),
                  limit("hers", amount=1, on_store_down="local"))
    own.kill()
    assert asked(stack, "alice") == (200, None, "open,local", None)
    for _ in range(3):
        assert asked(stack, "alice") == (429, "hers", "open,local", None)
    assert asked(stack, "bob") == (200, None, "open,local", None)
    assert asked(stack, "carol") == (429, "host", "open,local", None)
    own.start()
    back(stack)


def test_what_a_client_learns_while_nobody_knows(begin, own):
    stack = begin(limit("door", amount=9), limit("shut", amount=9, on_store_down="closed", per=["model"]))
    own.kill()
    answer = stack.client.post(ask(unique()))
    assert (answer.status, answer.error["code"]) == (503, "limit_store_unavailable")
    assert "'shut'" in answer.error["message"] and answer.headers["Retry-After"] == "1"
    assert answer.headers["RateLimit-Policy"] == '"door";q=9;w=86400, "shut";q=9;w=86400'
    assert "RateLimit" not in answer.headers and "x-ratelimit-remaining-requests" not in answer.headers
