"""Embeddings are remembered input by input: whatever batch a text comes in, it is bought once."""

import base64
import hashlib
import json
import random
import struct
from decimal import Decimal

import pytest

from client import unique
from process import wait_until

EMBEDDINGS = "/v1/embeddings"
CONFIG = {
    "models": {
        "uncached": {"provider": "fake", "cache": {"off": True}},
        "short": {"provider": "fake", "cache": {"ttl": "1s"}},
        "free": {"provider": "fake"},
    },
    "limits": [{"name": "rpm", "count": "requests", "per": ["key"], "amount": 100000, "window": "1d"}],
}


def vector(text, dimensions=4):
    """What the provider makes of one input: the same for the same input, digits and all."""
    seed = json.dumps(text).encode()
    numbers = [hashlib.sha256(seed + bytes([i])).digest()[:8] for i in range(dimensions)]
    return [struct.unpack(">q", number)[0] / 2.0 ** 63 for number in numbers]


def tokens(text):
    return len(text.split()) if isinstance(text, str) else len(text)


def inputs_of(body):
    """As a list, however they were sent."""
    value = body["input"]
    return value if isinstance(value, list) and not isinstance(value[0], int) else [value]


class Embedder:
    """A script for every call: .bodies has what was asked for; `answer` may be replaced by whoever wants another."""

    def __init__(self):
        self.bodies, self.answer = [], lambda call: call.answer(self.of(call.json))

    def __call__(self, call):
        self.bodies.append(call.json)
        self.answer(call)

    @property
    def bought(self):
        """The inputs of every call, oldest first."""
        return [inputs_of(body) for body in self.bodies]

    def of(self, body, **fields):
        data = [{"object": "embedding", "index": i, "embedding": self.one(text, body)}
                for i, text in enumerate(inputs_of(body))]
        used = sum(map(tokens, inputs_of(body)))
        return {"object": "list", "data": data, "model": "fake-embedder",
                "usage": {"prompt_tokens": used, "total_tokens": used}, **fields}

    def one(self, text, body):
        numbers = vector(text, body.get("dimensions", 4))
        if body.get("encoding_format") == "base64":
            return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        return numbers


@pytest.fixture(autouse=True)
def embedder(provider):
    """Whatever is no chat has no prompt."""
    provider.scripts[None] = Embedder()
    return provider.scripts[None]


def post(client, value, headers=None, **fields):
    return client.post({"model": "demo", "input": value, **fields}, headers, EMBEDDINGS)


def embed(client, value, headers=None, **fields):
    """Must work, and be right: one vector for each input, in its order."""
    answer = post(client, value, headers, **fields)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["object"] == "list" and answer.json["model"] == "fake-embedder"
    wanted = inputs_of({"input": value})
    assert [item["index"] for item in answer.json["data"]] == list(range(len(wanted)))
    assert {item["object"] for item in answer.json["data"]} == {"embedding"}
    assert [item["embedding"] for item in answer.json["data"]] == [Embedder().one(text, fields) for text in wanted]
    return answer


def texts(count):
    return [unique(f"text {i}") for i in range(count)]


def usd(value):
    return Decimal(str(value))


# ── What is bought ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_text(each, embedder, stack):
    text = unique("ein Text, größer 🛡")
    miss, hit = embed(each, text), embed(each, text)
    assert embedder.bodies == [{"model": "demo", "input": text}]
    assert (miss.cache, hit.cache) == ("MISS", "HIT") and hit.json == miss.json
    assert miss.headers["Cache-Status"] == "pavise; fwd=uri-miss; stored"
    assert hit.headers["Cache-Status"].startswith("pavise; hit; ttl=3")
    lines = stack.log_of(miss), stack.log_of(hit)
    assert [line["cache"] for line in lines] == ["miss", "hit"] and lines[0]["stored"]
    assert {line["gen_ai.operation.name"] for line in lines} == {"embeddings"}
    assert {line["gen_ai.response.model"] for line in lines} == {"fake-embedder"}
    assert "upstream_duration" in lines[0] and "upstream_duration" not in lines[1]


def numbers():
    """An array of token numbers that nobody has asked for."""
    return [random.randrange(100000) for _ in range(8)]


@pytest.mark.parametrize("make", [
    lambda: unique(), lambda: [unique()], lambda: texts(3), numbers, lambda: [numbers()],
    lambda: [numbers(), [7, *numbers()], numbers()]], ids=["string", "array", "three", "tokens", "array of tokens",
                                                          "three of tokens"])
def test_every_kind_of_input(each, embedder, make):
    value = make()
    assert (embed(each, value).cache, embed(each, value).cache) == ("MISS", "HIT")
    assert embedder.bodies == [{"model": "demo", "input": value}]


def test_a_miss_is_passed_on_to_the_byte(each, embedder):
    body = b'{ "data":[{"index":0, "embedding":[1.50,-0.0,1E-7, 0.1]}],\n "new":[1.0], "model":"x",' \
           b' "usage":{"prompt_tokens":1,"total_tokens":1} }'
    embedder.answer = lambda call: call.answer(body)
    text = unique()
    assert post(each, text).body == body
    hit = post(each, text)
    assert hit.cache == "HIT" and hit.json["data"][0]["embedding"] == [1.5, 0, 1e-7, 0.1]


def test_a_text_is_the_same_alone_and_in_an_array(client, embedder):
    text, token_array = unique(), numbers()
    for one in text, token_array:
        embed(client, one)
        assert embed(client, [one]).cache == "HIT"
        assert embed(client, [one, one]).cache == "HIT"
    assert len(embedder.bodies) == 2


def test_a_text_that_looks_like_tokens_is_none(client, embedder):
    token_array = numbers()
    for value in token_array, json.dumps(token_array, separators=(",", ":")), [str(n) for n in token_array]:
        assert embed(client, value).cache == "MISS"


@pytest.mark.parametrize("one,two", [("a\0b", "a\0c"), ("a", "a\0"), ("e\u0301", "é"), ("a ", "a"), ("", " ")],
                         ids=repr)
def test_texts_that_are_not_quite_the_same(client, embedder, one, two):
    mark = unique()
    embed(client, [mark + one])
    assert embed(client, [mark + two]).cache == "MISS"
    assert embed(client, [mark + two, mark + one]).cache == "HIT"
    assert embedder.bought == [[mark + one], [mark + two]]


def test_order_subset_superset(each, embedder):
    a, b, c, d, x, y = texts(6)
    embed(each, [a, b, c, d])
    for known in [d, b], [c], [d, c, b, a], b:
        assert embed(each, known).cache == "HIT"
    assert len(embedder.bodies) == 1
    partial = embed(each, [x, a, y, c, b])
    assert embedder.bought[1:] == [[x, y]]
    assert partial.headers["Cache-Status"] == "pavise; fwd=partial; stored"
    assert partial.cache == "MISS"
    assert embed(each, [y, d, x]).cache == "HIT"


def test_one_new_text_in_a_batch_buys_one(each, embedder):
    known, fresh = texts(20), unique()
    embed(each, known)
    for place in 0, 10, 20:
        embed(each, known[:place] + [fresh] + known[place:])
        fresh, spent = unique(), fresh
        assert embedder.bought[-1] == [spent]
    assert len(embedder.bodies) == 4


def test_any_batches(client, embedder):
    pool, known = texts(15) + [numbers() for _ in range(15)], set()
    chance = random.Random(1)
    for _ in range(60):
        batch = chance.sample(pool, chance.randint(1, 8))
        fresh = [text for text in batch if str(text) not in known]
        before = len(embedder.bodies)
        answer = embed(client, batch)
        assert answer.cache == ("MISS" if fresh else "HIT")
        assert embedder.bought[before:] == ([fresh] if fresh else [])
        known |= set(map(str, batch))


def test_the_same_text_twice_in_one_batch(each, embedder):
    a, b, c = texts(3)
    embed(each, [a, b, a, a])
    assert embed(each, [b, b, a]).cache == "HIT"
    embed(each, [c, a, c])
    assert set(embedder.bought[-1]) == {c}
    assert embed(each, [c, c]).cache == "HIT"


def test_the_rest_of_the_body_travels_as_it_is(client, provider):
    a, b = texts(2)
    embed(client, [a])
    body = '{"zeta":1.50,"input":["%s",  "%s"],"model":"demo","user":"u","alpha":{"b":[1E2]}}' % (b, a)
    assert client.post(body.replace(b, a), path=EMBEDDINGS).status == 200  # the same question in another order
    assert client.post(body, path=EMBEDDINGS).status == 200
    call = provider.seen[-1]
    assert call.body.decode() == '{"zeta":1.5,"input":["%s"],"model":"demo","user":"u","alpha":{"b":[100]}}' % b
    assert (call.method, call.path) == ("POST", EMBEDDINGS)
    assert call.headers["accept"] == "application/json"


@pytest.mark.parametrize("fields", [{"dimensions": 2}, {"encoding_format": "base64"}, {"encoding_format": "float"},
                                    {"a_field_of_tomorrow": [1]}, {"dimensions": 2, "encoding_format": "base64"}],
                         ids=str)
def test_fields_that_matter(each, embedder, fields):
    text = unique()
    embed(each, text)
    assert embed(each, text, **fields).cache == "MISS"
    assert embed(each, [text], **fields).cache == "HIT"
    assert {name: embedder.bodies[1].get(name) for name in fields} == fields
    assert len(embedder.bodies) == 2


@pytest.mark.parametrize("fields", [{"user": "u"}, {"user": None}, {"metadata": {"a": "b"}}], ids=str)
def test_fields_that_do_not_matter(client, fields):
    text = unique()
    embed(client, text)
    assert embed(client, text, **fields).cache == "HIT"


def test_two_keys_never_share(client, embedder):
    text = unique()
    for key in "alice", "bob":
        assert embed(client.with_key(key), text).cache == "MISS"
        assert embed(client.with_key(key), text).cache == "HIT"
    assert len(embedder.bodies) == 2


def test_two_models_never_share(client, embedder):
    text = unique()
    assert [embed(client, text, model=model).cache for model in ("demo", "free", "demo", "free")] == \
        ["MISS", "MISS", "HIT", "HIT"]


def test_a_model_with_its_cache_off(client, embedder, stack):
    value = texts(2)
    for _ in range(2):
        answer = embed(client, value, model="uncached")
        assert answer.cache == "BYPASS" and answer.headers["Cache-Status"] == "pavise; fwd=bypass"
    assert embedder.bought == [value, value]
    line = stack.log_of(answer)
    assert line["cache"] == "bypass" and line["gen_ai.usage.input_tokens"] == answer.json["usage"]["prompt_tokens"]


def test_an_entry_has_an_end(client, embedder):
    a, b = texts(2)
    embed(client, [a], model="short")
    wait_until(lambda: embed(client, [a], model="short").cache == "MISS")
    embed(client, [a, b], model="short")
    assert b in embedder.bought[-1]


# ── What it costs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_usage_adds_up(each):
    batch = ["one", "two words", "three words here", "a " * 40, "日本語 " * 3]
    batch = [unique(text) for text in batch]
    first = embed(each, batch)
    used = sum(map(tokens, batch))
    assert first.json["usage"] == {"prompt_tokens": used, "total_tokens": used}
    shares = [embed(each, text) for text in batch]
    assert {share.cache for share in shares} == {"HIT"}
    assert sum(share.json["usage"]["total_tokens"] for share in shares) == used
    assert embed(each, batch[::-1]).json["usage"] == first.json["usage"]
    fresh = unique("fresh")
    both = embed(each, [batch[0], fresh, batch[3]])
    expected = shares[0].json["usage"]["total_tokens"] + tokens(fresh) + shares[3].json["usage"]["total_tokens"]
    assert both.json["usage"] == {"prompt_tokens": expected, "total_tokens": expected}


def details(used, **more):
    return {"prompt_tokens": used, "total_tokens": used + 3, "prompt_tokens_details": {
        "cached_tokens": 0, "text_tokens": used, "deeper": {"n": 7}}, "note": "n", "none": None, **more}


def test_whatever_an_answer_says_is_remembered(each, embedder):
    """Counts of a batch are shared among its inputs, to the last, and add up again."""
    said = {"service_tier": "default", "of tomorrow": {"b": [1, None], "a": 1.5}, "nothing": None}
    changed(embedder, lambda value: {**value, "usage": details(value["usage"]["prompt_tokens"]), **said})
    batch = [unique(text) for text in ("one", "two words", "three words here", "a " * 40)]
    miss, hit, turned = embed(each, batch), embed(each, batch), embed(each, batch[::-1])
    assert (miss.cache, hit.cache) == ("MISS", "HIT")
    assert hit.json == miss.json == turned.json | {"data": miss.json["data"]}
    shares = [embed(each, text).json for text in batch]
    assert all({name: share[name] for name in said} == said and share["usage"]["note"] == "n" for share in shares)
    for path in ("prompt_tokens",), ("total_tokens",), ("prompt_tokens_details", "text_tokens"), \
            ("prompt_tokens_details", "deeper", "n"):
        def at(value):
            for name in path:
                value = value[name]
            return value
        assert sum(at(share["usage"]) for share in shares) == at(miss.json["usage"]), path


def test_what_is_put_together_says_what_the_newest_answer_says(each, embedder):
    old, new = texts(2)
    changed(embedder, lambda value: {**value, "usage": {**value["usage"], "n": 1, "old": 5}, "tier": 1, "gone": True})
    embed(each, old)
    changed(embedder, lambda value: {**value, "usage": {**value["usage"], "n": 2, "note": "x"}, "tier": 2, "id": "abc"})
    partial = embed(each, [old, new])
    rest = {name: value for name, value in partial.json.items() if name not in ("object", "data", "model", "usage")}
    assert rest == {"tier": 2, "id": "abc"}
    used = tokens(old) + tokens(new)
    assert partial.json["usage"] == {"prompt_tokens": used, "total_tokens": used, "n": 3, "old": 5, "note": "x"}
    hit = embed(each, [new, old])
    assert hit.cache == "HIT" and hit.json["usage"] == partial.json["usage"]
    assert (hit.json["tier"], "gone" in hit.json) == (2, False)


def test_id_and_created_belong_to_one_answer(client, embedder, stack):
    changed(embedder, lambda value: {**value, "id": "embd-theirs", "created": 1700000000})
    text = unique()
    assert embed(client, text).json["id"] == "embd-theirs"
    hits = [embed(client, text) for _ in range(2)]
    ids = [hit.json["id"] for hit in hits]
    assert len({*ids, "embd-theirs"}) == 3 and all(i.startswith("embd-") for i in ids)
    assert all(hit.json["created"] > 1700000000 for hit in hits)
    assert [stack.log_of(hit)["gen_ai.response.id"] for hit in hits] == ids


@pytest.mark.parametrize("more", [{"long": "x" * 5000}, {"usage": {f"n{i}": i for i in range(1000)}}], ids=["rest", "usage"])
def test_a_long_rest_is_not_remembered(client, embedder, more):
    """Every entry would hold it. The vectors and the tokens are what matters."""
    batch = texts(3)
    changed(embedder, lambda value: {**value, **more, "usage": {**more.get("usage", {}), **value["usage"]}})
    miss, hit = embed(client, batch), embed(client, batch)
    assert hit.cache == "HIT" and set(hit.json) == {"object", "data", "model", "usage"}
    assert hit.json["usage"] == {name: miss.json["usage"][name] for name in ("prompt_tokens", "total_tokens")}


def test_cost_and_saving(each, embedder, stack):
    a, b = unique("some words"), unique("some more words")
    price = Decimal("1.00") / 1000000
    miss, hit = embed(each, a), embed(each, [a])
    assert usd(miss.headers["x-pavise-cost-usd"]) == price * tokens(a)
    assert "x-pavise-saved-usd" not in miss.headers
    assert usd(hit.headers["x-pavise-cost-usd"]) == 0 and usd(hit.headers["x-pavise-saved-usd"]) == price * tokens(a)
    partial = embed(each, [a, b])
    assert usd(partial.headers["x-pavise-cost-usd"]) == price * tokens(b)
    assert usd(partial.headers["x-pavise-saved-usd"]) == price * tokens(a)
    for answer, cost, saved, cache in ((miss, tokens(a), None, "miss"), (hit, 0, tokens(a), "hit"),
                                       (partial, tokens(b), tokens(a), "partial")):
        line = stack.log_of(answer)
        assert line["cache"] == cache and usd(line["cost_usd"]) == price * cost
        assert usd(line["saved_usd"]) == price * saved if saved else "saved_usd" not in line
        assert line["gen_ai.usage.input_tokens"] == answer.json["usage"]["prompt_tokens"]


def test_a_model_without_a_price(client):
    text = unique()
    for answer in embed(client, text, model="free"), embed(client, text, model="free"):
        assert "x-pavise-cost-usd" not in answer.headers or usd(answer.headers["x-pavise-cost-usd"]) == 0
        assert "x-pavise-saved-usd" not in answer.headers


def test_a_call_is_one_request_for_the_limits(client):
    alice = client.with_key("alice")
    left = [int(embed(alice, value).headers["x-ratelimit-remaining-requests"])
            for value in (texts(1), texts(50), texts(2))]
    known = texts(3)
    left += [int(embed(alice, known).headers["x-ratelimit-remaining-requests"]) for _ in range(2)]
    assert left == list(range(left[0], left[0] - 5, -1))


# ── Sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_as_many_as_there_may_be(each, embedder):
    batch = texts(2048)
    assert embed(each, batch).cache == "MISS"
    assert embed(each, batch[::-1]).cache == "HIT"
    batch[1024] = unique("new")
    embed(each, batch)
    assert embedder.bought[1:] == [[batch[1024]]]


def test_one_too_many(each, embedder):
    answer = post(each, ["x"] * 2049)
    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("invalid_value", "input")
    assert "2048" in answer.error["message"] and not embedder.bodies


def test_more_tokens_than_inputs_may_be(client, embedder):
    value = numbers() + list(range(3000))
    assert [embed(client, value).cache, embed(client, [value]).cache] == ["MISS", "HIT"]


def test_large_vectors(each, embedder):
    """Together far more than any socket's buffer."""
    batch = texts(100)
    big = {text: [i / 3 for i in range(3072)] for text in batch}

    def answer(call):
        data = [{"index": i, "embedding": big[text]} for i, text in enumerate(inputs_of(call.json))]
        call.answer({"data": data, "model": "m", "usage": {"prompt_tokens": 100, "total_tokens": 100}})
    embedder.answer = answer
    for expected in "MISS", "HIT":
        result = post(each, batch)
        assert result.cache == expected
        assert [item["embedding"] for item in result.json["data"]] == list(big.values())
    assert len(embedder.bodies) == 1


def test_a_vector_too_large_for_memcached(client, embedder, stack):
    small, large = texts(2)

    def answer(call):
        data = [{"index": i, "embedding": [0.125] * (10 if text == small else 400000)}
                for i, text in enumerate(inputs_of(call.json))]
        call.answer({"data": data, "model": "m"})
    embedder.answer = answer
    first = post(client, [small, large])
    assert first.status == 200 and not stack.log_of(first)["stored"]
    again = post(client, [small, large])
    assert embedder.bought == [[small, large], [large]]
    assert [len(item["embedding"]) for item in again.json["data"]] == [10, 400000]


# ── What a client does wrong ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fields,code,param", [
    ({"input": None}, "missing_required_parameter", "input"), ({"input": 5}, "invalid_type", "input"),
    ({"input": {}}, "invalid_type", "input"), ({"input": True}, "invalid_type", "input"),
    ({"input": []}, "invalid_value", "input"), ({"input": [None]}, "invalid_type", "input[0]"),
    ({"input": [{}]}, "invalid_type", "input[0]"), ({"input": ["a", 1]}, "invalid_type", "input[1]"),
    ({"input": ["a", None]}, "invalid_type", "input[1]"), ({"input": [1, "a"]}, "invalid_type", "input[1]"),
    ({"input": [1, [2]]}, "invalid_type", "input[1]"), ({"input": [1.5]}, "invalid_type", "input[0]"),
    ({"input": [1, 2, 1.5]}, "invalid_type", "input[2]"),
    ({"input": ["x"] * 2000 + [{}]}, "invalid_type", "input[2000]"),
    ({"model": None}, "missing_required_parameter", "model"), ({"model": ["demo"]}, "invalid_type", "model"),
    ({"input": [-1]}, "invalid_value", "input[0]"), ({"input": [1, 2, -3]}, "invalid_value", "input[2]"),
    ({"input": [[1], [2, -3]]}, "invalid_value", "input[1][1]"), ({"input": [[1.5]]}, "invalid_type", "input[0][0]"),
    ({"input": ["a", ["b"]]}, "invalid_type", "input[1][0]"), ({"input": [2 ** 60]}, "invalid_value", "input[0]"),
    ({"encoding_format": "bytes"}, "invalid_value", "encoding_format"),
    ({"dimensions": -1}, "invalid_value", "dimensions"), ({"dimensions": 0}, "invalid_value", "dimensions"), ({"dimensions": "3"}, "invalid_type", "dimensions"),
    ({"dimensions": 1.5}, "invalid_type", "dimensions"), ({"encoding_format": 1}, "invalid_type", "encoding_format"),
    ({"user": 1}, "invalid_type", "user")], ids=lambda v: json.dumps(v)[:40])
def test_wrong_fields(client, embedder, stack, fields, code, param):
    body = {name: value for name, value in {"model": "demo", "input": "x", **fields}.items() if value is not None}
    answer = client.post(body, path=EMBEDDINGS)
    assert answer.status == 400, answer
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert answer.error["type"] == "invalid_request_error" and param in answer.error["message"]
    assert stack.log_of(answer)["error.type"] == "caller_invalid_request" and not embedder.bodies


def test_the_same_refusals_as_for_chats(each, embedder):
    for answer, status, code in (
            (post(each.with_key("nobody"), "x"), 401, "invalid_api_key"),
            (post(each.with_key("limited"), "x"), 403, "model_not_allowed"),
            (post(each, "x", model="nothing"), 404, "model_not_found"),
            (each.get(EMBEDDINGS), 405, "method_not_allowed"),
            (post(each, "x", {"Content-Type": "text/plain"}), 415, "unsupported_media_type"),
            (each.post("{", path=EMBEDDINGS), 400, "invalid_json")):
        assert (answer.status, answer.error["code"]) == (status, code)
    assert not embedder.bodies


# ── What a provider does wrong ────────────────────────────────────────────────────────────────────────────────────────


def changed(embedder, change):
    """From now on the provider's answers are changed by change(answer)."""
    def answer(call):
        value = embedder.of(call.json)
        call.answer(change(value) or value)
    embedder.answer = answer


def honest(embedder):
    embedder.answer = lambda call: call.answer(embedder.of(call.json))


def last(value, **fields):
    value["data"][-1].update(fields)


WRONG = {
    "too few": lambda value: value["data"].pop(),
    "too many": lambda value: value["data"].append(dict(value["data"][0], index=len(value["data"]))),
    "none": lambda value: value["data"].clear(),
    "an index twice": lambda value: last(value, index=0),
    "an index that is none of ours": lambda value: last(value, index=99),
    "a negative index": lambda value: last(value, index=-1),
    "null": lambda value: last(value, embedding=None),
    "a number": lambda value: last(value, embedding=7),
    "an object": lambda value: last(value, embedding={"a": 1}),
    "no embedding": lambda value: value["data"][-1].pop("embedding"),
    "no object": lambda value: value["data"].__setitem__(-1, "x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_does_not_fit_is_passed_on_but_not_stored(client, embedder, stack, name):
    batch, sent = texts(3), []

    def answer(call):
        value = embedder.of(call.json)
        WRONG[name](value)
        sent.append(json.dumps(value).encode())
        call.answer(sent[0])
    embedder.answer = answer
    first = post(client, batch)
    assert first.status == 200 and [first.body] == sent
    assert not stack.log_of(first)["stored"] and "stored" not in first.headers["Cache-Status"]
    honest(embedder)
    assert embed(client, batch).cache == "MISS"
    assert embedder.bought == [batch, batch]


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_does_not_fit_what_is_known(client, embedder, stack, name):
    known, fresh = texts(2), texts(2)
    embed(client, known)
    changed(embedder, lambda value: WRONG[name](value) and None)
    answer = post(client, [fresh[0], *known, fresh[1]])
    assert (answer.status, answer.error["code"]) == (502, "provider_invalid_response")
    assert stack.log_of(answer)["error.type"] == "provider_invalid_response"
    honest(embedder)
    embed(client, [*fresh, *known])
    assert embedder.bought == [known, fresh, fresh]


def test_an_answer_in_another_order(each, embedder):
    batch = texts(5)
    changed(embedder, lambda value: value["data"].reverse())
    first = post(each, batch)
    assert {item["index"]: item["embedding"] for item in first.json["data"]} == dict(enumerate(map(vector, batch)))
    assert embed(each, batch).cache == "HIT"
    fresh = texts(2)
    embed(each, [fresh[0], *batch, fresh[1]])
    assert embedder.bought[-1] == fresh


def test_an_answer_without_indices(client, embedder):
    batch, fresh = texts(3), texts(2)
    changed(embedder, lambda value: [item.pop("index") for item in value["data"]] and None)
    assert post(client, batch).status == 200
    embed(client, [fresh[0], *batch, fresh[1]])
    assert embedder.bought == [batch, fresh]


def test_an_answer_without_usage(client, embedder, stack):
    batch, fresh = texts(2), unique()
    changed(embedder, lambda value: value.pop("usage") and None)
    miss = post(client, batch)
    assert "usage" not in miss.json and stack.log_of(miss)["cost_estimated"] is True
    hit = embed(client, batch)
    assert hit.cache == "HIT" and hit.json["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    partial = embed(client, [*batch, fresh])
    assert stack.log_of(partial)["cost_estimated"] is True


@pytest.mark.parametrize("usage", [None, {}, 7, {"prompt_tokens": -5}, {"prompt_tokens": "7"},
                                   {"prompt_tokens": 2 ** 63 - 1, "total_tokens": 1}], ids=str)
def test_any_usage(client, embedder, usage):
    batch = texts(3)
    changed(embedder, lambda value: {**value, "usage": usage})
    assert post(client, batch).status == 200
    hit = embed(client, batch)
    assert hit.cache == "HIT" and 0 <= hit.json["usage"]["total_tokens"] < 2 ** 63
    partial = embed(client, [unique(), *batch])
    assert 0 <= partial.json["usage"]["total_tokens"] < 2 ** 63


STRANGE = {  # JSON to the client's library, and not to us: a member of the item, as it is sent
    "half a character": r'"extra":"\ud800"', "a name twice": '"extra":1,"extra":2', "no number": '"extra":NaN',
    "a number that nothing holds": '"extra":[-1e999,123456789012345678901234567890]',
}


@pytest.mark.parametrize("name", STRANGE)
def test_an_answer_that_is_hardly_json(client, embedder, stack, name):
    """Passed on to the byte, or put together with what is known; never remembered, and nobody dies of it."""
    known, fresh = texts(2), unique()

    def answer(call):
        call.answer(b'{"data":[{"index":0,%s,"embedding":%s}],"model":"fake-embedder","usage":{"prompt_tokens":3}}'
                    % (STRANGE[name].encode(), json.dumps(vector(fresh)).encode()))
    embed(client, known)
    embedder.answer = answer
    alone = post(client, fresh)
    assert (alone.status, alone.cache) == (200, "MISS") and STRANGE[name].encode() in alone.body
    together = post(client, [known[0], fresh, known[1], fresh])
    assert (together.status, together.cache) == (200, "MISS")
    assert [item["embedding"] for item in together.json["data"]] == list(map(vector, (known[0], fresh, known[1], fresh)))
    assert together.json["usage"]["prompt_tokens"] == sum(map(tokens, known)) + 3
    assert embedder.bought == [known, [fresh], [fresh]] and stack.pavise.deaths() == []
    assert not stack.log_of(together).get("stored")


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999"])
def test_a_vector_with_what_is_no_number(client, embedder, stack, number):
    known, fresh = unique(), unique()
    embed(client, known)
    embedder.answer = lambda call: call.answer(b'{"data":[{"index":0,"embedding":[0.5,%s]}]}' % number)
    assert post(client, fresh).body == b'{"data":[{"index":0,"embedding":[0.5,%s]}]}' % number
    answer = post(client, [known, fresh])
    assert (answer.status, answer.error["code"]) == (502, "provider_invalid_response")
    assert stack.pavise.deaths() == []


def test_nothing_of_an_error_is_stored(each, embedder, stack):
    known, fresh = texts(2), texts(2)
    embed(each, known)
    for script, status, code in (
            (lambda call: call.error(429, "slow down", {"Retry-After": "7"}), 429, "fake_code"),
            (lambda call: call.error(500), 500, "fake_code"),
            (lambda call: call.error(200), 502, "fake_code"),
            (lambda call: call.answer(b"<html>", 503), 503, "provider_error"),
            (lambda call: call.answer(b"<html>"), 502, "provider_invalid_response"),
            (lambda call: call.answer({"object": "list"}), 502, "provider_invalid_response"),
            (lambda call: call.reset(), 502, "provider_connection_broken")):
        embedder.answer = script
        for batch in fresh, [fresh[0], *known, fresh[1]]:
            answer = post(each, batch)
            assert (answer.status, answer.error["code"]) == (status, code), answer
            assert not stack.log_of(answer).get("stored")
        if status == 429:
            assert answer.headers["Retry-After"] == "7"
        assert embed(each, known).cache == "HIT"
    honest(embedder)
    assert embed(each, fresh).cache == "MISS"


# ── Without memcached ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_memcached(start):
    stack = start(memcached=False)
    embedder = stack.provider.scripts[None] = Embedder()
    batch = texts(3)
    for _ in range(2):
        answer = embed(stack.client, batch)
        assert answer.cache == "MISS" and not stack.log_of(answer)["stored"]
    assert embedder.bought == [batch, batch]


def test_a_memcached_that_dies_and_comes_back(start):
    stack = start({"memcached": {"timeout": "100ms"}}, memcached=None)
    embedder = stack.provider.scripts[None] = Embedder()
    known, fresh = texts(2), unique()
    embed(stack.client, known)
    stack.memcached.stop()
    try:
        assert stack.log_of(embed(stack.client, [*known, fresh]))["store_down"]
        assert embedder.bought[-1] == [*known, fresh]
    finally:
        stack.memcached.cont()
    wait_until(lambda: embed(stack.client, known).cache == "HIT")


def test_equal_texts_of_one_batch_are_bought_once(each, embedder):
    one, other = texts(2)
    answer = embed(each, [one, one, other, one])
    assert embedder.bought == [[one, other]]
    assert answer.json["usage"]["total_tokens"] == tokens(one) + tokens(other)
    assert embed(each, [other, one]).cache == "HIT"


def test_equal_texts_of_one_batch_are_counted_once(each, embedder, stack):
    """A hit uses, and saves, what the miss has used."""
    one, other, more = texts(3)
    miss, hit = embed(each, [one, one, other]), embed(each, [one, one, other])
    assert (miss.cache, hit.cache) == ("MISS", "HIT") and miss.json == hit.json
    assert miss.json["usage"]["prompt_tokens"] == tokens(one) + tokens(other)
    assert hit.headers["x-pavise-saved-usd"] == miss.headers["x-pavise-cost-usd"]
    assert stack.log_of(hit)["saved_usd"] == stack.log_of(miss)["cost_usd"]
    partial = embed(each, [more, one, one, more])
    assert embedder.bought[-1] == [more] and partial.json["usage"]["total_tokens"] == tokens(one) + tokens(more)
    assert [v["embedding"] for v in partial.json["data"]] == [vector(text) for text in (more, one, one, more)]


def test_what_else_an_item_says_is_remembered_with_it(client, embedder):
    def script(call):
        whole = embedder.of(call.json)
        for item in whole["data"]:
            item["extra"] = {"of": item["index"]}
        call.answer(whole)
    embedder.answer = script
    batch = texts(2)
    miss = embed(client, batch)
    assert embed(client, batch).json["data"] == miss.json["data"]


@pytest.mark.parametrize("bad", [[], "", ["a", None], [None, "a"], [[1]], 7, {"a": 1}], ids=str)
def test_a_vector_that_is_none_is_not_remembered(client, embedder, bad):
    def script(call):
        call.answer({**embedder.of(call.json), "data": [{"object": "embedding", "index": 0, "embedding": bad}]})
    embedder.answer = script
    text = unique()
    assert [post(client, text).headers["X-Cache"] for _ in range(2)] == ["MISS", "MISS"]


def test_a_batch_of_many_megabytes_is_no_outage(client, embedder, stack):
    """2,048 vectors of 16 kB, 33 MB in one batch from memcached: slow, but an answer; the limits hold meanwhile."""
    def script(call):
        call.answer({"object": "list", "model": "fake-embedder", "usage": {"prompt_tokens": 2048, "total_tokens": 2048},
                     "data": [{"object": "embedding", "index": i, "embedding": "A" * 16384}
                              for i in range(len(inputs_of(call.json)))]})
    embedder.answer = script
    batch = texts(2048)
    downs = lambda: len(stack.pavise.log.find(lambda line: line["event"] == "memcached_down"))  # noqa: E731
    before = downs()
    answers = [post(client, batch, encoding_format="base64") for _ in range(2)]
    assert [a.status for a in answers] == [200, 200] and len(answers[1].json["data"]) == 2048
    assert len(embedder.bought) < 2 or len(embedder.bought[1]) < 2048  # remembered, as far as memcached keeps it
    assert downs() == before
