"""What other providers of OpenAI's dialect take, say and do: it arrives, it is understood, and it is kept as it is."""

import json

import pytest

from client import ask, unique
from provider import USAGE, chunk, completion

PIXEL = "data:image/png;base64,iVBORw0KGgo="
FUNCTION = {"name": "f", "parameters": {"type": "object"}}


def before(*messages):
    return {"messages": list(messages)}


def part(**members):
    return before({"role": "user", "content": [{"type": "text", "text": "x"}, members]})


TAKEN = {
    "Mistral's image": part(type="image_url", image_url=PIXEL),
    "Mistral's audio": part(type="input_audio", input_audio="aGk="),
    "Mistral's file": part(type="file", file_id="f"),
    "Granite's control": before({"role": "control", "content": "thinking"}),
    "arguments as an object": before(
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"b": 1}}}]},
        {"role": "tool", "tool_call_id": "a", "content": "z"}),
    "as many tokens as there may be": {"max_tokens": -1}, "none": {"max_tokens": 0},
    "counted logprobs": {"logprobs": 5}, "many logprobs": {"logprobs": True, "top_logprobs": 40},
    "tokens of effort": {"reasoning_effort": 1024}, "no effort": {"reasoning_effort": False}, "heat": {"temperature": 5},
    "a tool without a type": {"tools": [{"function": FUNCTION}], "tool_choice": {"function": {"name": "f"}}},
    "metadata": {"metadata": {"a": 1, "b": ["c"], "d": {"e": None}}},
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_others_take_arrives(client, provider, name):
    prompt = unique()
    body = ask(prompt, **TAKEN[name])
    body["messages"] = [*TAKEN[name].get("messages", []), {"role": "user", "content": prompt}]
    assert client.post(body).status == 200
    [call] = provider.requests(prompt)
    assert call.body == json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    assert client.post(body).cache == "HIT"


# ── Calls that share an index ─────────────────────────────────────────────────────────────────────────────────────────


def tool(name, index, arguments="{}"):
    return {"id": "call_" + name, "index": index, "type": "function", "function": {"name": name, "arguments": arguments}}


def merged(events):
    """The calls, put together as the SDKs do: by their index."""
    calls = {}
    for event in events[:-1]:
        for choice in event["choices"]:
            for call in choice["delta"].get("tool_calls") or []:
                known = calls.setdefault(call["index"], {"id": call.get("id"), "name": "", "arguments": ""})
                for member in "name", "arguments":
                    known[member] += call["function"].get(member) or ""
    return [(call["id"], call["name"], call["arguments"]) for call in calls.values()]


@pytest.mark.parametrize("index", [0, None], ids=str)
def test_calls_of_a_json_answer_are_told_apart_in_a_stream(each, provider, index):
    message = {"role": "assistant", "content": "", "tool_calls": [tool("f", index, '{"a":1}'), tool("g", index)]}
    body = completion(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])
    prompt = provider.on(lambda call: call.answer(body))
    expected = [("call_f", "f", '{"a":1}'), ("call_g", "g", "{}")]
    played = each.chat(provider.on(lambda call: call.answer(body)), stream=True)
    assert merged(played.events) == expected
    assert each.chat(prompt).json == body
    hit = each.chat(prompt, stream=True)
    assert hit.cache == "HIT" and merged(hit.events) == expected
    assert each.chat(prompt).json["choices"] == body["choices"]


@pytest.mark.parametrize("deltas", [[[tool("f", 0, '{"a"'), tool("g", 0)]], [[tool("f", 0, '{"a"')], [tool("g", 0)]]],
                         ids=["Gemini", "Ollama"])
def test_streamed_calls_that_share_an_index_are_remembered(each, provider, stack, deltas):
    def script(call):
        call.stream_head()
        call.event(chunk(delta={"role": "assistant", "content": ""}))
        for calls in deltas:
            call.event(chunk(delta={"tool_calls": calls}))
        call.event(chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": " "}}]}))
        call.event(chunk(finish="tool_calls"))
        call.end_stream()
    prompt = provider.on(script)
    live = each.chat(prompt, stream=True)
    assert stack.log_of(live)["stored"]
    hit = each.chat(prompt, stream=True)
    choices = [[event["choices"] for event in answer.events[:-1]] for answer in (live, hit)]
    assert hit.cache == "HIT" and choices[0] == choices[1]
    [choice] = each.chat(prompt).json["choices"]
    assert [(c["id"], c["function"]["arguments"], "index" in c) for c in choice["message"]["tool_calls"]] == [
        ("call_f", '{"a"', False), ("call_g", "{} ", False)]


# ── Errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = {  # of whom: status, body, what the client must see
    "Gemini": (400, [{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}],
               ("API key not valid", "invalid_request_error", None, 400)),
    "vLLM": (400, {"object": "error", "message": "too long", "type": "BadRequestError", "param": "messages", "code": 400},
             ("too long", "BadRequestError", "messages", 400)),
    "Mistral": (422, {"object": "error", "message": {"detail": [{"msg": "Field required"}]}, "type": "t", "code": None},
                ('{"detail":[{"msg":"Field required"}]}', "t", None, "provider_error")),
    "FastAPI": (422, {"detail": [{"loc": ["body"], "msg": "field required"}]},
                ('[{"loc":["body"],"msg":"field required"}]', "invalid_request_error", None, "provider_error")),
    "a list": (404, {"errors": [{"message": "no such thing"}]}, ("no such thing", "invalid_request_error", None, None)),
    "at fault itself": (503, {"detail": "asleep"}, ("asleep", "server_error", None, "provider_error")),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("name", WORDS)
def test_a_providers_words_are_kept(client, provider, stack, name, streamed):
    status, body, expected = WORDS[name]
    answer = client.post(ask(provider.on(lambda call: call.answer(body, status)), stream=streamed))
    assert answer.status == status
    error = answer.json["error"]
    assert tuple(error[member] for member in ("message", "type", "param", "code")) == expected
    assert stack.log_of(answer)["error.type"] == "provider_error"


def streams(*events, done=True):
    """A script: these events; bytes go out as they are."""
    def script(call):
        call.stream_head()
        for event in events:
            call.write(event) if isinstance(event, bytes) else call.event(event)
        call.end_stream(done)
    return script


ENDS = {
    "vLLM": ({"object": "error", "message": "EngineDead", "type": "InternalServerError", "code": 500}, "EngineDead"),
    "Gemini": ([{"error": {"message": "quota", "code": 429}}], "quota"),
    "by its name": (b'event: error\ndata: {"message":"overloaded"}\n\n', "overloaded"),
    "by its name, and no JSON": (b"event: error\ndata: overloaded\n\n", None),
}


@pytest.mark.parametrize("first", [False, True], ids=["in mid-stream", "at once"])
@pytest.mark.parametrize("name", ENDS)
def test_an_event_that_is_an_error(each, provider, stack, name, first):
    event, message = ENDS[name]
    prompt = provider.on(streams(*([] if first else [chunk("a"), chunk(finish="stop")]), event))
    answer = each.post(ask(prompt, stream=True))
    assert answer.status == (502 if first else 200) and b"[DONE]" not in answer.body
    error = answer.json["error"] if first else answer.events[-1]["error"]
    assert message is None or error["message"] == message
    assert {"message", "type", "param", "code"} <= set(error) and error["message"] and len(answer.body.split(b"error")) > 1
    line = stack.log_of(answer)
    assert line["error.type"] == "provider_error" and not line["stored"]
    provider.on(streams(chunk("b"), chunk(finish="stop")), prompt)
    assert each.chat(prompt, stream=True).cache == "MISS"


@pytest.mark.parametrize("empty", ["", {}, None, False], ids=str)
def test_an_empty_error_beside_an_answer_is_none(client, provider, empty):
    prompt = provider.on(lambda call: call.answer(completion("fine", error=empty)))
    assert [client.chat(prompt).cache for _ in range(2)] == ["MISS", "HIT"]
    prompt = provider.on(streams({**chunk("fine"), "error": empty}, {**chunk(finish="stop"), "error": empty}))
    live, hit = (client.chat(prompt, stream=True) for _ in range(2))
    assert (hit.cache, live.events[-1]) == ("HIT", "[DONE]")


# ── Streams ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_put_together_may_end_without_done(client, provider, stack):
    prompt = provider.on(streams(chunk(delta={"x": 1}), chunk(delta={"x": 2}), chunk("b"), chunk(finish="stop"), done=False))
    answer = client.chat(prompt, stream=True)
    assert [e["choices"][0]["finish_reason"] for e in answer.events[:-1]] == [None, None, None, "stop"]
    assert answer.events[-1] == "[DONE]"
    line = stack.log_of(answer)
    assert "error.type" not in line and not line["stored"]


def test_done_may_have_spaces_behind_it(each, provider):
    prompt = provider.on(streams(chunk("a"), chunk(finish="stop"), b"data: [DONE] \t\n\n", done=False))
    live, hit = (each.chat(prompt, stream=True) for _ in range(2))
    assert live.events[-1] == hit.events[-1] == "[DONE]" and live.events.count("[DONE]") == 1
    assert (live.cache, hit.cache) == ("MISS", "HIT")


def test_padding_and_pings_are_not_of_the_answer(client, provider):
    prompt = provider.on(streams({"type": "ping"}, {**chunk("a"), "p": "abc"}, {"type": "ping"},
                                 {**chunk(finish="stop"), "p": "abcdef"}))
    live = client.chat(prompt, stream=True)
    assert live.events[0] == {"type": "ping"} and live.events[1]["p"] == "abc"  # passed on as it comes
    answer = client.chat(prompt)
    assert answer.cache == "HIT" and not {"type", "p"} & set(answer.json)
    assert answer.json["choices"][0]["message"]["content"] == "a"
    hit = client.chat(prompt, stream=True)
    assert [set(e) & {"type", "p"} for e in hit.events[:-1]] == [set(), set()]


def test_groqs_second_usage_is_for_who_asks(client, provider):
    def events():
        yield {**chunk(delta={"role": "assistant", "content": "a"}), "x_groq": {"id": "req_1"}}
        yield {**chunk(finish="stop"), "x_groq": {"id": "req_1", "usage": USAGE}, "usage": USAGE}
    prompt = provider.on(streams(*events()))
    asking = {"stream": True, "stream_options": {"include_usage": True}}
    for cache in "MISS", "HIT":
        answer = client.chat(prompt, stream=True)
        assert answer.cache == cache and [e["x_groq"] for e in answer.events[:-1]] == [{"id": "req_1"}] * 2
        assert "prompt_tokens" not in answer.body.decode()
    hit = client.chat(prompt, **asking)
    assert hit.events[1]["x_groq"] == {"id": "req_1", "usage": USAGE} and hit.events[1]["usage"] == USAGE
    assert client.chat(prompt).json["x_groq"]["usage"] == USAGE
