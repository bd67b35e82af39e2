"""What a call has really cost takes the place of what was set aside, before the client sees the end of its answer."""

import concurrent.futures
import os
import signal
from decimal import Decimal

import pytest

from client import ask, unique
from money import COST, IN, MAX_OUTPUT, OUT, budget, cost_of, left, logged, tokens, usage, usd, wait_left
from process import wait_until
from procs import let_go, owner_of
from provider import chunk, completion, usage_chunk

START = Decimal("10")


@pytest.fixture
def rich(start):
    return start(budget(usd(START), tokens(10 ** 6)), webs=("lighttpd", "apache"))


def provider_says(stack, **fields):
    return stack.provider.on(lambda call: call.answer(completion(**fields)))


# ── What the provider says ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_says_what_it_cost(rich):
    spent = Decimal(0)
    for web in rich.webs.values():
        answer = web.client.chat(unique())
        spent += COST
        assert cost_of(answer.headers) == COST
        # its own reservation is settled before it goes
        assert Decimal(answer.headers["x-pavise-budget-remaining-usd"]) == START - spent == left(web.client)
        line = rich.log_of(answer)
        assert logged(line) == COST and "cost_estimated" not in line


def test_a_stream_is_settled_before_it_is_done(rich):
    prompt = rich.provider.manual()
    with rich.client.stream(ask(prompt, stream=True)) as stream:
        call = rich.provider.take(prompt)
        call.stream_head()
        call.event(chunk("a"))
        assert stream.next_data().content == "a"
        # nobody knows yet: the head says what is left without what is set aside
        assert "x-pavise-cost-usd" not in stream.headers
        assert Decimal(stream.headers["x-pavise-budget-remaining-usd"]) == left(rich.client) < START - MAX_OUTPUT * OUT
        call.event(chunk(finish="stop"))
        call.event(usage_chunk())
        call.event("[DONE]")  # and its response goes on
        while stream.next_data().data != "[DONE]":
            pass
        assert left(rich.client) == START - COST
        let_go(call)
    assert logged(rich.log_of(stream)) == COST


def test_a_stream_that_asked_for_no_usage_is_settled_by_it_all_the_same(rich):
    prompt = unique()
    with rich.client.stream(ask(prompt, stream=True)) as stream:
        assert not any('"usage":{' in data for data in stream.rest())
    assert left(rich.client) == START - COST


def test_a_hit_costs_nothing(rich):
    prompt = unique()
    rich.client.chat(prompt)
    for stream in False, True:
        hit = rich.client.post(ask(prompt, stream=stream))
        assert (hit.cache, cost_of(hit.headers), Decimal(hit.headers["x-pavise-saved-usd"])) == ("HIT", 0, COST)
        assert Decimal(hit.headers["x-pavise-budget-remaining-usd"]) == START - COST
        assert logged(rich.log_of(hit), "saved_usd") == COST
    assert left(rich.client) == START - COST


def test_more_than_was_set_aside_is_charged_in_full(start):
    """A provider that breaks its promise is believed."""
    stack = start(budget(usd("1"), tokens(10 ** 7)))
    answer = stack.client.chat(provider_says(stack, usage=usage(100, 400000)), max_tokens=20)
    assert cost_of(answer.headers) == 100 * IN + 400000 * OUT
    assert left(stack.client) == 1 - 100 * IN - 400000 * OUT
    over = stack.client.chat(provider_says(stack, usage=usage(0, 400000)), max_tokens=20)
    assert Decimal(over.headers["x-pavise-budget-remaining-usd"]) == 0  # and the budget is overdrawn
    assert stack.client.post(ask(unique())).error["code"] == "insufficient_quota"


# ── Refusals and failures ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 529])
def test_a_refusal_costs_nothing(start, status):
    stack = start(budget(usd(START)))
    for stream in False, True:
        prompt = stack.provider.on(lambda call: call.error(status))
        answer = stack.client.post(ask(prompt, stream=stream))
        assert answer.status == status and left(stack.client) == START
        assert logged(stack.log_of(answer)) == 0 and "cost_estimated" not in stack.log_of(answer)


def test_an_error_instead_of_an_answer_costs_nothing(rich):
    error = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}

    def in_a_stream(call):
        call.stream_head()
        call.event(error)
        call.end_stream(done=False)
    for script, stream in (lambda call: call.answer(error), False), (in_a_stream, True):
        answer = rich.client.post(ask(rich.provider.on(script), stream=stream))
        assert answer.status != 200 or answer.events[-1]["error"]["message"] == "no"
        assert left(rich.client) == START


def test_who_is_not_reached_costs_nothing(start):
    stack = start(budget(usd(START)), provider_url="http://127.0.0.1:9/v1")
    answer = stack.client.post(ask(unique()))
    assert (answer.status, answer.error["code"]) == (502, "provider_unreachable") and left(stack.client) == START


def kept(stack, answer):
    """The whole reservation; a chat of a few words, as long as may be."""
    line = stack.log_of(answer)
    assert line["cost_estimated"] is True
    assert MAX_OUTPUT * OUT < logged(line) < MAX_OUTPUT * OUT + 1000 * IN
    assert left(stack.client) == START - logged(line)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", ["first_byte", "total"])
def test_what_timed_out_may_have_worked(start, stream, limit):
    stack = start({**budget(usd(START)), "providers": {"fake": {"timeout": {limit: "200ms"}}}})
    answer = stack.client.post(ask(stack.provider.on(lambda call: call.hang()), stream=stream))
    assert (answer.status, answer.error["code"]) == (504, "provider_timeout")
    kept(stack, answer)


def test_silence_in_the_middle_may_go_on_unheard(start):
    stack = start({**budget(usd(START)), "providers": {"fake": {"timeout": {"between_bytes": "200ms"}}}})

    def silent(call):
        call.stream_head()
        call.event(chunk("a"))
        call.hang()
    answer = stack.client.post(ask(stack.provider.on(silent), stream=True))
    assert answer.events[-1]["error"]["code"] == "provider_stalled"
    kept(stack, answer)


@pytest.mark.parametrize("script", [
    lambda call: call.reset(), lambda call: call.close(), lambda call: call.answer(b"<html>", 200),
    lambda call: call.error(504), lambda call: call.answer({"hello": 1})],
    ids=["reset", "close", "html", "gateway timeout", "no answer"])
def test_what_broke_behind_the_question_may_have_worked(start, script):
    stack = start(budget(usd(START)))
    answer = stack.client.post(ask(stack.provider.on(script)))
    assert answer.status in (502, 504)
    kept(stack, answer)


# ── Without usage ─────────────────────────────────────────────────────────────────────────────────────────────────────


def estimated(stack, request, seen, input_known=None):
    """Charged at what its bytes bound: its input, and what was seen of its output, or a little more."""
    line = wait_until(lambda: stack.lines(request.request_id), what="its line")[0]
    assert line["cost_estimated"] is True
    assert (input_known or 100) * IN + seen * OUT <= logged(line) < 700 * IN + (seen + 100) * OUT
    wait_left(stack.client, START - logged(line))


def test_a_json_answer_without_usage(rich):
    answer = rich.client.chat(provider_says(rich, content="x" * 500, usage=None))
    estimated(rich, answer, 500)
    assert cost_of(answer.headers) == logged(rich.log_of(answer))


def test_a_stream_without_usage(rich):
    prompt = rich.provider.on(lambda call: call.stream(["x" * 100] * 5, usage=False))
    with rich.client.stream(ask(prompt, stream=True)) as stream:
        assert stream.rest()[-1] == "[DONE]"
    estimated(rich, stream, 500)


def test_a_stream_that_is_whole_and_does_not_say_so(rich):
    """Its usage is no count on the way."""
    def script(call):
        call.stream_head()
        call.event(chunk("a"))
        call.event(chunk(finish="stop"))
        call.event(usage_chunk())
        call.end_stream(done=False)
    answer = rich.client.post(ask(rich.provider.on(script), stream=True))
    line = rich.log_of(answer)
    assert logged(line) == COST and "cost_estimated" not in line and left(rich.client) == START - COST


def test_an_estimate_is_never_more_than_was_set_aside(rich):
    answer = rich.client.chat(provider_says(rich, content="x" * 500, usage=None), max_tokens=20)
    assert 20 * OUT < logged(rich.log_of(answer)) < 700 * IN + 20 * OUT


def test_a_stream_that_breaks(rich):
    def broken(call):
        call.stream_head()
        for _ in range(5):
            call.event(chunk("x" * 100))
        call.close()
    answer = rich.client.post(ask(rich.provider.on(broken), stream=True))
    assert answer.events[-1]["error"]["code"] == "provider_connection_broken"
    estimated(rich, answer, 500)


def test_counts_on_the_way_are_no_usage(rich):
    def running(call):
        call.stream_head()
        for i in range(5):
            call.event(chunk("x" * 100, usage=usage(50, i)))
        call.close()
    answer = rich.client.post(ask(rich.provider.on(running), stream=True))
    estimated(rich, answer, 500, input_known=50)


def test_a_client_that_leaves_a_stream(rich):
    prompt = rich.provider.manual()
    stream = rich.client.stream(ask(prompt, stream=True))
    call = rich.provider.take(prompt)
    call.stream_head()
    for _ in range(5):
        call.event(chunk("x" * 100))
    for _ in range(5):
        stream.next_data()
    stream.close()
    assert call.peer_gone(15)
    let_go(call)
    estimated(rich, stream, 500)


def leaves(stack, fields, events):
    """A client that leaves after these events."""
    prompt = stack.provider.manual()
    stream = stack.client.stream(ask(prompt, stream=True, **fields))
    call = stack.provider.take(prompt)
    call.stream_head()
    for event in events:
        call.event(event)
        stream.next_data()
    stream.close()
    assert call.peer_gone(15)
    let_go(call)
    return wait_until(lambda: stack.lines(stream.request_id), what="its line")[0]


def test_who_thinks_unseen_costs_what_was_set_aside(start):
    stack = start(budget(usd(START), reasoning=True))
    line = leaves(stack, {}, [chunk("a")])
    assert line["cost_estimated"] is True and logged(line) > MAX_OUTPUT * OUT
    wait_left(stack.client, START - logged(line))
    # what it says that it used is believed all the same
    assert cost_of(stack.client.chat(unique()).headers) == COST


def test_who_is_seen_thinking_does_too(rich):
    line = leaves(rich, {}, [chunk(delta={"reasoning_content": "hm"}), chunk("a")])
    assert line["cost_estimated"] is True and logged(line) > MAX_OUTPUT * OUT


# ── Shared calls ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_followers_cost_nothing(start):
    stack = start({**budget(usd(START)), "cache": {"scope": "everyone"}})
    prompt = stack.provider.manual()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        leader = pool.submit(stack.client.with_key("alice").post, ask(prompt))
        call = stack.provider.take(prompt)
        followers = [pool.submit(stack.client.with_key("bob").post, ask(prompt)) for _ in range(5)]
        call.plain()
        assert cost_of(leader.result().headers) == COST
        for answer in (f.result() for f in followers):
            assert answer.cache in ("COLLAPSED", "HIT") and cost_of(answer.headers) == 0
            assert Decimal(answer.headers["x-pavise-saved-usd"]) == COST
    assert left(stack.client.with_key("alice")) == START - COST
    assert left(stack.client.with_key("bob")) == START


def test_a_call_that_goes_on_for_others_is_its_leaders_to_pay(start):
    stack = start({**budget(usd(START)), "cache": {"scope": "everyone"}})
    prompt = stack.provider.manual()
    leader = stack.client.with_key("alice").stream(ask(prompt, stream=True))
    call = stack.provider.take(prompt)
    call.stream_head()
    call.event(chunk("a"))
    leader.next_data()
    with stack.client.with_key("bob").stream(ask(prompt, stream=True)) as follower:
        assert follower.next_data().content == "a"
        leader.close()
        call.event(chunk("b"))
        assert follower.next_data().content == "b"
        call.event(chunk(finish="stop"))
        call.event(usage_chunk())
        call.end_stream()
        assert follower.rest()[-1] == "[DONE]"
    wait_left(stack.client.with_key("alice"), START - COST)
    assert left(stack.client.with_key("bob")) == START
    line = stack.log_of(leader)
    assert logged(line) == COST and "cost_estimated" not in line


STALE = {"cache": {"ttl": "1s", "stale_while_revalidate": "1h"}}


def refreshes(stack):
    return stack.pavise.log.find(lambda line: line["event"] == "refresh")


def test_a_refresh_is_paid_by_who_caused_it(start):
    stack = start({**budget(usd(START)), **STALE})
    client, prompt = stack.client.with_key("alice"), unique()
    client.chat(prompt)
    stale = wait_until(lambda: (a := client.chat(prompt)).cache == "STALE" and a)
    assert cost_of(stale.headers) == 0
    line = wait_until(lambda: refreshes(stack), what="a refresh")[0]
    assert logged(line) == COST and line["key_id"] == "alice"
    wait_left(client, START - 2 * COST)
    assert left(stack.client.with_key("bob")) == START


def test_a_refresh_that_there_is_no_money_for_is_not_made(start):
    stack = start({**budget(usd("0.002")), **STALE})
    prompt = stack.provider.on(lambda call: call.answer(completion(usage=usage(0, 900))))
    assert stack.client.chat(prompt).cache == "MISS"
    assert left(stack.client) == Decimal("0.0002")
    for _ in range(3):
        assert wait_until(lambda: (a := stack.client.chat(prompt)).cache == "STALE" and a)
    # a worker takes its next request when it is done with what is behind its last: one that follows has seen it end
    stack.pavise.term()
    wait_until(lambda: not stack.pavise.process.running())
    assert stack.provider.calls(prompt) == 1 and not refreshes(stack)


@pytest.mark.parametrize("fails,costs", [(lambda call: call.error(500), False), (lambda call: call.close(), True)],
                         ids=["refused", "broken"])
def test_a_stale_answer_does_not_make_the_call_cheaper_that_failed(start, fails, costs):
    stack = start({**budget(usd(START)), "cache": {"ttl": "1s", "stale_if_error": "1h"}})
    prompt = unique()
    assert stack.client.chat(prompt).cache == "MISS"
    before = left(stack.client)
    stack.provider.on(fails, prompt)
    stale = wait_until(lambda: (a := stack.client.chat(prompt)).cache == "STALE" and a)
    assert (cost_of(stale.headers) > MAX_OUTPUT * OUT) == costs and left(stack.client) == before - cost_of(stale.headers)
    assert stack.log_of(stale).get("cost_estimated", False) == costs and stale.headers["x-pavise-saved-usd"]


# ── Workers that die, answers that are told ───────────────────────────────────────────────────────────────────────────


def test_a_worker_that_dies_has_not_given_back(start):
    """What it had set aside stays until somebody knows better: it may have been spent."""
    stack = start(budget(usd(START)))
    prompt = stack.provider.manual()
    with stack.client.stream(ask(prompt, stream=True)) as _:
        call = stack.provider.take(prompt)
        held = left(stack.client)
        os.kill(owner_of(call.socket, stack.pavise.workers()), signal.SIGKILL)
        stack.pavise.wait_event("worker_died")
        assert left(stack.client) == held < START
        call.finish()


def test_a_page_may_read_them(start):
    stack = start({**budget(usd(START)), "server": {"cors": {"origins": ["https://example.org"]}}})
    answer = stack.client.chat(unique(), headers={"Origin": "https://example.org"})
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert {"x-pavise-cost-usd", "x-pavise-saved-usd", "x-pavise-budget-remaining-usd"} <= set(exposed.split(", "))


def test_what_is_left_is_of_the_tightest(start):
    stack = start(budget(usd("5"), usd("3", "ours", per=["team"]), usd("0.5", "dry", enforce=False)))
    answer = stack.client.chat(unique())
    assert Decimal(answer.headers["x-pavise-budget-remaining-usd"]) == 3 - COST
