"""The main path: what is asked reaches the provider, what it said comes back, and the next one costs nothing."""

import json
import re
import time

import pytest

from client import CHAT, ask, unique
from provider import USAGE, chunk, completion, usage_chunk

CONFIG = {
    "models": {
        "renamed": {"provider": "fake", "model": "vendor/real-name"},
        "uncached": {"provider": "fake", "cache": {"off": True}},
        "switched-off": {"provider": "unset"},
    },
    "providers": {"fake": {"api_key": "${FAKE_KEY}"},
                  "unset": {"base_url": "http://127.0.0.1:9", "api_key": "${NOT_SET}"}},
    "limits": [{"name": "rpm", "count": "requests", "per": ["key"], "amount": 100000, "window": "1d"}],
}
STACK = {"env": {"FAKE_KEY": "sk-secret-of-the-provider"}}

CALLS = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bruges"}'}},
         {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]


def contents(events):
    """The pieces in which a stream's text came."""
    return [c["delta"]["content"] for e in events if e != "[DONE]" for c in e["choices"] if c["delta"].get("content")]


def tool_calls(events):
    """The tool calls that a client makes of a stream."""
    calls = {}
    for event in events[:-1]:
        for choice in event["choices"]:
            for part in choice["delta"].get("tool_calls") or []:
                call = calls.setdefault(part["index"], {"function": {"name": "", "arguments": ""}})
                call.update({k: part[k] for k in ("id", "type") if k in part})
                for name, text in part.get("function", {}).items():
                    call["function"][name] += text
    return [calls[i] for i in sorted(calls)]


def usage(events):
    return [e["usage"] for e in events[:-1] if e.get("usage")]


# ── One entry, both forms ─────────────────────────────────────────────────────────────────────────────────────────────


def test_json_miss_then_hit(each, provider, stack):
    prompt = unique()
    miss, hit = each.chat(prompt), each.chat(prompt)
    assert provider.calls(prompt) == 1
    assert (miss.cache, hit.cache) == ("MISS", "HIT")
    assert miss.json == completion("It is fine.")
    assert {**hit.json, "id": 0, "created": 0} == {**miss.json, "id": 0, "created": 0}
    assert hit.json["id"] not in (miss.json["id"], each.chat(prompt).json["id"])
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{24}", hit.json["id"]) and abs(hit.json["created"] - time.time()) < 60


def test_a_miss_is_passed_on_to_the_byte(each, provider):
    strange = b'{ "choices":[{"index":0,"message":{"role":"assistant","content":"\\u00e9\xc3\xa9 1.0"},' \
              b'"finish_reason":"stop", "x":1.50}],\n "created":1 }'
    prompt = provider.on(lambda call: call.answer(strange))
    assert each.chat(prompt).body == strange


def test_stream_miss_then_hit_keeps_the_boundaries(each, provider):
    pieces = ["Der ", "Schild", " des ", "Armbrust", "schützen ", "🛡", "\n\n", "data: x", " "]
    prompt = provider.on(lambda call: call.stream(pieces))
    miss, hit = each.chat(prompt, stream=True), each.chat(prompt, stream=True)
    assert provider.calls(prompt) == 1 and (miss.cache, hit.cache) == ("MISS", "HIT")
    for answer in miss, hit:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert contents(answer.events) == pieces
        assert answer.events[-1] == "[DONE]"
        assert len({e["id"] for e in answer.events[:-1]}) == 1
        assert not any("usage" in e for e in answer.events[:-1])
    strip = [[{**e, "id": 0, "created": 0} for e in answer.events[:-1]] for answer in (miss, hit)]
    assert strip[0] == strip[1]
    assert hit.events[0]["id"] != miss.events[0]["id"] and abs(hit.events[0]["created"] - time.time()) < 60


def test_stream_from_an_answer_that_came_as_json(each, provider):
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": CALLS}
    body = completion(choices=[{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}])
    prompt = provider.on(lambda call: call.answer(body))
    whole = each.chat(prompt)
    stream = each.chat(prompt, stream=True, stream_options={"include_usage": True})
    assert provider.calls(prompt) == 1 and stream.cache == "HIT"
    assert tool_calls(stream.events) == CALLS == whole.json["choices"][0]["message"]["tool_calls"]
    assert usage(stream.events) == [USAGE]
    reasons = [c["finish_reason"] for e in stream.events[:-1] for c in e["choices"]]
    assert [reason for reason in reasons if reason] == ["tool_calls"]
    assert all(e["object"] == "chat.completion.chunk" for e in stream.events[:-1])
    assert stream.events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert stream.events[0]["service_tier"] == "default"


def test_json_from_an_answer_that_came_as_a_stream(each, provider):
    def script(call):
        call.stream_head()
        call.event(chunk(delta={"role": "assistant", "content": None}))
        for i, c in enumerate(CALLS):
            call.event(chunk(delta={"tool_calls": [{"index": i, "id": c["id"], "type": "function",
                                                    "function": {"name": c["function"]["name"], "arguments": ""}}]}))
            for letter in c["function"]["arguments"]:
                call.event(chunk(delta={"tool_calls": [{"index": i, "function": {"arguments": letter}}]}))
        call.event(chunk(finish="tool_calls"))
        call.event(usage_chunk())
        call.end_stream()
    prompt = provider.on(script)
    stream = each.chat(prompt, stream=True)
    again = each.chat(prompt, stream=True, stream_options={"include_usage": True})
    whole = each.chat(prompt)
    assert provider.calls(prompt) == 1 and whole.cache == again.cache == "HIT"
    assert tool_calls(stream.events) == tool_calls(again.events) == CALLS
    assert [e["choices"] for e in again.events[:-1] if e["choices"]] == [e["choices"] for e in stream.events[:-1]]
    [choice] = whole.json["choices"]
    assert choice["message"] == {"role": "assistant", "content": None, "tool_calls": CALLS}
    assert choice["finish_reason"] == "tool_calls"
    assert (whole.json["object"], whole.json["model"]) == ("chat.completion", "fake-1")
    assert whole.json["usage"] == USAGE


def test_several_choices_and_logprobs_survive(client, provider):
    logprobs = [{"content": [{"token": t, "logprob": -0.5, "bytes": [66], "top_logprobs": []}]} for t in ("a", "b")]

    def script(call):
        call.stream_head()
        for i in 1, 0:
            call.event({**chunk(), "choices": [{"index": i, "delta": {"role": "assistant", "content": ""},
                                                "finish_reason": None}]})
        for text, probs in zip("ab", logprobs):
            for i in 0, 1:
                call.event({**chunk(), "choices": [{"index": i, "delta": {"content": f"{text}{i}"}, "logprobs": probs,
                                                    "finish_reason": None}]})
        for i, reason in (1, "length"), (0, "stop"):
            call.event({**chunk(), "choices": [{"index": i, "delta": {}, "finish_reason": reason}]})
        call.end_stream()
    prompt = provider.on(script)
    first = client.chat(prompt, stream=True, n=2, logprobs=True)
    again = client.chat(prompt, stream=True, n=2, logprobs=True)
    whole = client.chat(prompt, n=2, logprobs=True)
    assert provider.calls(prompt) == 1
    assert contents(again.events) == contents(first.events) == ["a0", "a1", "b0", "b1"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in whole.json["choices"]] == \
        [(0, "a0b0", "stop"), (1, "a1b1", "length")]
    for choice in whole.json["choices"]:
        assert choice["logprobs"]["content"] == [p["content"][0] for p in logprobs]


def test_the_usage_chunk_is_seen_exactly_when_it_was_asked_for(each, provider):
    prompt = unique()
    first = each.chat(prompt, stream=True, stream_options={"include_usage": False})
    assert json.loads(provider.requests(prompt)[0].body)["stream_options"] == {"include_usage": True}
    assert not any("usage" in e for e in first.events[:-1])
    asked = each.chat(prompt, stream=True, stream_options={"include_usage": True})
    assert asked.cache == "HIT" and asked.events[-2]["usage"] == USAGE and asked.events[-2]["choices"] == []
    assert all(e["usage"] is None for e in asked.events[:-2])
    fresh = each.chat(unique(), stream=True, stream_options={"include_usage": True})
    assert fresh.cache == "MISS" and fresh.events[-2]["usage"] == USAGE
    assert all(e["usage"] is None for e in fresh.events[:-2])


# ── What is hashed is what is sent ────────────────────────────────────────────────────────────────────────────────────


def same(client, provider, prompt, *bodies):
    """Whether all these bodies are one question."""
    for body in bodies:
        answer = client.post(body)
        assert answer.status == 200, answer
    return provider.calls(prompt) == 1


SPELLINGS = [
    '{"model":"demo","messages":[{"role":"user","content":"%s"}],"temperature":0.5,"seed":10}',
    ' { "seed" : 10 ,\n\t"temperature" : 5e-1, "messages" : [ { "content" : "%s" , "role" : "user" } ] ,\r\n'
    ' "model" : "demo" } ',
    '{"model":"de\\u006do","messages":[{"role":"\\u0075ser","content":"%s"}],"temperature":0.50000,"seed":10}',
]


@pytest.mark.parametrize("spelling", SPELLINGS[1:])
def test_another_spelling_is_the_same_question(client, provider, spelling):
    prompt = unique("é")
    assert same(client, provider, prompt, SPELLINGS[0] % prompt, spelling % prompt.replace("é", "\\u00e9"))


@pytest.mark.parametrize("fields", [
    {"stream": True}, {"user": "u1"}, {"metadata": {"a": "b"}}, {"safety_identifier": "s"},
    {"stream": True, "stream_options": {"include_usage": True}}, {"user": None},
], ids=str)
def test_fields_that_cannot_change_the_answer_do_not_matter(client, provider, fields):
    prompt = unique()
    assert same(client, provider, prompt, ask(prompt), ask(prompt, **fields))


@pytest.mark.parametrize("fields", [
    {"temperature": 0.1}, {"seed": 1}, {"a_field_of_tomorrow": {"b": [1]}}, {"max_tokens": 9}, {"stop": ["x"]},
    {"prompt_cache_key": "k"}, {"tools": [{"type": "function", "function": {"name": "f"}}]},
], ids=str)
def test_every_other_field_matters(client, provider, fields):
    prompt = unique()
    assert not same(client, provider, prompt, ask(prompt), ask(prompt, **fields))
    assert {k: v for k, v in provider.requests(prompt)[-1].json.items() if k in fields} == fields


def tool(properties, wrapper_first=True):
    function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    parts = [("type", "function"), ("function", function)]
    return {"tools": [dict(parts if wrapper_first else parts[::-1])]}


def test_the_order_of_a_schemas_properties_matters(client, provider):
    one, two = {"a": {"type": "string"}, "b": {"type": "string"}}, {"b": {"type": "string"}, "a": {"type": "string"}}
    prompt = unique()
    assert not same(client, provider, prompt, ask(prompt, **tool(one)), ask(prompt, **tool(two)))
    sent = provider.requests(prompt)[-1].json["tools"][0]["function"]["parameters"]["properties"]
    assert list(sent) == ["b", "a"]


def test_the_order_of_known_wrappers_does_not_matter(client, provider):
    prompt = unique()
    assert same(client, provider, prompt, ask(prompt, **tool({})), ask(prompt, **tool({}, wrapper_first=False)))


def test_the_provider_gets_the_body_with_named_edits_only(client, provider, stack):
    prompt = unique()
    body = '{"zeta": 1, "messages":[{"content":"%s","role":"user","x":null}],  "model":"renamed", "stream":true, ' \
           '"alpha":{"b":1.0,"a":[1E2,-0,0.1e1]},"big":12345678901234567890,"user":"u","metadata":{"m":"1"}}' % prompt
    assert client.post(body).status == 200
    [call] = provider.requests(prompt)
    assert call.body.decode() == '{"zeta":1,"messages":[{"content":"%s","role":"user","x":null}],' \
        '"model":"vendor/real-name","stream":true,"alpha":{"b":1,"a":[100,0,1]},"big":12345678901234567890,' \
        '"user":"u","metadata":{"m":"1"},"stream_options":{"include_usage":true}}' % prompt
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.headers["content-type"] == "application/json" and call.headers["accept"] == "text/event-stream"
    assert call.headers["authorization"] == "Bearer sk-secret-of-the-provider"
    assert set(call.headers) == {"host", "content-type", "accept", "accept-encoding", "user-agent", "traceparent",
                                 "authorization", "content-length"}
    assert call.headers["accept-encoding"] == "identity"  # compressing would hold events back


def test_a_json_request_is_sent_as_one(client, provider):
    prompt = unique()
    client.chat(prompt)
    [call] = provider.requests(prompt)
    assert call.body.decode() == '{"model":"demo","messages":[{"role":"user","content":"%s"}]}' % prompt
    assert call.headers["accept"] == "application/json" and "expect" not in call.headers


def test_two_names_of_models_do_not_share(client, provider):
    prompt = unique()
    assert not same(client, provider, prompt, ask(prompt), ask(prompt, model="renamed"))


def test_two_keys_never_share(client, provider):
    prompt = unique()
    for key in "alice", "bob":  # not even in one team
        assert client.with_key(key).chat(prompt).cache == "MISS"
    assert client.with_key("alice").chat(prompt).cache == "HIT"
    assert provider.calls(prompt) == 2


@pytest.mark.parametrize("scope,shared", [("team", {"alice", "bob"}), ("everyone", {"alice", "bob", "carol", "demo"})])
def test_wider_scopes(start, scope, shared):
    stack = start({"cache": {"scope": scope}})
    prompt = unique()
    stack.client.with_key("alice").chat(prompt)
    hits = {key for key in ("alice", "bob", "carol", "demo") if stack.client.with_key(key).chat(prompt).cache == "HIT"}
    assert hits == shared


def test_store_true_bypasses_the_cache(each, provider, stack):
    prompt = unique()
    for _ in range(2):
        answer = each.chat(prompt, store=True)
        assert answer.cache == "BYPASS" and answer.headers["Cache-Status"] == "pavise; fwd=bypass"
    assert provider.calls(prompt) == 2
    assert stack.log_of(answer)["cache"] == "bypass"
    assert each.chat(prompt, store=False).cache == "MISS"


def test_a_model_with_its_cache_off(client, provider):
    prompt = unique()
    assert [client.chat(prompt, model="uncached").cache for _ in range(2)] == ["BYPASS", "BYPASS"]
    assert provider.calls(prompt) == 2


# ── The other endpoints ───────────────────────────────────────────────────────────────────────────────────────────────


def test_models_lists_what_this_key_may_call(each):
    answer = each.get("/v1/models")
    assert answer.status == 200 and answer.json["object"] == "list"
    assert {m["id"] for m in answer.json["data"]} == {"demo", "renamed", "uncached"}  # nothing that is switched off
    assert {m["object"] for m in answer.json["data"]} == {"model"}
    assert all(set(m) == {"id", "object", "created", "owned_by"} for m in answer.json["data"])
    assert each.with_key("limited").get("/v1/models").json["data"] == []
    assert each.get("/v1/models?limit=3").status == 200


def test_one_model(each):
    assert each.get("/v1/models/renamed").json == {"id": "renamed", "object": "model", "created": 0, "owned_by": "fake"}
    assert each.get("/v1/models/%72enamed").json["id"] == "renamed"
    for client, name in (each, "nothing"), (each, "a%2Fb"), (each.with_key("limited"), "demo"), (each, "switched-off"):
        answer = client.get("/v1/models/" + name)
        assert answer.status == 404
        assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")
    assert each.with_key(None).get("/v1/models/demo").status == 401


@pytest.mark.parametrize("path,word", [("/healthz", "ok"), ("/readyz", "ready")])
def test_health_needs_no_key(each, path, word):
    answer = each.with_key(None).get(path)
    assert (answer.status, answer.json) == (200, {"status": word})
    head = each.with_key(None).call("HEAD", path)
    assert (head.status, head.body) == (200, b"")


def test_head_of_models_is_its_head(each):
    head, get = each.call("HEAD", "/v1/models"), each.get("/v1/models")
    assert head.status == 200 and head.body == b""
    assert head.headers["Content-Type"] == get.headers["Content-Type"] == "application/json"
    assert each.call("HEAD", CHAT).status == 405


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/v1/models/", "/v2/models",
                                  "/v1/%63hat/completions/x", "/healthz/x", "//v1/models", "/v1/../v1/models"])
def test_unknown_urls(each, path):
    answer = each.get(path)
    assert answer.status == 404 and answer.error["code"] == "unknown_url", answer


@pytest.mark.parametrize("method,path,allowed", [("GET", CHAT, "POST"), ("DELETE", CHAT, "POST"), ("PUT", CHAT, "POST"),
                                                 ("POST", "/v1/models", "GET"), ("POST", "/healthz", "GET"),
                                                 ("PATCH", "/v1/models/demo", "GET")])
def test_wrong_methods(each, method, path, allowed):
    answer = each.call(method, path)
    assert answer.status == 405 and answer.error["code"] == "method_not_allowed"
    assert allowed in answer.error["message"]
    assert allowed in re.split(r",\s*", answer.headers["Allow"])  # RFC 9110, 15.5.6


def test_base_path(start):
    stack = start({"server": {"base_path": "/llm"}}, webs=("lighttpd", "apache"))
    for web in stack.webs.values():
        assert web.client.post(ask("x"), path="/llm" + CHAT).status == 200
        assert web.client.get("/llm/v1/models").status == 200
        assert web.client.get("/llm/healthz").status == 200
        assert web.client.get("/llmv1/models").status == 404


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("headers", [{"Authorization": "bearer  demo"}, {"Authorization": None, "api-key": "demo"},
                                     {"Authorization": None, "x-api-key": "demo"}], ids=str)
def test_where_a_key_may_stand(each, headers):
    assert each.get("/v1/models", headers).status == 200


@pytest.mark.parametrize("headers, status", [
    ({"Authorization": "Bearer demo", "api-key": "nobody", "x-api-key": "nobody"}, 200),
    ({"Authorization": "Bearer nobody", "api-key": "demo", "x-api-key": "demo"}, 401),
    ({"Authorization": None, "api-key": "demo", "x-api-key": "nobody"}, 200),
    ({"Authorization": None, "api-key": "nobody", "x-api-key": "demo"}, 401),
    ({"Authorization": "Bearer ", "api-key": "demo"}, 200), ({"Authorization": "Bearer", "x-api-key": "demo"}, 200),
    ({"Authorization": "Basic ZGVtbzpkZW1v", "x-api-key": "demo"}, 200),
    ({"Authorization": None, "api-key": "", "x-api-key": "demo"}, 200),
    ({"Authorization": None, "api-key": "", "x-api-key": ""}, 401)], ids=str)
def test_of_several_keys_the_first_that_says_something_counts(each, headers, status):
    assert each.get("/v1/models", headers).status == status


def test_what_a_key_may_not_call_is_to_it_as_if_it_were_not_there(each):
    limited = each.with_key("limited")
    assert limited.get("/v1/models").json["data"] == []
    assert "demo" in [model["id"] for model in each.get("/v1/models").json["data"]]
    forbidden, unknown = limited.get("/v1/models/demo"), limited.get("/v1/models/omed")
    assert forbidden.status == unknown.status == 404
    assert forbidden.error == {**unknown.error, "message": unknown.error["message"].replace("omed", "demo")}
    assert set(forbidden.headers) == set(unknown.headers)


@pytest.mark.parametrize("key,code", [(None, "invalid_api_key"), ("", "invalid_api_key"), ("nobody", "invalid_api_key"),
                                      ("old", "api_key_expired"), ("off", "api_key_disabled")])
def test_keys_that_do_not_work(each, provider, stack, key, code):
    prompt = unique()
    answer = each.with_key(key).post(ask(prompt))
    assert answer.status == 401 and answer.error["code"] == code
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert provider.calls(prompt) == 0
    assert stack.log_of(answer)["error.type"] == "caller_" + code


@pytest.mark.parametrize("value", ["Basic ZGVtbzpkZW1v", "Bearer", "Bearerdemo", "demo"])
def test_authorization_that_is_no_bearer_token(each, value):
    assert each.get("/v1/models", {"Authorization": value}).status == 401


def test_a_model_that_the_key_may_not_call(each, stack):
    answer = each.with_key("limited").post(ask("x"))
    assert answer.status == 403
    assert (answer.error["code"], answer.error["param"]) == ("model_not_allowed", "model")
    line = stack.log_of(answer)
    assert (line["error.type"], line["key_id"]) == ("policy_model_not_allowed", "limited")


def test_a_provider_whose_secret_is_not_set_is_off(client, stack):
    answer = client.post(ask("x", model="switched-off"))
    assert answer.status == 503 and answer.error["code"] == "provider_not_configured"
    assert answer.headers["x-should-retry"] == "false"
    assert stack.log_of(answer)["error.type"] == "policy_provider_off"
    assert len(stack.pavise.log.find(lambda line: "NOT_SET" in str(line))) == 1
