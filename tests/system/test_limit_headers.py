"""What a client learns of its limits, on every answer there is: OpenAI's headers of the tightest, the IETF's of all."""

import re
import time

import pytest

from client import ask, unique
from structured_fields import Reader
from test_limits_cache import limit

RPM, TPM = limit("rpm", amount=1000, window="1m"), limit("tpm", amount=90000, window="1d", count="tokens")
SPEND = limit("spend", amount="2.50", window="month", count="usd")
CALLS = {"name": "calls", "count": "concurrent", "per": ["key"], "amount": 40}
CONFIG = {"limits": [RPM, limit("daily", amount=700), limit("dry", amount=5, enforce=False), TPM, SPEND, CALLS,
                     limit("other", per=["model"], amount=800, window="1h")]}
RESET = re.compile(r"\d+ms|\d+s|\d+m\d+s|\d+h\d+m\d+s")
DAY, SECONDS = 86400, {"rpm": 60, "daily": 86400, "tpm": 86400, "other": 3600}


def read(answer, name):
    """A structured field: name of the limit → parameters; what the draft does not know fails."""
    known = {"RateLimit-Policy": {"q": int, "w": int, "qu": str}, "RateLimit": {"r": int, "t": int}}[name]
    fields = Reader(", ".join(answer.headers.get_all(name))).list()
    for _, said in fields:
        assert all(type(value) is known[parameter] and (value or parameter in "rt") for parameter, value in said.items())
    assert len(dict(fields)) == len(fields)
    return dict(fields)


def every_kind(client):
    """One answer of each kind that a key can get."""
    prompt = unique()
    yield "miss", client.chat(prompt)
    yield "hit", client.chat(prompt)
    yield "stream", client.chat(unique(), stream=True)
    yield "stream of a hit", client.chat(prompt, stream=True)
    yield "not json", client.post("{")
    yield "no such model", client.post(ask("x", model="nothing"))
    yield "no such url", client.get("/v1/nothing")
    yield "models", client.get("/v1/models")
    yield "not for this key", client.call("POST", "/admin/purge", {"all": True})


def test_on_every_answer(stack, each):
    for what, answer in every_kind(each):
        policy = {name for name in read(answer, "RateLimit-Policy")} if answer.headers["RateLimit-Policy"] else None
        if what == "no such url":  # whose key it is has not been asked
            assert policy is None
            continue
        expected = {"rpm", "daily", "tpm", "spend", "calls"} | ({"other"} if what in ("miss", "hit") else set())
        assert expected <= policy and "dry" not in policy, what
        for kind in "requests", "tokens":
            assert RESET.fullmatch(answer.headers[f"x-ratelimit-reset-{kind}"]), what
            assert 0 < int(answer.headers[f"x-ratelimit-remaining-{kind}"]) <= int(
                answer.headers[f"x-ratelimit-limit-{kind}"]), what


def test_all_of_them_in_the_ietfs(stack, client):
    answer, month = client.chat(unique()), time.gmtime().tm_mon
    policy, state = read(answer, "RateLimit-Policy"), read(answer, "RateLimit")
    assert {name: said["w"] for name, said in policy.items() if name in SECONDS} == SECONDS
    assert policy["rpm"] == {"q": 1000, "w": 60} and policy["other"] == {"q": 800, "w": 3600}
    assert policy["tpm"] == {"q": 90000, "qu": "tokens", "w": DAY}
    assert (policy["spend"]["q"], policy["spend"]["qu"]) == (2500000, "microdollars")
    assert policy["spend"]["w"] in (28 * DAY, 29 * DAY, 30 * DAY, 31 * DAY) or month != time.gmtime().tm_mon
    assert policy["calls"] == {"q": 40, "qu": "concurrent-requests"}
    assert set(state) == {"rpm", "daily", "tpm", "spend", "other"}  # nobody knows of the calls of other hosts
    for name, said in state.items():
        assert 0 <= said["r"] <= policy[name]["q"] and 0 <= said["t"] <= policy[name]["w"]


def test_the_tightest_of_each_kind_in_openais(stack, client):
    said = client.chat(unique()).headers
    assert (said["x-ratelimit-limit-requests"], said["x-ratelimit-limit-tokens"]) == ("700", "90000")


def test_both_speak_of_the_same(stack, client):
    answer = client.with_key("carol").chat(unique())
    assert int(answer.headers["x-ratelimit-remaining-requests"]) == read(answer, "RateLimit")["daily"]["r"] == 699


def test_a_stranger_learns_nothing(stack, client):
    said = client.with_key("nobody").post(ask("x")).headers
    assert not [name for name in said if "ratelimit" in name.lower()]


def test_a_page_may_read_them(start):
    stack = start({"server": {"cors": {"origins": ["*"]}}, "limits": [RPM, TPM]})
    said = stack.client.chat(unique(), {"Origin": "https://example.org"}).headers
    exposed = {name.strip() for name in said["Access-Control-Expose-Headers"].split(",")}
    assert {name.lower() for name in said if "ratelimit" in name.lower()} <= exposed
    assert {"retry-after", "retry-after-ms", "x-should-retry"} <= exposed


@pytest.mark.parametrize("window,longest", [("10s", 10), ("1d", DAY), ("month", 31 * DAY)])
def test_the_refusal_says_when_it_ends(start, window, longest):
    stack = start({"limits": [limit("wide", amount=9), limit("l", amount=1, window=window)]})
    answers = [stack.client.post(ask("x")) for _ in range(5)]
    refused = [a for a in answers if a.status == 429][0]
    ms, seconds = int(refused.headers["retry-after-ms"]), int(refused.headers["Retry-After"])
    assert 0 < ms <= longest * 1000 and seconds == -(-ms // 1000)
    assert read(refused, "RateLimit")["l"]["r"] == 0 and read(refused, "RateLimit")["l"]["t"] <= seconds
    assert refused.headers["x-ratelimit-limit-requests"] == "1"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    end = re.search(r"'l' .* ends in \S+, at (\S+); try again then", refused.error["message"])[1]
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    assert now[:8] <= end[:8] and (window != "month" or end[8:] == "01T00:00:00.000Z"), (now, end)
    assert (window == "month") <= (refused.headers["x-should-retry"] == "false") or ms <= 120000
