"""The legacy /v1/completions: counted, logged and remembered as chats are, in both forms."""

import json
import re

import pytest

from client import ask, unique
from provider import USAGE

COMPLETIONS = "/v1/completions"
CONFIG = {
    "models": {"renamed": {"provider": "fake", "model": "vendor/real-name"}, "bare": {"provider": "bare"}},
    "providers": {"bare": {"base_url": "http://127.0.0.1:${FAKE_PORT}/v1", "stream_options": False}},
    "limits": [{"name": "rpm", "count": "requests", "per": ["key"], "amount": 100000, "window": "1d"}],
}


def choice(text="", finish=None, index=0, logprobs=None):
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


def whole(*choices, **fields):
    """A completion as OpenAI sends it."""
    return {"id": "cmpl-upstream", "object": "text_completion", "created": 1700000000, "model": "fake-1",
            "system_fingerprint": "fp_fake", "choices": list(choices or [choice("It is fine.", "stop")]),
            "usage": USAGE, **fields}


def piece(text="", finish=None, index=0, logprobs=None, **fields):
    """One chunk of a stream."""
    return {"id": "cmpl-upstream", "object": "text_completion", "created": 1700000000, "model": "fake-1",
            "system_fingerprint": "fp_fake", "choices": [choice(text, finish, index, logprobs)], **fields}


def streams(*events, done=True):
    """A script: a stream of these chunks, and the usage at its end if somebody asked."""
    def script(call):
        asked = call.json.get("stream_options", {}).get("include_usage")
        call.stream_head()
        for event in events:
            call.event({**event, "usage": None} if asked else event)
        if asked:
            call.event({**piece(), "choices": [], "usage": USAGE})
        call.end_stream(done)
    return script


def plain(call):
    if call.json.get("stream"):
        streams(piece("It "), piece("is "), piece("fine."), piece("", "stop"))(call)
    else:
        call.answer(whole())


@pytest.fixture(autouse=True)
def calls(provider):
    """What the provider is asked; .script writes its answers. Whatever is no chat has no prompt."""
    class Calls(list):
        script = staticmethod(plain)
    seen = Calls()

    def record(call):
        seen.append(call)
        seen.script(call)
    provider.scripts[None] = record
    return seen


def post(client, prompt, headers=None, **fields):
    return client.post({"model": "demo", "prompt": prompt, **fields}, headers, COMPLETIONS)


def complete(client, prompt, headers=None, **fields):
    answer = post(client, prompt, headers, **fields)
    assert answer.status == 200, answer
    return answer


def pieces(answer, index=0):
    """The boundaries at which one choice came."""
    return [c["text"] for e in answer.events[:-1] for c in e["choices"] if c["index"] == index and c["text"]]


def lasting(value):
    return {name: member for name, member in value.items() if name not in ("id", "created")}


# ── One entry, both forms ─────────────────────────────────────────────────────────────────────────────────────────────


def test_json_miss_then_hit(each, calls, stack):
    prompt = unique()
    miss, hit = complete(each, prompt), complete(each, prompt)
    assert (miss.cache, hit.cache) == ("MISS", "HIT") and len(calls) == 1
    assert miss.json == whole() and lasting(hit.json) == lasting(miss.json)
    assert re.fullmatch(r"cmpl-[0-9a-f]{24}", hit.json["id"])
    assert (calls[0].method, calls[0].path) == ("POST", COMPLETIONS)
    assert calls[0].json == {"model": "demo", "prompt": prompt}
    for answer, cache in (miss, "miss"), (hit, "hit"):
        line = stack.log_of(answer)
        assert (line["gen_ai.operation.name"], line["cache"]) == ("text_completion", cache)
        assert (line["gen_ai.usage.input_tokens"], line["gen_ai.usage.output_tokens"]) == (11, 7)
        assert line["gen_ai.response.finish_reasons"] == "stop"
    assert float(hit.headers["x-pavise-saved-usd"]) == float(miss.headers["x-pavise-cost-usd"]) > 0


def test_a_miss_is_passed_on_to_the_byte(each, calls):
    strange = b'{ "choices":[{"index":0,"text":"\\u00e9\xc3\xa9 1.0", "finish_reason":"stop","x":1.50}],\n "y":1 }'
    calls.script = lambda call: call.answer(strange)
    assert complete(each, unique()).body == strange


def test_a_stream_keeps_its_boundaries(each, calls):
    texts = ["Der ", "Schild", " des ", "Armbrust", "schützen ", "🛡", "\n\n", "data: x", " "]
    calls.script = streams(*[piece(text) for text in texts], piece("", "stop"))
    prompt = unique()
    miss, hit = complete(each, prompt, stream=True), complete(each, prompt, stream=True)
    assert (miss.cache, hit.cache) == ("MISS", "HIT") and len(calls) == 1
    for answer in miss, hit:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert pieces(answer) == texts and answer.events[-1] == "[DONE]"
        assert {event["object"] for event in answer.events[:-1]} == {"text_completion"}
        assert [c["finish_reason"] for e in answer.events[:-1] for c in e["choices"] if c["finish_reason"]] == ["stop"]
        assert not any("usage" in event for event in answer.events[:-1])
    assert len({event["id"] for event in hit.events[:-1]}) == 1 and hit.events[0]["id"].startswith("cmpl-")


def test_a_stream_becomes_json(each, calls):
    prompt = unique()
    complete(each, prompt, stream=True)
    hit = complete(each, prompt)
    assert hit.cache == "HIT" and len(calls) == 1
    assert lasting(hit.json) == lasting(whole())


def test_json_becomes_a_stream(each, calls):
    prompt = unique()
    complete(each, prompt)
    hit = complete(each, prompt, stream=True, stream_options={"include_usage": True})
    assert hit.cache == "HIT" and len(calls) == 1
    assert "".join(pieces(hit)) == "It is fine." and hit.events[-1] == "[DONE]"
    assert [e["usage"] for e in hit.events[:-1]][-1] == USAGE and hit.events[-2]["choices"] == []
    assert all(e["usage"] is None for e in hit.events[:-2])


def test_json_for_a_stream_request(each, calls):
    calls.script = lambda call: call.answer(whole())
    prompt = unique()
    for expected in "MISS", "HIT":
        answer = complete(each, prompt, stream=True)
        assert answer.cache == expected and "".join(pieces(answer)) == "It is fine." and answer.events[-1] == "[DONE]"


def test_the_usage_chunk_is_seen_exactly_when_it_was_asked_for(each, calls):
    prompt = unique()
    assert not any("usage" in e for e in complete(each, prompt, stream=True).events[:-1])
    assert calls[0].json["stream_options"] == {"include_usage": True}
    for prompt in prompt, unique():
        asked = complete(each, prompt, stream=True, stream_options={"include_usage": True})
        assert asked.events[-2]["usage"] == USAGE and asked.events[-2]["choices"] == []
        assert [e["usage"] for e in asked.events[:-2]] == [None] * len(asked.events[:-2])


def test_a_provider_without_stream_options(client, calls):
    prompt = unique()
    assert pieces(complete(client, prompt, model="bare", stream=True)) == ["It ", "is ", "fine."]
    assert "stream_options" not in calls[0].json
    assert complete(client, prompt, model="bare").cache == "HIT"


def test_a_choice_that_never_came(client, calls):
    """Of two prompts; and the provider does not say [DONE]."""
    calls.script = streams(piece("a0"), piece("", "stop"), done=False)
    answer = complete(client, ["a", unique()], stream=True)
    assert answer.events[-1]["error"]["code"] == "provider_connection_broken"
    assert complete(client, unique(), stream=True).events[-1] == "[DONE]"  # the same of one prompt is whole


def test_several_choices(each, calls):
    calls.script = streams(piece("b0", index=1), piece("a0"), piece("b1", index=1), piece("a1"),
                           piece("", "length", index=1), piece("", "stop"))
    prompt = unique()
    first, again = (complete(each, prompt, stream=True, n=2) for _ in range(2))
    for answer in first, again:
        assert (pieces(answer, 0), pieces(answer, 1)) == (["a0", "a1"], ["b0", "b1"])
    hit = complete(each, prompt, n=2)
    assert hit.cache == "HIT" and len(calls) == 1
    assert [(c["index"], c["text"], c["finish_reason"]) for c in hit.json["choices"]] == \
        [(0, "a0a1", "stop"), (1, "b0b1", "length")]
    calls.script = plain
    assert complete(each, prompt).cache == "MISS"  # n is part of the question


def logprobs(tokens, offset):
    """In the legacy form: arrays side by side."""
    return {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens),
            "top_logprobs": [{token: -0.5, "other": -1.25} for token in tokens],
            "text_offset": [offset + i for i in range(len(tokens))]}


def joined(*parts):
    return {name: sum((part[name] for part in parts), []) for name in parts[0]}


def test_logprobs(each, calls):
    parts = logprobs(["It", " is"], 0), logprobs([" fine"], 5), logprobs(["."], 10)
    texts = ["It is", " fine", "."]
    calls.script = streams(*[piece(text, logprobs=part) for text, part in zip(texts, parts)], piece("", "stop"))
    prompt = unique()
    first, again = (complete(each, prompt, stream=True, logprobs=2) for _ in range(2))
    for answer in first, again:
        assert pieces(answer) == texts
        seen = [c["logprobs"] for e in answer.events[:-1] for c in e["choices"] if c["logprobs"]]
        assert joined(*seen) == joined(*parts)
    hit = complete(each, prompt, logprobs=2)
    assert hit.cache == "HIT" and hit.json["choices"][0]["logprobs"] == joined(*parts)
    calls.script = lambda call: call.answer(whole(choice("It is fine.", "stop", logprobs=joined(*parts))))
    prompt = unique()
    miss = complete(each, prompt, logprobs=2)
    stream = complete(each, prompt, stream=True, logprobs=2)
    seen = [c["logprobs"] for e in stream.events[:-1] for c in e["choices"] if c["logprobs"]]
    assert stream.cache == "HIT" and joined(*seen) == miss.json["choices"][0]["logprobs"]


@pytest.mark.parametrize("text", ["", "\n", "a\0b", "\u2028 🛡 \u200d", '"}]}'], ids=repr)
def test_any_text(client, calls, text):
    calls.script = lambda call: call.answer(whole(choice(text, "stop")))
    prompt = unique()
    complete(client, prompt)
    assert complete(client, prompt).json["choices"][0]["text"] == text
    assert "".join(pieces(complete(client, prompt, stream=True))) == text
    assert len(calls) == 1


# ── What is asked ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prompt", [
    lambda: unique("ü 🛡 \0 \\ \""), lambda: [unique(), "b"], lambda: [1, 2, 3, abs(hash(unique())) % 10 ** 9],
    lambda: [[1, abs(hash(unique())) % 10 ** 9], [2, 3]], lambda: ["", unique()]], ids=["string", "strings", "tokens", "token arrays",
                                                                        "an empty one"])
def test_every_kind_of_prompt(each, calls, prompt):
    value = prompt()
    assert [complete(each, value).cache for _ in range(2)] == ["MISS", "HIT"]
    assert calls[0].json["prompt"] == value
    if len(value) > 1 and isinstance(value, list):
        assert complete(each, value[::-1]).cache == "MISS"  # which answer belongs to which matters


FIELDS = {"suffix": " and so on", "echo": True, "best_of": 2, "logprobs": 0, "max_tokens": 0, "temperature": 0.5,
          "top_p": 1, "n": 1, "stop": ["\n", "🛡"], "presence_penalty": -2, "frequency_penalty": 2,
          "logit_bias": {"50256": -100}, "seed": -1, "a_field_of_tomorrow": {"b": [1, None]}}


def test_every_field_travels_in_its_order(client, calls):
    prompt = unique()
    body = {"user": "u", **FIELDS, "prompt": prompt, "model": "renamed"}
    assert client.post(body, path=COMPLETIONS).status == 200
    assert calls[0].body.decode() == json.dumps({**body, "model": "vendor/real-name"}, ensure_ascii=False,
                                                separators=(",", ":"))


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_matters(client, calls, name):
    prompt = unique()
    complete(client, prompt)
    assert complete(client, prompt, **{name: FIELDS[name]}).cache == "MISS"
    assert calls[1].json[name] == FIELDS[name]


@pytest.mark.parametrize("fields", [{"user": "u"}, {"stream": False}, {"metadata": {"a": "b"}}], ids=str)
def test_fields_that_do_not_matter(client, fields):
    prompt = unique()
    complete(client, prompt)
    assert complete(client, prompt, **fields).cache == "HIT"


def test_a_chat_is_another_question(client):
    """Whatever else is the same."""
    prompt = unique()
    body = {**ask(prompt), "prompt": prompt}
    assert client.post(body).status == 200
    answer = client.post(body, path=COMPLETIONS)
    assert answer.cache == "MISS" and answer.json["object"] in ("text_completion", "chat.completion")


def test_two_keys_never_share(client):
    prompt = unique()
    caches = [complete(client.with_key(key), prompt).cache for key in ("alice", "bob", "alice")]
    assert caches == ["MISS", "MISS", "HIT"]


@pytest.mark.parametrize("fields,code,param", [
    ({"prompt": None}, "missing_required_parameter", "prompt"), ({"prompt": 5}, "invalid_type", "prompt"),
    ({"prompt": {}}, "invalid_type", "prompt"), ({"prompt": []}, "invalid_value", "prompt"),
    ({"prompt": [{}]}, "invalid_type", "prompt[0]"), ({"prompt": [1.5]}, "invalid_type", "prompt[0]"),
    ({"prompt": ["a", 1]}, "invalid_type", "prompt[1]"), ({"prompt": [1, "a"]}, "invalid_type", "prompt[1]"),
    ({"prompt": [[1], "a"]}, "invalid_type", "prompt[1]"), ({"model": None}, "missing_required_parameter", "model"),
    ({"prompt": [-1]}, "invalid_value", "prompt[0]"), ({"prompt": [[1], []]}, "invalid_value", "prompt[1]"),
    ({"prompt": [[1], [1, "a"]]}, "invalid_type", "prompt[1][1]"),
    ({"prompt": [[1, -2]]}, "invalid_value", "prompt[0][1]"), ({"prompt": [None]}, "invalid_type", "prompt[0]"),
    ({"best_of": 1, "n": 2}, "invalid_value", "best_of"), ({"best_of": 0}, "invalid_value", "best_of"),
    ({"best_of": "2"}, "invalid_type", "best_of"), ({"logprobs": -1}, "invalid_value", "logprobs"),
    ({"logit_bias": {"1": 101}}, "invalid_value", "logit_bias.1"), ({"seed": "1"}, "invalid_type", "seed"),
    ({"suffix": 1}, "invalid_type", "suffix"), ({"echo": "yes"}, "invalid_type", "echo"),
    ({"best_of": -1}, "invalid_value", "best_of"), ({"logprobs": True}, "invalid_type", "logprobs"),
    ({"max_tokens": -2}, "invalid_value", "max_tokens"),
    ({"n": 0}, "invalid_value", "n"), ({"temperature": -1}, "invalid_value", "temperature"),
    ({"stop": ["a", 1]}, "invalid_type", "stop[1]"), ({"stream": 1}, "invalid_type", "stream"),
    ({"stream_options": {}}, "invalid_value", "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "invalid_type", "stream_options.include_usage")],
    ids=lambda v: json.dumps(v)[:40])
def test_wrong_fields(client, calls, stack, fields, code, param):
    body = {name: value for name, value in {"model": "demo", "prompt": "x", **fields}.items() if value is not None}
    answer = client.post(body, path=COMPLETIONS)
    assert answer.status == 400, answer
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert param in answer.error["message"] and not calls
    assert stack.log_of(answer)["error.type"] == "caller_invalid_request"


# ── What a provider does wrong ────────────────────────────────────────────────────────────────────────────────────────


def incomplete(*choices):
    return lambda call: call.answer(whole(*choices))


@pytest.mark.parametrize("script", [incomplete(choice("cut")), incomplete({"index": 0, "finish_reason": "stop"}),
                                    incomplete(choice("a", "stop"), choice("cut", index=1)),
                                    lambda call: call.answer(whole(choices=[]))],
                         ids=["unfinished", "no text", "one unfinished", "none"])
def test_an_incomplete_answer_is_passed_on_but_not_stored(client, calls, stack, script):
    calls.script, prompt = script, unique()
    answer = complete(client, prompt)
    assert not stack.log_of(answer)["stored"]
    calls.script = plain
    assert complete(client, prompt).cache == "MISS"


def test_errors_keep_their_shape(each, calls):
    prompt = unique()
    for stream in False, True:
        calls.script = lambda call: call.error(429, "slow down", {"Retry-After": "7"})
        answer = post(each, prompt, stream=stream)
        assert (answer.status, answer.error["message"], answer.headers["Retry-After"]) == (429, "slow down", "7")
        calls.script = lambda call: call.answer(b"<html>")
        answer = post(each, prompt, stream=stream)
        assert (answer.status, answer.error["code"]) == (502, "provider_invalid_response")
    calls.script = plain
    assert complete(each, prompt).cache == "MISS"


def test_a_stream_that_breaks(each, calls, stack):
    def script(call):
        call.stream_head()
        call.event(piece("a"))
        call.event(piece("b"))
        call.close()
    calls.script, prompt = script, unique()
    answer = complete(each, prompt, stream=True)
    *events, last = answer.events
    assert [e["choices"][0]["text"] for e in events] == ["a", "b"]
    assert last["error"]["code"] == "provider_connection_broken"
    assert not stack.log_of(answer)["stored"]
    calls.script = plain
    assert complete(each, prompt).cache == "MISS"


def test_the_same_refusals_as_for_chats(each, calls):
    for answer, status, code in (
            (post(each.with_key("nobody"), "x"), 401, "invalid_api_key"),
            (post(each.with_key("limited"), "x"), 403, "model_not_allowed"),
            (post(each, "x", model="nothing"), 404, "model_not_found"),
            (each.get(COMPLETIONS), 405, "method_not_allowed")):
        assert (answer.status, answer.error["code"]) == (status, code)
    assert not calls


def test_it_is_counted(client):
    alice, prompt = client.with_key("alice"), unique()
    left = [int(complete(alice, prompt).headers["x-ratelimit-remaining-requests"]) for _ in range(3)]
    assert left == [left[0], left[0] - 1, left[0] - 2]
