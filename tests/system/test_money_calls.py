"""Money beside calls at the same time: who has none of the one takes nothing of the other."""

import contextlib

import pytest

from client import ask, unique
from money import budget, left, usage, usd
from process import wait_until
from provider import completion
from recorder import Recorder
from servers import Memcached, Stack

ONE = {"name": "calls", "count": "concurrent", "per": [], "amount": 1}
STALE = {"cache": {"ttl": "1s", "stale_while_revalidate": "1h"}}


@pytest.fixture
def track(folder):
    """track(config) → a Stack whose memcached is its own, as .memcached, and keeps a .diary."""
    with Memcached(folder) as own, Recorder(folder, own.path) as diary, contextlib.ExitStack() as ends:
        def start(config):
            stack = ends.enter_context(Stack(folder, {**config, "memcached": {
                "servers": [str(diary.path)], "counters": [str(diary.path)]}}, memcached=own))
            stack.diary = diary
            return stack
        yield start


def slots(stack):
    return stack.memcached.keys(":t:")


def leases(stack):
    return stack.memcached.keys(":l:")


def goes_stale(stack, client, prompt):
    """A stale answer, and the end of what went on behind it: nobody else gives a lease back."""
    stack.diary.taken()
    wait_until(lambda: client.chat(prompt).cache == "STALE")
    wait_until(lambda: any(words[0] == "md" and ":l:" in words[1] for trip in stack.diary.taken() for words in trip))


@contextlib.contextmanager
def busy(stack, key):
    """While the only slot is taken."""
    prompt = stack.provider.manual()
    with stack.client.with_key(key).stream(ask(prompt, stream=True)) as stream:
        call = stack.provider.take(prompt)
        yield
        call.stream(["a"])
        assert stream.rest()[-1] == "[DONE]"


def spend_all(stack, client):
    """All but a little; the prompt that did it."""
    prompt = stack.provider.on(lambda call: call.answer(completion(usage=usage(0, 900))))
    assert client.chat(prompt).status == 200
    return prompt


def test_who_has_no_money_gives_the_slot_and_the_lead_back(track):
    stack = track(budget(usd("0.002"), ONE))
    alice = stack.client.with_key("alice")
    spend_all(stack, alice)
    for _ in range(3):
        assert alice.post(ask(unique())).error["code"] == "insufficient_quota"
        assert not slots(stack) and not leases(stack)  # nobody waits for an answer that does not come
    assert stack.client.post(ask(unique())).status == 200


def test_who_asks_what_has_no_bound_does_too(track):
    stack = track(budget(usd("10"), ONE))
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    assert stack.client.post({**ask(""), "messages": [image]}).status == 400
    assert not slots(stack) and not leases(stack)
    assert stack.client.post(ask(unique())).status == 200


def test_who_has_no_slot_sets_nothing_aside(track):
    stack = track(budget(usd("10"), ONE))
    alice = stack.client.with_key("alice")
    with busy(stack, "bob"):
        for _ in range(3):
            refused = alice.post(ask(unique()))
            assert refused.error["code"] == "rate_limit_exceeded" and stack.log_of(refused)["limit"] == "calls"
            assert left(alice) == 10
    assert alice.post(ask(unique())).status == 200


def test_a_refresh_without_a_slot_sets_nothing_aside(track):
    stack = track({**budget(usd("10"), ONE), **STALE})
    alice, prompt = stack.client.with_key("alice"), unique()
    alice.chat(prompt)
    before = left(alice)
    with busy(stack, "bob"):
        goes_stale(stack, alice, prompt)
        assert left(alice) == before and stack.provider.calls(prompt) == 1


def test_a_refresh_without_money_gives_the_slot_back(track):
    stack = track({**budget(usd("0.002"), ONE), **STALE})
    alice = stack.client.with_key("alice")
    prompt = spend_all(stack, alice)
    goes_stale(stack, alice, prompt)
    assert not slots(stack) and stack.provider.calls(prompt) == 1
    assert stack.client.post(ask(unique())).status == 200
