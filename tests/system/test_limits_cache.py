"""Limits let exactly as many through as they say; what cannot be trusted or is too old is not an answer."""

import concurrent.futures
import json

import pytest

from client import ask, unique
from process import wait_until
from provider import completion
from servers import Stack

AMOUNT = 10


def limit(name="l", per=("key",), amount=AMOUNT, window="1d", **fields):
    return {"name": name, "count": "requests", "per": list(per), "amount": amount, "window": window, **fields}


def limited(start, *limits, **options):
    return start({"limits": list(limits), "models": {"other": {"provider": "fake"}}}, **options)


def at_once(stack, count, bodies=None, keys=("alice",)):
    """So many requests in parallel, keys and bodies in turn: [(key, model, Answer)]."""
    def one(i):
        body = bodies[i % len(bodies)] if bodies else ask(unique(), stream=i % 3 == 0)
        key = keys[i // len(bodies or [0]) % len(keys)]
        return key, body["model"], clients[i % len(clients)].with_key(key).post(body)
    clients = [web.client for web in stack.webs.values()]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        return list(pool.map(one, range(count)))


def passed(answers, key=None, model=None):
    mine = [a for k, m, a in answers if key in (None, k) and model in (None, m)]
    assert {a.status for a in mine} <= {200, 429}
    return sum(a.status == 200 for a in mine)


def counters(stack):
    """name of the limit and who is counted → what memcached has."""
    prefix = stack.pavise.config["memcached"]["prefix"] + ":c:"
    names = stack.memcached.keys(prefix)
    return {tuple(name.removeprefix(prefix).split(":")[:2]): int(stack.memcached.get(name)) for name in names}


# ── Exactly so many ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_of_n_lets_exactly_n_through(start):
    stack = limited(start, limit(), webs=("lighttpd", "apache"))
    answers = at_once(stack, 3 * AMOUNT)
    assert passed(answers) == AMOUNT
    assert stack.provider.seen and len(stack.provider.seen) == AMOUNT  # nobody else cost anything
    left = sorted(int(a.headers["x-ratelimit-remaining-requests"]) for _, _, a in answers if a.status == 200)
    assert left == list(range(AMOUNT))


def test_a_limit_for_everyone_together(start):
    stack = limited(start, limit(per=[], amount=25))
    assert passed(at_once(stack, 75, keys=("alice", "bob", "carol", "demo"))) == 25
    assert counters(stack) == {("l", "everyone"): 25}  # a refusal leaves nothing behind


def test_each_key_has_its_own(start):
    answers = at_once(limited(start, limit()), 6 * AMOUNT, keys=("alice", "bob"))
    assert passed(answers, "alice") == passed(answers, "bob") == AMOUNT


def test_a_team_shares(start):
    answers = at_once(limited(start, limit(per=["team"])), 9 * AMOUNT, keys=("alice", "bob", "carol"))
    assert passed(answers, "alice") + passed(answers, "bob") == AMOUNT == passed(answers, "carol")


@pytest.mark.parametrize("per,expected", [(["model"], AMOUNT), (["key", "model"], 2 * AMOUNT)])
def test_per_model(start, per, expected):
    bodies = [ask("x"), ask("x", model="other")]
    answers = at_once(limited(start, limit(per=per)), 8 * AMOUNT, bodies, keys=("alice", "carol"))
    assert passed(answers, model="demo") == passed(answers, model="other") == expected


def test_hits_are_charged_and_mistakes_are_not(start):
    stack = limited(start, limit(amount=3))
    client = stack.client.with_key("alice")
    assert "x-ratelimit-limit-requests" not in client.with_key("nobody").post(ask("x")).headers
    for other in client.post("{"), client.post(ask("x", model="nothing")):
        assert other.headers["x-ratelimit-remaining-requests"] == "3"  # told, but not counted
    prompt = unique()
    answers = [client.post(ask(prompt, stream=stream)) for stream in (False, False, True, False)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert [a.cache for a in answers[:3]] == ["MISS", "HIT", "HIT"]
    assert [a.headers["x-ratelimit-remaining-requests"] for a in answers] == ["2", "1", "0", "0"]


def test_asking_what_models_there_are_is_a_request(start):
    stack = limited(start, limit(amount=4), limit("model", per=["model"], amount=1))
    client = stack.client.with_key("alice")
    answers = [client.get(path) for path in ("/v1/models", "/v1/models/demo", "/v1/models/nothing")]
    assert [a.status for a in answers] == [200, 200, 404]
    assert [a.headers["x-ratelimit-remaining-requests"] for a in answers] == ["3", "2", "1"]
    assert client.chat(unique()).cache == "MISS"  # no model has been charged
    refused = client.get("/v1/models")
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded") and "Retry-After" in refused.headers
    line = stack.log_of(refused)
    assert (line["limit"], line["error.type"]) == ("l", "policy_rate_limit") and "Cache-Status" not in refused.headers
    assert stack.client.with_key("bob").get("/v1/models").status == 200


def test_two_limits_and_what_the_refusal_gives_back(start):
    stack = limited(start, limit("mine", amount=100), limit("ours", per=[], amount=5),
                    limit("model", per=["model"], amount=50))
    assert passed(at_once(stack, 30, keys=("alice", "carol"))) == 5
    counted = counters(stack)
    assert counted["mine", "key=alice"] + counted["mine", "key=carol"] == 5 == counted["model", "model=demo"]
    assert counted["ours", "everyone"] == 5


def test_the_headers_are_those_of_the_tightest_limit(start):
    stack = limited(start, limit("wide", amount=1000), limit("tight", per=[], amount=7),
                    limit("dry", amount=2, enforce=False))
    headers = stack.client.chat(unique()).headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("7", "6")


def test_the_refusal(start):
    stack = limited(start, limit("roomy", amount=9), limit("burst", amount=1, window="1h"), webs=("lighttpd", "apache"))
    assert passed(at_once(stack, 1)) == 1
    for web in stack.webs.values():
        for stream in False, True:
            answer = web.client.with_key("alice").post(ask(unique(), stream=stream))
            assert answer.status == 429 and answer.headers["Content-Type"] == "application/json"
            assert (answer.error["type"], answer.error["code"], answer.error["param"]) == \
                ("rate_limit_error", "rate_limit_exceeded", None)
            assert "'burst'" in answer.error["message"] and "1 requests per 1h" in answer.error["message"]
            seconds, milliseconds = int(answer.headers["Retry-After"]), int(answer.headers["retry-after-ms"])
            assert 0 < milliseconds <= 3600000 and seconds == -(-milliseconds // 1000)
            assert answer.headers["x-ratelimit-limit-requests"] == "1"
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
            # who may not come back within two minutes should not wait: the official Node client would, for the hour
            assert answer.headers["x-should-retry"] == ("false" if milliseconds > 120000 else None)
            line = stack.log_of(answer)
            assert (line["limit"], line["error.type"], line["level"]) == ("burst", "policy_rate_limit", "warn")


def test_a_new_window_begins_at_zero(start):
    stack = limited(start, limit(amount=2, window="2s"))
    client = stack.client
    refused = wait_until(lambda: (a := client.post(ask("x"))).status == 429 and a)
    assert int(refused.headers["retry-after-ms"]) <= 2000 and int(refused.headers["Retry-After"]) <= 2
    fresh = wait_until(lambda: (a := client.post(ask("x"))).status == 200 and a)
    assert fresh.headers["x-ratelimit-remaining-requests"] == "1"


def test_a_dry_run_refuses_nobody_and_says_whom_it_would(start):
    stack = limited(start, limit("dry", amount=2, enforce=False))
    answers = [stack.client.chat(unique()) for _ in range(4)]
    assert [stack.log_of(a).get("would_refuse") for a in answers] == [None, None, "dry", "dry"]
    assert not any("x-ratelimit-limit-requests" in a.headers for a in answers)
    assert all("limit" not in stack.log_of(a) for a in answers)


def test_counting_goes_on_after_a_restart_of_pavise(start):
    stack = limited(start, limit(amount=3))
    assert passed(at_once(stack, 2)) == 2
    stack.pavise.end()
    stack.pavise.start()
    assert passed(at_once(stack, 2)) == 1


# ── Age ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


SHORT = {"cache": {"ttl": "2s"}}  # memcached counts in whole seconds and may be one ahead


@pytest.mark.parametrize("config", [SHORT, {"models": {"demo": SHORT}}], ids=["cache", "model"])
def test_what_is_too_old_is_a_miss(start, config):
    stack, prompt = start(config), unique()
    stack.client.chat(prompt)
    [key] = entries(stack)
    value = stack.memcached.get(key)
    again = wait_until(lambda: (a := stack.client.chat(prompt)).cache == "MISS" and a)
    assert stack.provider.calls(prompt) == 2 and again.json["id"] == "chatcmpl-upstream"

    def is_forgotten():
        stack.memcached.set(key, value)  # a memcached that keeps what it should forget
        return stack.client.chat(prompt).cache == "MISS"
    wait_until(is_forgotten)


def test_a_cache_that_is_off(start):
    stack, prompt = start({"cache": {"enabled": False}}), unique()
    assert [stack.client.chat(prompt).cache for _ in range(2)] == ["BYPASS", "BYPASS"]
    assert not entries(stack)


def test_answers_outlive_a_restart_of_pavise_but_not_of_memcached(start):
    stack, prompt = start(memcached=None), unique()
    stack.client.chat(prompt)
    stack.pavise.end()
    stack.pavise.start()
    assert stack.client.chat(prompt, stream=True).cache == "HIT"
    stack.memcached.restart()
    assert [stack.client.chat(prompt).cache for _ in range(2)] == ["MISS", "HIT"]


def test_two_hosts_share_answers_and_limits(start, folder):
    first = limited(start, limit(amount=4))
    config = {"memcached": {"prefix": first.pavise.config["memcached"]["prefix"]}, "limits": [limit(amount=4)]}
    with Stack(folder, config, memcached=first.memcached, provider_url=first.provider.url) as second:
        prompt = unique()
        assert [s.client.chat(prompt).cache for s in (first, second)] == ["MISS", "HIT"]
        assert [s.client.post(ask(prompt)).status for s in (second, first, second, first)] == [200, 200, 429, 429]


# ── What memcached gives back ─────────────────────────────────────────────────────────────────────────────────────────

CONFIG = {}


def entries(stack):
    """The keys of the answers that are stored."""
    return stack.memcached.keys(stack.pavise.config["memcached"]["prefix"] + ":a:")


def stored(stack, prompt):
    """Asks; (key, value) of the entry that this made."""
    before = set(entries(stack))
    stack.client.chat(prompt, stream=True)
    [key] = set(entries(stack)) - before
    return key, stack.memcached.get(key)


def test_a_changed_byte_is_a_miss(stack):
    prompt = unique()
    key, value = stored(stack, prompt)
    for at in sorted({0, 3, 4, 7, 8, 23, 24, 40, 64, 68, 72, 76, 79, 80, 81, len(value) // 2, len(value) - 1}):
        for bit in 1, 128:
            changed = bytearray(value)
            changed[at] ^= bit
            stack.memcached.set(key, bytes(changed))
            before = stack.provider.calls(prompt)
            assert stack.client.chat(prompt).cache == "MISS", at
            assert stack.provider.calls(prompt) == before + 1
    assert stack.client.chat(prompt).cache == "HIT"


def test_cut_stretched_and_foreign_values_are_misses(stack):
    prompt, other = unique(), unique()
    key, value = stored(stack, prompt)
    _, foreign = stored(stack, other)
    for wrong in [value[:n] for n in (0, 1, 4, 8, 23, 24, 79, 80, len(value) // 2, len(value) - 1)] + \
            [value + b"\0", value * 2, foreign, b"x" * 5000, bytes(len(value)), b"VA 5\r\nHD\r\nEN\r\n", b"{}"]:
        stack.memcached.set(key, wrong)
        for stream in False, True:
            stack.memcached.set(key, wrong)
            assert stack.client.chat(prompt, stream=stream).cache == "MISS", wrong[:40]
        assert stack.client.chat(prompt).cache == "HIT"


def test_a_value_that_came_back_is_a_hit(stack):
    """The tests above would also pass if set() broke every value."""
    prompt = unique()
    key, value = stored(stack, prompt)
    stack.memcached.command(f"md {key}".encode())
    assert stack.client.chat(prompt, store=True).cache == "BYPASS"
    stack.memcached.set(key, value)
    assert stack.client.chat(prompt).cache == "HIT"


@pytest.mark.parametrize("size", [100, 50_000, 500_000])
def test_large_answers_come_back_whole(stack, each, size):
    pieces = [f"{i} ü🛡\u2028\" \\ \x00" * 5 for i in range(size // 70)]
    prompt = stack.provider.on(lambda call: call.plain(pieces))
    miss, hit, whole = each.chat(prompt, stream=True), each.chat(prompt, stream=True), each.chat(prompt)
    assert (miss.cache, hit.cache, whole.cache) == ("MISS", "HIT", "HIT")
    assert [e["choices"] for e in hit.events[:-1]] == [e["choices"] for e in miss.events[:-1]]
    assert whole.json["choices"][0]["message"]["content"] == "".join(pieces)


def test_the_same_question_at_once_is_answered_everywhere(stack, each):
    prompt = stack.provider.on(lambda call: call.answer(completion("same")))
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda i: each.chat(prompt, stream=i % 2 == 1), range(60)))
    texts = {json.dumps(a.json["choices"][0]["message"]["content"]) if a.body[:1] == b"{"
             else a.events[1]["choices"][0]["delta"]["content"] and '"same"' for a in answers}
    assert texts == {'"same"'}
