"""
Zero overshoot: two hundred clients race for one budget, with answers of random length, until it is spent. Never more than
the budget, hardly less, and nobody is told that it is spent while others only hold it.
"""

import collections
import concurrent.futures
import random
import threading
from decimal import Decimal

import pytest

from client import ask
from money import MILLION, budget, left, tokens, usage, usd
from provider import chunk, completion

CLIENTS, MAX_TOKENS = 200, 1000
PRICE = {"input": "1.00", "output": "10.00"}
# the least that one of these requests is let through for: its input, measured by its bytes, and 16 tokens of an answer
LEAST_TOKENS = 700 + 16
LEAST_USD = 700 * Decimal("1.00") / MILLION + 16 * Decimal("10.00") / MILLION


class Bill:
    """A provider that keeps the cap it is sent, says what it used, and keeps books of its own."""

    def __init__(self, seed):
        self.news, self.random = threading.Condition(), random.Random(seed)
        self.input = self.output = self.calls = 0

    def use(self, cap):
        with self.news:
            prompt, wanted = self.random.randint(1, 60), self.random.randint(1, MAX_TOKENS)
            self.input, self.output, self.calls = self.input + prompt, self.output + min(wanted, cap), self.calls + 1
            self.news.notify_all()
            return usage(prompt, min(wanted, cap)), "stop" if wanted < cap else "length"

    def answer(self, call):
        used, finish = self.use(call.json["max_tokens"])
        if not call.json.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": finish}
            call.answer(completion(usage=used, choices=[choice]))
            return
        call.stream_head()
        call.event(chunk("x"))
        call.event(chunk(finish=finish))
        call.event({**chunk(), "choices": [], "usage": used})
        call.end_stream()

    @property
    def cost(self):
        with self.news:
            return (self.input * Decimal(PRICE["input"]) + self.output * Decimal(PRICE["output"])) / MILLION

    @property
    def tokens(self):
        with self.news:
            return self.input + self.output

    def wait(self, calls):
        """Until there are more calls than so many: somebody has given back what he held, or will soon."""
        with self.news:
            self.news.wait_for(lambda: self.calls > calls, 0.2)


def question(i, attempt):
    """A prompt in parts has no text by which the provider could tell it from others."""
    parts = [{"type": "text", "text": f"question {i}, attempt {attempt}"}]
    return {**ask("", stream=i % 2 == 0, max_tokens=MAX_TOKENS), "messages": [{"role": "user", "content": parts}]}


def race(stack, bill, spent):
    """Everybody asks until the budget is spent. How often each refusal came, and the least of spent() at the last."""
    stack.provider.scripts[None] = bill.answer
    go, refusals, least = threading.Barrier(CLIENTS), collections.Counter(), []

    def one(i):
        go.wait()
        attempt = 0
        while True:
            calls, attempt = bill.calls, attempt + 1
            answer = stack.client.post(question(i, attempt))
            if answer.status == 200:
                assert answer.body.rstrip().endswith(b"[DONE]" if i % 2 == 0 else b"}")
                continue
            refusals[answer.error["code"]] += 1
            if answer.error["code"] == "insufficient_quota":
                least.append(spent())
                return
            assert answer.error["code"] == "rate_limit_exceeded" and answer.headers["Retry-After"] == "1", answer
            bill.wait(calls)
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(one, i) for i in range(CLIENTS)]:
            future.result()
    return refusals, min(least)


@pytest.fixture
def track(start):
    """A worker for everybody."""
    def of(*limits):
        return start({**budget(*limits, price={**PRICE, "cached_input": PRICE["input"]}),
                      "server": {"workers": {"min": 64, "max": 300, "spare": 32, "reserve": 2}}})
    return of


def test_a_dollar(track):
    stack, bill = track(usd("1.00")), Bill(1)
    refusals, least = race(stack, bill, lambda: bill.cost)
    assert bill.cost <= 1, "overshot"
    assert bill.cost >= Decimal("0.95")
    assert left(stack.client) == 1 - bill.cost  # to the picodollar
    assert refusals["rate_limit_exceeded"], "nobody raced"
    assert refusals["insufficient_quota"] == CLIENTS and least >= 1 - LEAST_USD


def test_a_hundred_thousand_tokens(track):
    stack, bill = track(tokens(100000)), Bill(2)
    refusals, least = race(stack, bill, lambda: bill.tokens)
    assert 95000 <= bill.tokens <= 100000
    assert refusals["rate_limit_exceeded"], "nobody raced"
    assert refusals["insufficient_quota"] == CLIENTS and least >= 100000 - LEAST_TOKENS


def test_both_at_once(track):
    """All or nothing: what the one refuses, the other has back."""
    stack, bill = track(usd("0.50"), tokens(60000), usd("100", "wide", per=[])), Bill(3)
    race(stack, bill, lambda: 0)
    assert bill.cost <= Decimal("0.50") and bill.tokens <= 60000
    assert bill.cost >= Decimal("0.475") or bill.tokens >= 57000
    assert left(stack.client) == Decimal("0.50") - bill.cost
