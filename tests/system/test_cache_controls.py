"""What a client may say to the cache, and what every answer says of it, to the letter of RFC 9111 and RFC 9211."""

import json

import pytest

from client import CHAT, ask, unique
from process import wait_until
from provider import completion
from structured_fields import Reader, cache_status

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
TTL = "X-Pavise-Cache-TTL"
CONFIG = {"models": {"short": {"provider": "fake", "cache": {"ttl": "90s"}},
                     "off": {"provider": "fake", "cache": {"off": True}}}}


def other_answers(call):
    """A legacy completion, or embeddings: whatever their text."""
    if call.path.endswith("/embeddings"):
        inputs = call.json["input"] if isinstance(call.json["input"], list) else [call.json["input"]]
        call.answer({"object": "list", "model": "e", "usage": {"prompt_tokens": len(inputs), "total_tokens": len(inputs)},
                     "data": [{"object": "embedding", "index": i, "embedding": [1.5]} for i in range(len(inputs))]})
    else:
        call.answer({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "t",
                     "choices": [{"index": 0, "text": "fine", "logprobs": None, "finish_reason": "stop"}]})


@pytest.fixture(params=["chat", "stream", "completion", "embedding", "embeddings"])
def question(request, stack, each):
    """question(headers) → an Answer to the same new question, of each kind; .calls() is how often the provider had it."""
    stack.provider.scripts[None] = other_answers
    text = unique()
    path, body = {
        "chat": (CHAT, ask(text)), "stream": (CHAT, ask(text, stream=True)),
        "completion": (COMPLETIONS, {"model": "demo", "prompt": text}),
        "embedding": (EMBEDDINGS, {"model": "demo", "input": text}),
        "embeddings": (EMBEDDINGS, {"model": "demo", "input": [text, text + "!"]}),
    }[request.param]

    def ask_it(cache_control=None, **more):
        headers = {} if cache_control is None else {"Cache-Control": cache_control}
        return each.post(body, {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}, path)
    ask_it.calls = lambda: sum(text.encode() in call.body for call in stack.provider.seen)
    ask_it.streams = request.param == "stream"
    return ask_it


def stored(answer, question):
    """What Cache-Status says; a stream's head goes before anybody knows."""
    return cache_status(answer).get("stored", question.streams)


# ── Cache-Control ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_controls(question, stack):
    first, second = question(), question()
    assert cache_status(first) == {"fwd": "uri-miss", **({} if question.streams else {"stored": True})}
    assert cache_status(second).keys() == {"hit", "ttl"} and 3590 <= cache_status(second)["ttl"] <= 3600
    assert (first.cache, second.cache) == ("MISS", "HIT")
    assert "Age" not in first.headers and second.headers["Age"].isdigit()
    assert "cache_control" not in stack.log_of(first) and "cache_control" not in stack.log_of(second)


def test_no_cache_makes_its_own_call_and_remembers_it(question, stack):
    assert question("no-cache").cache == "MISS"  # there was nothing to refuse
    answer = question("No-Cache")
    assert answer.cache == "BYPASS" and cache_status(answer)["fwd"] == "request" and stored(answer, question)
    assert question.calls() == 2 and "Age" not in answer.headers
    line = stack.log_of(answer)
    assert (line["cache"], line["cache_control"], line["stored"]) == ("bypass", "no-cache", True)
    assert question().cache == "HIT" and question.calls() == 2


def test_what_no_cache_brought_is_what_others_get(stack, each):
    texts = iter(["old", "new"])
    prompt = stack.provider.on(lambda call: call.answer(completion(next(texts))))
    for control, text in (None, "old"), (None, "old"), ("no-cache", "new"), (None, "new"):
        answer = each.chat(prompt, {"Cache-Control": control})
        assert answer.json["choices"][0]["message"]["content"] == text


def test_no_store_leaves_nothing_behind(question, stack):
    for _ in range(2):
        answer = question("no-store")
        assert answer.cache == "MISS" and cache_status(answer) == {"fwd": "uri-miss"}
        line = stack.log_of(answer)
        assert (line["cache"], line["cache_control"], line["stored"]) == ("miss", "no-store", False)
    assert question.calls() == 2
    assert question().cache == "MISS"


def test_no_store_may_be_answered_from_the_cache(question):
    """RFC 9111, 5.2.1.5: it "does not prevent the reuse of stored responses"."""
    question()
    assert question("no-store").cache == "HIT" and question.calls() == 1


def test_no_store_and_no_cache(question):
    question()
    answer = question("no-store, no-cache")
    assert cache_status(answer) == {"fwd": "request"} and question.calls() == 2


def test_max_age(question, stack):
    question()
    assert question("max-age=3600").cache == "HIT"
    old = wait_until(lambda: (a := question("max-age=1")).cache == "BYPASS" and a)
    assert cache_status(old)["fwd"] == "request" and stored(old, question)
    assert stack.log_of(old)["cache_control"] == "max-age=1"
    assert question.calls() == 2
    assert question("max-age=3600").cache == "HIT"  # and it is young again
    assert question("max-age=0").cache == "BYPASS" and question.calls() == 3


def test_max_age_wants_no_stale_one(start):
    stack, prompt = start({"cache": {"ttl": "2s"}}), unique()
    stack.client.chat(prompt)
    [key] = stack.memcached.keys(stack.pavise.config["memcached"]["prefix"] + ":a:")
    value = stack.memcached.get(key)

    def is_stale():
        stack.memcached.set(key, value)  # a memcached that keeps what it should forget
        return cache_status(stack.client.chat(prompt, {"Cache-Control": "max-age=3600"})).get("fwd") == "stale"
    wait_until(is_stale)


def test_only_if_cached(question, stack):
    refused = question("only-if-cached")
    assert refused.status == 504 and refused.headers["x-should-retry"] == "false"
    assert (refused.error["code"], refused.error["type"]) == ("not_cached", "invalid_request_error")
    assert cache_status(refused) is None and "Age" not in refused.headers
    line = stack.log_of(refused)
    assert (line["error.type"], line["cache_control"]) == ("caller_only_if_cached", "only-if-cached")
    assert question.calls() == 0
    question()
    assert question("only-if-cached").cache == "HIT"
    assert question("only-if-cached, no-cache").status == 504  # both cannot be had
    assert question("only-if-cached, max-age=0").status == 504
    assert question("only-if-cached, max-age=3600, no-store").cache == "HIT"
    assert question.calls() == 1


@pytest.mark.parametrize("what", [{"model": "off"}, {"store": True}], ids=["off", "side effect"])
def test_only_if_cached_where_nothing_is_cached(stack, each, what):
    prompt = unique()
    answer = each.post(ask(prompt, **what), {"Cache-Control": "only-if-cached"})
    assert answer.status == 504 and answer.cache == "BYPASS" and stack.provider.calls(prompt) == 0


def test_part_of_a_batch(stack, each):
    stack.provider.scripts[None] = other_answers
    old, new = unique(), unique()
    post = lambda value, control=None: each.post({"model": "demo", "input": value}, {"Cache-Control": control}, EMBEDDINGS)  # noqa: E731
    post(old)
    assert post([old, new], "only-if-cached").status == 504
    answer = post([old, new], "no-store")
    assert cache_status(answer) == {"fwd": "partial"} and json.loads(stack.provider.seen[-1].body)["input"] == [new]
    answer = post([old, new])
    assert cache_status(answer) == {"fwd": "partial", "stored": True}
    answer = post([old, new], "no-cache")
    assert cache_status(answer) == {"fwd": "request", "stored": True}
    assert json.loads(stack.provider.seen[-1].body)["input"] == [old, new]
    assert post([old, new]).cache == "HIT"


@pytest.mark.parametrize("value", ["max-stale=60", "min-fresh=1, x=\"no-store, no-cache\"", "no-cachex", "", ",", "=", "\"no-cache"],
                         ids=repr)
def test_what_is_not_known_changes_nothing(stack, each, value):
    prompt = unique()
    assert [each.chat(prompt, {"Cache-Control": value}).cache for _ in range(2)] == ["MISS", "HIT"]


def test_several_lines_are_one_list(stack, each):
    prompt = unique()
    body = json.dumps(ask(prompt)).encode()
    head = (f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n")
    for lines, cache in ("", "MISS"), ("Cache-Control: max-age=9\r\n", "HIT"), (
            "Cache-Control: max-age=9\r\ncache-control: x=\"a,b\" ,, NO-CACHE\r\n", "BYPASS"):
        stream = each.raw(head.encode() + lines.encode() + b"\r\n" + body)
        stream.read_head()
        assert stream.headers["X-Cache"] == cache, lines
        stream.close()


# ── X-Pavise-Cache-TTL ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value,seconds", [("60", 60), ("60s", 60), ("5m", 300), ("2d", 172800), ("1500ms", 1), ("366d", 31622400)])
def test_a_ttl_of_its_own(question, stack, value, seconds):
    first = question(X_Pavise_Cache_TTL=value)
    assert first.status == 200 and stored(first, question)
    hit = question()
    assert hit.cache == "HIT" and seconds - 10 <= cache_status(hit)["ttl"] <= seconds
    assert stack.log_of(first)["cache_control"].startswith("ttl=")


def test_the_ttl_is_that_of_the_answer_and_not_of_the_request(question):
    question(X_Pavise_Cache_TTL="60")
    assert cache_status(question(X_Pavise_Cache_TTL="1d"))["ttl"] <= 60  # it was stored for so long
    question("no-cache", X_Pavise_Cache_TTL="1d")
    assert cache_status(question())["ttl"] > 80000


def test_a_short_ttl_is_kept(start):
    stack, prompt = start(), unique()
    stack.client.chat(prompt, {TTL: "2s"})
    [key] = stack.memcached.keys(stack.pavise.config["memcached"]["prefix"] + ":a:")
    wait_until(lambda: stack.memcached.get(key) is None)  # memcached was told, too
    assert stack.client.chat(prompt).cache == "MISS"


def test_a_ttl_of_nothing_stores_nothing(question):
    assert [question(X_Pavise_Cache_TTL="0").cache for _ in range(2)] == ["MISS", "MISS"]
    question()
    assert question(X_Pavise_Cache_TTL="0").cache == "HIT"


@pytest.mark.parametrize("value", ["-1", "1.5", "soon", "60, 60", "367d", "99999999999999999999", "1h30m", "' OR 1"])
def test_a_ttl_that_is_none(stack, each, value):
    prompt = unique()
    answer = each.post(ask(prompt), {TTL: value})
    assert answer.status == 400 and (answer.error["code"], answer.error["param"]) == ("invalid_header", TTL)
    assert TTL in answer.error["message"] and value[:60] in answer.error["message"] and "5m" in answer.error["message"]
    assert stack.log_of(answer)["error.type"] == "caller_invalid_header" and stack.provider.calls(prompt) == 0


def test_a_model_has_its_own_ttl(stack, each):
    prompt = unique()
    each.chat(prompt, model="short")
    assert 80 <= cache_status(each.chat(prompt, model="short"))["ttl"] <= 90


# ── Cache-Status ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_status_of_the_next_hop(stack, each):
    """RFC 9211, 2.3: without fwd-status it is the answer's own."""
    for script, status, said in [
            (lambda call: call.error(429), 429, {"fwd": "uri-miss"}),
            (lambda call: call.answer(b"no JSON"), 502, {"fwd": "uri-miss", "fwd-status": 200}),
            (lambda call: call.answer(b"", 204), 502, {"fwd": "uri-miss", "fwd-status": 204}),
            (lambda call: call.answer({"error": {"message": "x"}}), 502, {"fwd": "uri-miss", "fwd-status": 200}),
            (lambda call: call.reset(), 502, {"fwd": "uri-miss"})]:
        for more in {}, {"store": True}:
            answer = each.post(ask(stack.provider.on(script), **more))
            assert answer.status == status
            assert cache_status(answer) == {**said, "fwd": "bypass" if more else "uri-miss"}


def test_what_never_went_forward_says_nothing(start):
    stack = start({"limits": [{"name": "one", "amount": 1, "window": "1d"}]})
    prompt = unique()
    assert cache_status(stack.client.chat(prompt))["fwd"] == "uri-miss"
    refused = stack.client.post(ask(prompt))
    assert refused.status == 429 and cache_status(refused) is None and "Age" not in refused.headers


def test_an_answer_that_is_not_remembered_is_not_stored(stack, each):
    prompt = stack.provider.on(lambda call: call.answer({**completion("x"), "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": None}]}))
    for _ in range(2):
        assert cache_status(each.chat(prompt)) == {"fwd": "uri-miss"}


def test_a_broken_entry_is_a_miss_and_mended(stack, each):
    prompt = unique()
    prefix = stack.pavise.config["memcached"]["prefix"] + ":a:"
    before = set(stack.memcached.keys(prefix))
    each.chat(prompt)
    [key] = set(stack.memcached.keys(prefix)) - before
    stack.memcached.set(key, stack.memcached.get(key)[:-1])
    assert cache_status(each.chat(prompt)) == {"fwd": "uri-miss", "stored": True}
    assert each.chat(prompt).cache == "HIT"


def test_without_memcached(start):
    stack = start(memcached=False)
    prompt = unique()
    for control, said in (None, {"fwd": "uri-miss", "detail": "store-down"}), ("no-store", {"fwd": "uri-miss", "detail": "store-down"}):
        answer = stack.client.chat(prompt, {"Cache-Control": control})
        assert cache_status(answer) == said
    assert stack.client.post(ask(prompt), {"Cache-Control": "only-if-cached"}).status == 504


@pytest.mark.parametrize("text", ["a; b=1;c=\"x\\\"y\" , d;e=?0", "a", "", "a;b=-5;c=1.5"])
def test_the_reader_reads(text):
    assert Reader(text).list() is not None


@pytest.mark.parametrize("text", ["a;", "a b", "a,", "a;B", "a;b=", "a;b=\"", "a; b=\"\u00fc\"", "1.2345", "a;b=5x", "=", "a;b =1"])
def test_the_reader_refuses(text):
    with pytest.raises(ValueError):
        Reader(text).list()
