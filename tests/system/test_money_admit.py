"""Who is let through, who is refused and why, and who shares what with whom."""

import concurrent.futures
import os
import signal
import threading
from decimal import Decimal

import pytest

from client import ask, unique
from money import COST, IN, MAX_OUTPUT, OUT, budget, cost_of, sent, tokens, usage, usd
from process import wait_until
from procs import owner_of
from provider import chunk, completion
from recorder import Recorder
from servers import Memcached, Stack
from test_coalesce import following


# ── Refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def spend(stack, amount):
    """So much, as the provider says."""
    real = usage(0, int(Decimal(str(amount)) / OUT))
    prompt = stack.provider.on(lambda call: call.answer(completion(usage=real)))
    assert stack.client.chat(prompt, max_tokens=20).status == 200


def test_a_spent_budget(start):
    stack = start(budget(usd("0.01")), webs=("lighttpd", "apache"))
    spend(stack, "0.0099")
    for web in stack.webs.values():
        for stream in False, True:
            answer = web.client.post(ask(unique(), stream=stream))
            assert (answer.status, answer.error["code"], answer.error["type"]) == \
                (429, "insufficient_quota", "insufficient_quota")
            assert all(word in answer.error["message"] for word in ("'spend'", "$0.0099", "$0.01", "T00:00:00"))
            assert answer.headers["x-should-retry"] == "false"
            assert 0 < int(answer.headers["Retry-After"]) <= 86400
            assert Decimal(answer.headers["x-pavise-budget-remaining-usd"]) == Decimal("0.0001")
            line = stack.log_of(answer)
            assert (line["limit"], line["error.type"]) == ("spend", "policy_budget_spent") and "cost_usd" not in line
    assert stack.client.with_key("alice").post(ask("x")).status == 200  # somebody else's is not
    assert len(stack.provider.seen) == 2


def test_what_can_never_be_had(start):
    stack = start(budget(usd("0.001")))
    answer = stack.client.post(ask("a" * 5000))
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota") and "Retry-After" not in answer.headers
    assert "more than the budget 'spend' allows at all" in answer.error["message"]
    assert stack.client.chat("short").status == 200


@pytest.mark.parametrize("limit", [usd("0.005"), tokens(3000)], ids=["usd", "tokens"])
def test_what_others_hold_is_not_spent(start, limit):
    stack = start(budget(limit, max_output=2500))
    prompt = stack.provider.manual()
    with stack.client.stream(ask(prompt, stream=True)) as stream:
        call = stack.provider.take(prompt)
        refused = stack.client.post(ask(unique(), max_tokens=400))
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["Retry-After"] == "1" and "x-should-retry" not in refused.headers
        assert f"'{limit['name']}'" in refused.error["message"]
        line = stack.log_of(refused)
        assert (line["limit"], line["error.type"]) == (limit["name"], "policy_rate_limit")
        call.stream(["short"])
        assert stream.rest()[-1] == "[DONE]"
        assert stack.client.post(ask(unique(), max_tokens=400)).status == 200  # it is settled before its last bytes go


def test_a_refusal_is_tried_three_times(folder):
    """What is in the way may be gone in a moment; what is spent stays."""
    with Memcached(folder) as own, Recorder(folder, own.path) as diary, Stack(folder, {
            **budget(tokens(3000)), "memcached": {"servers": [str(diary.path)], "counters": [str(diary.path)]}},
            memcached=own) as stack:

        def looks(code):
            diary.taken()
            assert stack.client.post(ask(unique())).error["code"] == code
            return sum(any(words[0] == "mg" and ":c:tokens:" in words[1] for words in trip) for trip in diary.taken())
        prompt = stack.provider.manual()
        with stack.client.stream(ask(prompt, stream=True)) as _:
            call = stack.provider.take(prompt)
            assert looks("rate_limit_exceeded") == 3
            call.answer(completion(usage=usage(0, 2900)))
        assert looks("insufficient_quota") == 1


def test_who_takes_over_is_counted_when_it_does(start):
    """A follower whose leader dies in another window than it came in."""
    stack = start(budget(tokens(1000, window="2s")))
    prompt = stack.provider.manual()

    def remaining():
        return int(stack.client.get("/v1/models").headers["x-ratelimit-remaining-tokens"])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        chats = [pool.submit(stack.client.post, ask(prompt, max_tokens=400)) for _ in range(2)]
        call = stack.provider.take(prompt)
        following(stack, 1)
        assert stack.provider.calls(prompt) == 1
        wait_until(lambda: remaining() == 1000, what="another window")
        os.kill(owner_of(call.socket, stack.pavise.workers()), signal.SIGKILL)
        stack.provider.take(prompt).plain()
        assert 200 in [c.result().status for c in chats]


def test_spent_comes_before_held(start):
    """One limit is held by others, another is spent: trying again would not help."""
    free = {"provider": "fake", "max_output": MAX_OUTPUT, "price": {"input": "0", "output": "0"}}
    stack = start({"limits": [tokens(2000, per=[]), usd("0.0006", "mine")], "models": {"free": free}})
    spend(stack, "0.00058")
    prompt = stack.provider.manual()
    with stack.client.with_key("alice").stream(ask(prompt, stream=True, model="free")) as _:
        call = stack.provider.take(prompt)
        assert stack.client.post(ask(unique(), model="free")).error["code"] == "rate_limit_exceeded"
        refused = stack.client.post(ask(unique()))
        assert refused.error["code"] == "insufficient_quota" and stack.log_of(refused)["limit"] == "mine"
        call.plain()


def test_a_dry_run_refuses_nobody(start):
    stack = start(budget(usd("0.0006", enforce=False)))
    for _ in range(3):
        body = sent(stack)
        assert "max_tokens" not in body
    prompt = stack.provider.on(lambda call: call.answer(completion(usage=usage(0, 1000))))
    first = stack.client.chat(prompt)
    assert "would_refuse" not in stack.log_of(first) and "x-pavise-budget-remaining-usd" not in first.headers
    over = stack.client.chat(unique())
    assert stack.log_of(over)["would_refuse"] == "spend" and cost_of(over.headers) == COST
    image = ask("x")
    image["messages"].insert(0, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]})
    answer = stack.client.post(image)
    assert answer.status == 200 and stack.log_of(answer)["would_refuse"] == "spend"


def test_a_model_without_a_price_is_refused_when_the_configuration_is_checked(start):
    stack = start(budget(usd()))
    before = stack.pavise.config
    stack.pavise.change({"models": {"other": {"provider": "fake"}}})
    line = stack.pavise.wait_event("config_rejected")
    assert 'limits[0]: the limit "spend" counts money, but the model "other" has no price' in line["message"]
    stack.pavise.write_config(before)
    assert stack.client.chat(unique()).status == 200


def test_tokens_need_no_price(start):
    stack = start({"limits": [tokens(5000)], "models": {"free": {"provider": "fake", "max_output": 100}}})
    answer = stack.client.chat(unique(), model="free")
    assert "x-pavise-cost-usd" not in answer.headers and "x-pavise-budget-remaining-usd" not in answer.headers
    assert "cost_usd" not in stack.log_of(answer)
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(5000 - 18)
    broken = stack.client.post(ask(stack.provider.on(lambda call: call.close()), model="free"))
    assert broken.status == 502 and int(broken.headers["x-ratelimit-remaining-tokens"]) < 5000 - 18 - 100
    assert "cost_usd" not in stack.log_of(broken) and "cost_estimated" not in stack.log_of(broken)


def test_a_list_of_prices(start):
    stack = start(budget(usd("10")))
    (stack.pavise.folder / "prices.json").write_text('{ /* ours */ "big": { "input": "10", "output": "20" } }')
    stack.pavise.change({"prices_file": "prices.json", "models": {
        "listed": {"provider": "fake", "model": "big-2026-01-31", "price": {"output": "40"}}}})
    answer = wait_until(lambda: (a := stack.client.post(ask(unique(), model="listed"))).status == 200 and a)
    assert cost_of(answer.headers) == 11 * 10 * IN + 7 * 20 * OUT


# ── Those who share an answer ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_that_our_cap_cut_is_not_stored(start):
    stack = start(budget(usd("0.002")))

    def cut(call):
        call.answer(completion(choices=[{"index": 0, "message": {"role": "assistant", "content": "and then"},
                                         "finish_reason": "length"}], usage=usage(5, 10)))

    def cut_stream(call):
        call.stream_head()
        call.event(chunk("and then"))
        call.event(chunk(finish="length", usage=usage(5, 10)))
        call.end_stream()
    for script, stream in (cut, False), (cut_stream, True):
        prompt = stack.provider.on(script)
        for _ in range(2):
            answer = stack.client.post(ask(prompt, stream=stream))
            assert answer.status == 200 and answer.cache == "MISS" and stack.log_of(answer)["stored"] is False
        mine = stack.provider.on(script)  # one that the client wanted to be so short is
        assert [stack.client.post(ask(mine, stream=stream, max_tokens=20)).cache for _ in range(2)] == ["MISS", "HIT"]
    whole = unique()  # and one that ended by itself, whatever our cap was
    assert [stack.client.chat(whole).cache for _ in range(2)] == ["MISS", "HIT"]


def test_a_leader_that_is_capped_goes_alone(start):
    stack = start({**budget(usd("0.001")), "cache": {"scope": "everyone"}})
    prompt = stack.provider.manual()
    with stack.client.with_key("alice").stream(ask(prompt, stream=True)) as capped:
        first = stack.provider.take(prompt)
        assert first.json["max_tokens"] < MAX_OUTPUT
        with stack.client.with_key("bob").stream(ask(prompt, stream=True)) as other:
            second = stack.provider.take(prompt)  # it has not waited for the first one
            for call in first, second:
                call.stream(["a"])
            assert capped.rest()[-1] == other.rest()[-1] == "[DONE]"


def test_a_leader_that_is_refused_passes_on_nothing(start):
    """Alice has nothing left; bob, who asks the same at the same time, gets his answer."""
    stack = start({**budget(usd("0.005")), "cache": {"scope": "everyone"}})
    spender = stack.provider.on(lambda call: call.answer(completion(usage=usage(0, 2400))))
    assert stack.client.with_key("alice").chat(spender).status == 200
    for _ in range(5):
        prompt, barrier = unique(), threading.Barrier(8)

        def one(key):
            barrier.wait()
            return stack.client.with_key(key).post(ask(prompt, max_tokens=20))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, ["alice", "bob", "alice", "carol", "alice", "demo", "alice", "root"]))
        for key, answer in zip(["alice", "bob", "alice", "carol", "alice", "demo", "alice", "root"], answers):
            # alice is refused, or follows somebody who has bought it: that costs her nothing
            assert answer.status == 200 or (key == "alice" and answer.error["code"] == "insufficient_quota")
        assert stack.provider.calls(prompt) == 1


# ── Without memcached ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def alone(start):
    """alone(limit) → a stack whose memcached has died."""
    def of(limit):
        stack = start(budget(limit), memcached=None)
        assert stack.client.chat(unique()).status == 200
        stack.memcached.kill()
        return stack
    return of


@pytest.mark.parametrize("more", [{}, {"on_store_down": "closed"}], ids=["default", "closed"])
def test_closed(alone, more):
    stack = alone(usd("10", **more))
    answer = stack.client.post(ask(unique()))
    assert (answer.status, answer.error["code"]) == (503, "limit_store_unavailable")
    line = stack.log_of(answer)
    assert (line["limit"], line["error.type"]) == ("spend", "store_unavailable") and len(stack.provider.seen) == 1
    stack.memcached.start()
    wait_until(lambda: stack.client.post(ask(unique())).status == 200)


def test_open(alone):
    """Nobody knows what is left: nothing is said of it, and no answer is cut for it."""
    stack = alone(usd("0.001", on_store_down="open"))
    for _ in range(3):
        prompt = unique()
        answer = stack.client.chat(prompt)
        assert "x-pavise-budget-remaining-usd" not in answer.headers and cost_of(answer.headers) == COST
        assert stack.provider.requests(prompt)[0].json["max_tokens"] == MAX_OUTPUT


def test_local(alone):
    stack = alone(usd("0.02", on_store_down="local"))
    caps, prompt = [], unique()
    while (answer := stack.client.post(ask(prompt))).status == 200:
        caps.append(stack.provider.requests(prompt)[0].json["max_tokens"])
        prompt = unique()
    assert answer.status == 429 and stack.log_of(answer)["limit"] == "spend"
    assert caps and caps[-1] < MAX_OUTPUT
