"""Every field that a chat may have reaches the provider as the client sent it, and makes another question of it."""

import json

import pytest

from client import CHAT, ask, unique
from provider import completion

CONFIG = {"models": {"renamed": {"provider": "fake", "model": "vendor/real-name"}}}

PIXEL = "data:image/png;base64,iVBORw0KGgo="
FUNCTION = {"name": "weather", "description": "How is it?", "strict": True, "parameters": {
    "type": "object", "properties": {"unit": {"enum": ["c", "f"], "type": "string"}, "city": {"type": "string"}},
    "required": ["unit", "city"], "additionalProperties": False}}
TOOL = {"type": "function", "function": FUNCTION}
SCHEMA = {"type": "object", "properties": {"z": {"type": "number"}, "a": {"type": ["string", "null"]}},
          "required": ["z", "a"], "additionalProperties": False}

PARTS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    {"image_url": {"detail": "auto", "url": "https://example.org/a?b=c&d=\"e\""}, "type": "image_url"},
    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    {"type": "file", "file": {"filename": "ü.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "of tomorrow", "of tomorrow": [1.5, None]},
]
CALLS = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"unit":"c", "city":"ü"}'}},
         {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "not JSON"}},
         {"id": "call_3", "type": "custom", "custom": {"name": "x", "input": "y"}}]
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": [{"type": "text", "text": "Be nice."}], "name": "dev"},
    {"content": PARTS, "role": "user", "name": "somebody"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "call_1", "content": '{"celsius": 21.0}'},
    {"tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}], "role": "tool"},
    {"role": "tool", "tool_call_id": "call_3", "content": ""},
    {"role": "assistant", "content": [{"type": "text", "text": "It rains."}, {"type": "refusal", "refusal": "no"}]},
    {"role": "assistant", "content": "", "refusal": None, "audio": {"id": "audio_1"}, "reasoning_content": "hm"},
    {"role": "assistant", "content": None, "function_call": {"name": "old", "arguments": "{}"}},
    {"role": "function", "name": "old", "content": None},
]

FIELDS = {
    "tools": [TOOL, {"function": {"name": "two"}, "type": "function"}, {"type": "custom", "custom": {"name": "x"}}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
    "n": 3, "logprobs": True, "top_logprobs": 20, "stop": ["\n\n", "🛡", "\u0000"], "seed": -9223372036854775808,
    "reasoning_effort": "high", "verbosity": "low", "service_tier": "flex", "max_tokens": 17, "temperature": 0.7,
    "max_completion_tokens": 1000000000, "top_p": 0.1, "presence_penalty": -2, "frequency_penalty": 1.99,
    "prediction": {"type": "content", "content": [{"type": "text", "text": "def f():\n\treturn 1"}]},
    "logit_bias": {"50256": -100, "1": 0.5}, "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"}, "web_search_options": {"user_location": {"type": "approximate"}},
    "functions": [{"name": "old", "parameters": {}}], "function_call": {"name": "old"}, "prompt_cache_key": "k",
    "a_field_of_tomorrow": {"b": [1, None, {"c": "\u2028"}], "a": False}, "another": None,
}
EXCLUDED = {"user": "u", "safety_identifier": "s", "metadata": {"b": "1", "a": "2"}, "stream": False}


def spelled(value):
    """Our spelling: no white space, only what must be is escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def received(client, provider, body, headers=None):
    """The one body that reaches the provider."""
    prompt = (body if isinstance(body, dict) else json.loads(body))["messages"][-1]["content"]
    answer = client.post(body, headers)
    assert answer.status == 200, answer
    [call] = provider.requests(prompt)
    return call.body.decode()


def talk(prompt, **fields):
    return {"messages": [*CONVERSATION, {"role": "user", "content": prompt}], **fields}


# ── What is sent is what arrives ──────────────────────────────────────────────────────────────────────────────────────


def test_everything_at_once_arrives_in_its_order(each, provider):
    body = {**FIELDS, "model": "renamed", **EXCLUDED, **talk(unique())}
    assert received(each, provider, body) == spelled({**body, "model": "vendor/real-name"})


def test_as_a_stream_with_the_named_edits_only(each, provider):
    body = talk(unique(), **FIELDS, model="renamed", stream=True, user="u")
    edited = {**body, "model": "vendor/real-name", "stream_options": {"include_usage": True}}
    assert received(each, provider, body) == spelled(edited)


@pytest.mark.parametrize("options", [{}, {"include_usage": True}, {"include_usage": False}, {"include_usage": None},
                                     {"of_tomorrow": 1.0, "include_usage": False, "include_obfuscation": False}],
                         ids=str)
def test_stream_options_keep_their_place(each, provider, options):
    body = {"stream_options": options, "stream": True, **ask(unique())}
    got = json.loads(received(each, provider, body))
    assert list(got) == list(body)
    assert got["stream_options"] == {**options, "include_usage": True}
    assert list(got["stream_options"]) == list({**options, "include_usage": True})


NEEDED = {"top_logprobs": {"logprobs": True}}  # without which a field may not be


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_arrives_and_matters(client, provider, name):
    prompt, needed = unique(), NEEDED.get(name, {})
    assert client.chat(prompt, **needed).cache == "MISS"
    assert client.chat(prompt, **needed, **{name: FIELDS[name]}).cache == "MISS"
    plain, call = provider.requests(prompt)
    assert spelled(call.json[name]) == spelled(FIELDS[name])
    assert {member: value for member, value in call.json.items() if member != name} == plain.json


@pytest.mark.parametrize("name", [*EXCLUDED, "stream_options"])
def test_each_excluded_field_arrives_and_does_not_matter(client, provider, name):
    fields = {"stream": True, "stream_options": {"include_usage": True}} if name == "stream_options" \
        else {name: EXCLUDED[name]}
    prompt = unique()
    client.chat(prompt, **fields)
    assert client.chat(prompt).cache == "HIT"
    [call] = provider.requests(prompt)
    assert {member: call.json[member] for member in fields} == fields


VARIANTS = {  # two values of one field that a model may answer differently
    "tool_choice": ["auto", "none", "required", {"type": "function", "function": {"name": "two"}}],
    "parallel_tool_calls": [True], "stop": ["\n\n", ["\n\n"], ["🛡", "\n\n"], []], "n": [1, 2], "seed": [0, 1, -1],
    "tools": [[], [{"type": "function", "function": {**FUNCTION, "strict": False}}], [TOOL], [TOOL, TOOL]],
    "response_format": [{"type": "text"}, {"type": "json_object"}],
    "reasoning_effort": ["low", "minimal", None], "temperature": [0, 0.70001], "logprobs": [False, None],
    "max_tokens": [18], "prediction": [{"type": "content", "content": "x"}],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_value_is_another_question(client, provider, name):
    prompt = provider.on(lambda call: call.answer(completion('{"z":1,"a":null}')))  # it fits every response_format
    values = [FIELDS[name], *VARIANTS[name]]
    assert [client.chat(prompt, **{name: value}).cache for value in values] == ["MISS"] * len(values)
    assert [call.json[name] for call in provider.requests(prompt)] == values
    assert [client.chat(prompt, **{name: value}).cache for value in values] == ["HIT"] * len(values)


def variants(part, *paths):
    """A copy of a conversation's part for each path, with another value there."""
    for path in paths:
        copy = json.loads(json.dumps(part))
        at = copy
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = "another"
        yield copy


def test_every_place_in_a_conversation_matters(client, provider):
    prompt, last = unique(), {"role": "user", "content": ""}
    last["content"] = prompt
    changed = variants(CONVERSATION, (0, "content"), (1, "name"), (1, "content", 0, "text"), (2, "content", 0, "text"),
                       (2, "content", 1, "image_url", "url"), (2, "content", 1, "image_url", "detail"),
                       (2, "content", 3, "input_audio", "data"), (2, "content", 3, "input_audio", "format"),
                       (2, "content", 4, "file", "filename"), (2, "content", 5, "file", "file_id"),
                       (2, "content", 6, "of tomorrow"), (2, "name"), (3, "tool_calls", 0, "id"),
                       (3, "tool_calls", 0, "function", "arguments"), (3, "tool_calls", 2, "custom", "input"),
                       (4, "tool_call_id"), (4, "content"), (7, "content", 1, "refusal"), (8, "reasoning_content"),
                       (8, "audio", "id"), (9, "function_call", "arguments"), (10, "name"))
    conversations = [CONVERSATION, *changed, CONVERSATION[1:], CONVERSATION[:2] + CONVERSATION[3:],
                     [CONVERSATION[1], CONVERSATION[0], *CONVERSATION[2:]], []]
    for messages in conversations:
        answer = client.post({"model": "demo", "messages": [*messages, last]})
        assert (answer.status, answer.cache) == (200, "MISS"), (messages, answer)
    assert [call.json["messages"][:-1] for call in provider.requests(prompt)] == conversations
    assert client.post({"model": "demo", "messages": [*CONVERSATION, last]}).cache == "HIT"


def test_members_of_known_wrappers_may_change_places_but_parts_may_not(client):
    prompt = unique()
    body = talk(prompt, model="demo", tools=[TOOL])
    assert client.post(body).cache == "MISS"

    def turned(value):
        return dict(reversed(value.items()))
    same = {**turned(body), "messages": [turned(message) for message in body["messages"]], "tools": [turned(TOOL)]}
    assert client.post(same).cache == "HIT"
    user = {**CONVERSATION[2], "content": PARTS[::-1]}
    other = [*CONVERSATION[:2], user, *CONVERSATION[3:], body["messages"][-1]]
    assert client.post({**body, "messages": other}).cache == "MISS"


def test_a_tool_loop_to_its_end(each, provider):
    """Each turn is a question of its own, and each is remembered."""
    prompt = unique()
    messages = [{"role": "user", "content": prompt}]
    turns = [messages, [*messages, {"role": "assistant", "content": None, "tool_calls": CALLS[:1]},
                        {"role": "tool", "tool_call_id": "call_1", "content": prompt}]]
    for expected in "MISS", "HIT":
        for turn in turns:
            assert each.post({"model": "demo", "messages": turn, "tools": [TOOL]}).cache == expected
    assert [call.json["messages"] for call in provider.requests(prompt)] == turns


# ── What is not ───────────────────────────────────────────────────────────────────────────────────────────────────────


def user(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize("fields,code,param", [
    (user({"type": "input_audio", "input_audio": {"format": "wav"}}), "missing_required_parameter",
     "messages[0].content[0].input_audio.data"),
    (user({"type": "input_audio", "input_audio": 1}), "invalid_type", "messages[0].content[0].input_audio"),
    (user({"type": "file"}), "missing_required_parameter", "messages[0].content[0].file"),
    (user({"type": "file", "file": "x"}), "invalid_type", "messages[0].content[0].file"),
    (user({"type": "image_url", "image_url": {"url": 1}}), "invalid_type", "messages[0].content[0].image_url.url"),
    (user({"type": ["text"]}), "invalid_type", "messages[0].content[0].type"),
    (user({"type": "text", "text": None}), "missing_required_parameter", "messages[0].content[0].text"),
    ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": "f"}]}]}, "invalid_type",
     "messages[0].tool_calls[0].function"),
    ({"top_logprobs": -1}, "invalid_value", "top_logprobs"), ({"top_logprobs": True}, "invalid_type", "top_logprobs"),
    ({"logprobs": 1.5}, "invalid_type", "logprobs"), ({"presence_penalty": 2.01}, "invalid_value", "presence_penalty"),
    ({"frequency_penalty": -3}, "invalid_value", "frequency_penalty"), ({"n": 129}, "invalid_value", "n"),
    ({"seed": 1.5}, "invalid_type", "seed"), ({"seed": "1"}, "invalid_type", "seed"),
    ({"parallel_tool_calls": "no"}, "invalid_type", "parallel_tool_calls"),
    ({"prediction": "x"}, "invalid_type", "prediction"), ({"reasoning_effort": []}, "invalid_type", "reasoning_effort"),
    ({"modalities": "text"}, "invalid_type", "modalities"), ({"audio": []}, "invalid_type", "audio"),
    ({"functions": {}}, "invalid_type", "functions"), ({"function_call": []}, "invalid_type", "function_call"),
    ({"safety_identifier": {}}, "invalid_type", "safety_identifier"), ({"verbosity": 1}, "invalid_type", "verbosity"),
    ({"service_tier": 1}, "invalid_type", "service_tier"),
    ({"prompt_cache_key": 1}, "invalid_type", "prompt_cache_key"),
    ({"web_search_options": True}, "invalid_type", "web_search_options"),
    ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
    ({"response_format": {"type": 1}}, "invalid_type", "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": []}}, "invalid_type", "response_format.json_schema"),
    ({"max_completion_tokens": -2}, "invalid_value", "max_completion_tokens"),
], ids=lambda v: v if isinstance(v, str) else json.dumps(v)[:60])
def test_what_is_wrong_is_named(client, provider, fields, code, param):
    before = len(provider.seen)
    answer = client.post(ask("x", **fields))
    assert answer.status == 400, answer
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert param in answer.error["message"] and len(provider.seen) == before


# ── Numbers and strings ───────────────────────────────────────────────────────────────────────────────────────────────

SPELLINGS = {  # of a client → the provider's; all are equal values
    "1e0": "1", "1E+0": "1", "1.0": "1", "10e-1": "1", "0.5": "0.5", "5e-1": "0.5", "1.50": "1.5", "-0.0": "0",
    "-0": "0",
    "-0e5": "0", "2E+0": "2", "0.30000000000000004": "0.30000000000000004", "1e-7": "1e-7", "0.000001": "0.000001",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_number_in_any_spelling(client, provider, spelling):
    prompt = unique()
    body = '{"model":"demo","temperature":%s,"x":[%s],"messages":[{"role":"user","content":"%s"}]}'
    got = received(client, provider, body % (spelling, spelling, prompt))
    assert json.loads(got)["temperature"] == float(spelling) == json.loads(got)["x"][0]
    assert got == body % (SPELLINGS[spelling], SPELLINGS[spelling], prompt)
    assert client.post(body % (SPELLINGS[spelling], SPELLINGS[spelling], prompt)).cache == "HIT"


@pytest.mark.parametrize("name,spelling,value", [
    ("n", "1e0", 1), ("n", "1.0", 1), ("n", "20E-1", 2), ("max_tokens", "2E+2", 200), ("max_tokens", "1e9", 10 ** 9),
    ("max_completion_tokens", "100.000", 100), ("seed", "-0.0", 0), ("seed", "-1e0", -1), ("seed", "1E15", 10 ** 15),
    ("top_logprobs", "0e0", 0), ("top_p", "1.0E0", 1), ("presence_penalty", "-2e-0", -2)])
def test_a_whole_number_may_be_spelled_as_any(client, provider, name, spelling, value):
    """RFC 8259 knows only numbers: 1e0 is the 1 that is asked for."""
    prompt = unique()
    body = '{"model":"demo","%s":%s,"messages":[{"role":"user","content":"%s"}]}'
    assert json.loads(received(client, provider, body % (name, spelling, prompt)))[name] == value
    assert client.chat(prompt, **{name: value}).cache == "HIT"


@pytest.mark.parametrize("digits", [
    "9223372036854775807", "-9223372036854775808", "18446744073709551615", "9007199254740993", "1e300", "5e-324",
    "2.2250738585072014e-308", "1.7976931348623157e+308", "123456789.123456789", "0.1", "9007199254740992.0", "1e23",
    "3.141592653589793238"])
def test_numbers_at_the_edges_keep_their_value(client, provider, digits):
    prompt = unique()
    got = received(client, provider, '{"model":"demo","x":%s,"messages":[{"role":"user","content":"%s"}]}'
                   % (digits, prompt))
    assert json.loads(got)["x"] == json.loads(digits)
    if digits.lstrip("-").isdigit():
        assert '"x":%s,' % digits in got


STRINGS = ["", " ", "a\0b", "\0", "\"\\/\b\f\n\r\t", "\x01\x1f\x7f", "ü", "日本語", "🛡\U0010ffff", "\u2028\u2029\ufeff",
           "e\u0301", "\ufffe\uffff", "\u200d\u202e", "%s%n{}", "</script>", "\\u0041", "x" * 100000]


@pytest.mark.parametrize("text", STRINGS, ids=lambda text: ascii(text)[:20])
def test_any_string_survives_wherever_it_stands(each, provider, text):
    prompt = unique()
    body = {"model": "demo", "messages": [
        {"role": "system", "content": text}, {"role": "user", "content": [{"type": "text", "text": text}]},
        {"role": "user", "content": prompt}], "stop": [text], "new": {"a": text}, "user": text}
    if "\0" not in text:  # a name may not have one
        body["new"][text] = text
    escaped, plain = json.dumps(body), spelled(body)
    got = received(each, provider, escaped)
    assert json.loads(got) == body and got == plain
    assert each.post(plain).cache == "HIT"
    assert each.post(spelled({**body, "stop": [text + "\0"]})).cache == "MISS"


@pytest.mark.parametrize("escape,text", [
    ("\\u0041", "A"), ("\\u00fC", "ü"), ("\\ud83d\\udee1", "🛡"), ("\\uDBFF\\uDFFF", "\U0010ffff"), ("\\/", "/"),
    ("\\u0000", "\0"), ("\\u005c\\u0022", "\\\""), ("\\u2028", "\u2028"), ("\\uFEFF", "\ufeff")])
def test_escapes_are_only_a_spelling(client, provider, escape, text):
    prompt = unique()
    body = '{"model":"demo","\\u006eew":"%s","messages":[{"role":"user","content":"%s"}]}' % (escape, prompt)
    assert json.loads(received(client, provider, body))["new"] == text
    assert client.chat(prompt, new=text).cache == "HIT"


@pytest.mark.parametrize("one,two", [("a\0b", "a\0c"), ("a\0", "a"), ("\0", "")], ids=repr)
def test_what_stands_behind_a_nul_matters(client, provider, one, two):
    mark = unique()
    for text in one, two:
        assert client.chat(mark + text).cache == "MISS"
        assert client.chat(mark + text).cache == "HIT"
        assert provider.calls(mark + text) == 1


@pytest.mark.parametrize("fields,param", [
    ({"model": "demo\0"}, "model"), ({"model": "demo\0x"}, "model"),
    ({"messages": [{"role": "user\0", "content": "x"}]}, "messages[0].role")], ids=repr)
def test_a_name_with_a_nul_is_no_name(client, fields, param):
    answer = client.post(ask("x", **fields))
    assert answer.status == 400, answer
    assert answer.error["param"] == param


def test_a_null_travels_and_is_no_value(client, provider):
    """A null is as good as nothing to us, but what the provider makes of it is its own business."""
    names = [name for name in FIELDS if name not in ("another", "a_field_of_tomorrow")]
    body = ask(unique(), **dict.fromkeys(names))
    assert received(client, provider, body) == spelled(body)


def test_many_messages_and_many_fields(client, provider):
    prompt = unique()
    body = {"model": "demo", **{f"field_{i}": i for i in range(2000)},
            "messages": [{"role": "user", "content": text} for text in [*map(str, range(3000)), prompt]]}
    assert received(client, provider, body) == spelled(body)
    assert client.post(dict(reversed(body.items()))).cache == "HIT"


def test_the_path_is_the_providers(client, provider):
    prompt = unique()
    client.post(ask(prompt), path=CHAT + "?api-version=2024-10-21&x=%2F")
    [call] = provider.requests(prompt)
    assert call.path == CHAT


def says(**members):
    """An assistant's message."""
    return {"messages": [{"role": "assistant", "content": "x", **members}]}


def formed(**members):
    return {"response_format": {"type": "json_schema", "json_schema": members}}


def tool(**members):
    return {"tools": [{"type": "function", "function": {"name": "f", **members}}]}


def custom(**members):
    return {"tools": [TOOL, {"type": "custom", "custom": {"name": "c", **members}}]}


MISSING, TYPE, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"
INSIDE = [
    # parts
    (user(), VALUE, "messages[0].content"),
    ({"messages": [{"role": "tool", "tool_call_id": "c", "content": []}]}, VALUE, "messages[0].content"),
    (user({"type": "image_url", "image_url": {"url": PIXEL, "detail": 1}}), TYPE,
     "messages[0].content[0].image_url.detail"),
    (user({"type": "image_url", "image_url": {"url": None}}), MISSING, "messages[0].content[0].image_url.url"),
    (user({"type": "input_audio", "input_audio": {"data": 1, "format": "wav"}}), TYPE,
     "messages[0].content[0].input_audio.data"),
    (user({"type": "input_audio", "input_audio": {"data": "", "format": 1}}), TYPE,
     "messages[0].content[0].input_audio.format"),
    (user({"type": "file", "file": {"file_id": 1}}), TYPE, "messages[0].content[0].file.file_id"),
    (user({"type": "file", "file": {"file_data": {}}}), TYPE, "messages[0].content[0].file.file_data"),
    (user({"type": "file", "file": {"file_data": "", "filename": []}}), TYPE, "messages[0].content[0].file.filename"),
    (user({"type": "refusal"}), MISSING, "messages[0].content[0].refusal"),
    # messages
    ({"messages": [{"role": "user", "content": "x", "name": 5}]}, TYPE, "messages[0].name"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": 5}]}, TYPE, "messages[0].tool_call_id"),
    (says(refusal=1), TYPE, "messages[0].refusal"),
    (says(audio="a"), TYPE, "messages[0].audio"),
    (says(audio={"id": 1}), TYPE, "messages[0].audio.id"),
    (says(function_call="f"), TYPE, "messages[0].function_call"),
    (says(function_call={"name": 1}), TYPE, "messages[0].function_call.name"),
    (says(function_call={"name": "f", "arguments": []}), TYPE, "messages[0].function_call.arguments"),
    (says(tool_calls=[{"id": 1}]), TYPE, "messages[0].tool_calls[0].id"),
    (says(tool_calls=[{"type": 1}]), TYPE, "messages[0].tool_calls[0].type"),
    (says(tool_calls=[{"type": "function", "function": {"name": 1}}]), TYPE,
     "messages[0].tool_calls[0].function.name"),
    (says(tool_calls=[{"type": "function", "function": {"name": "f", "arguments": 1}}]), TYPE,
     "messages[0].tool_calls[0].function.arguments"),
    (says(tool_calls=[CALLS[0], {"type": "custom", "custom": []}]), TYPE, "messages[0].tool_calls[1].custom"),
    (says(tool_calls=[{"type": "custom", "custom": {"name": 1}}]), TYPE, "messages[0].tool_calls[0].custom.name"),
    (says(tool_calls=[{"type": "custom", "custom": {"name": "x", "input": 1}}]), TYPE,
     "messages[0].tool_calls[0].custom.input"),
    # tools
    ({"tools": [{}]}, MISSING, "tools[0].type"),
    ({"tools": [{"type": 1}]}, TYPE, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, MISSING, "tools[0].function"),
    ({"tools": [{"type": "function", "function": "f"}]}, TYPE, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, MISSING, "tools[0].function.name"),
    (tool(name=7), TYPE, "tools[0].function.name"),
    (tool(description=7), TYPE, "tools[0].function.description"),
    (tool(parameters="x"), TYPE, "tools[0].function.parameters"),
    (tool(parameters=[]), TYPE, "tools[0].function.parameters"),
    (tool(strict="yes"), TYPE, "tools[0].function.strict"),
    ({"tools": [{"type": "custom"}]}, MISSING, "tools[0].custom"),
    (custom(name=None), MISSING, "tools[1].custom.name"),
    (custom(description=1), TYPE, "tools[1].custom.description"),
    (custom(format="text"), TYPE, "tools[1].custom.format"),
    (custom(format={}), MISSING, "tools[1].custom.format.type"),
    (custom(format={"type": "grammar"}), MISSING, "tools[1].custom.format.grammar"),
    (custom(format={"type": "grammar", "grammar": {"syntax": "lark"}}), MISSING,
     "tools[1].custom.format.grammar.definition"),
    (custom(format={"type": "grammar", "grammar": {"definition": "x", "syntax": 1}}), TYPE,
     "tools[1].custom.format.grammar.syntax"),
    ({"tool_choice": {}}, MISSING, "tool_choice.type"),
    ({"tool_choice": {"type": 1}}, TYPE, "tool_choice.type"),
    ({"tool_choice": {"type": "function"}}, MISSING, "tool_choice.function"),
    ({"tool_choice": {"type": "function", "function": "f"}}, TYPE, "tool_choice.function"),
    ({"tool_choice": {"type": "function", "function": {}}}, MISSING, "tool_choice.function.name"),
    ({"tool_choice": {"type": "function", "function": {"name": 1}}}, TYPE, "tool_choice.function.name"),
    ({"tool_choice": {"type": "custom"}}, MISSING, "tool_choice.custom"),
    ({"tool_choice": {"type": "custom", "custom": {"name": []}}}, TYPE, "tool_choice.custom.name"),
    ({"tool_choice": {"type": "allowed_tools"}}, MISSING, "tool_choice.allowed_tools"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}}}, MISSING,
     "tool_choice.allowed_tools.mode"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": "all"}}}, TYPE,
     "tool_choice.allowed_tools.tools"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ["f"]}}}, TYPE,
     "tool_choice.allowed_tools.tools[0]"),
    ({"functions": ["f"]}, TYPE, "functions[0]"),
    ({"functions": [{"parameters": {}}]}, MISSING, "functions[0].name"),
    ({"functions": [{"name": "f", "parameters": "x"}]}, TYPE, "functions[0].parameters"),
    ({"function_call": {}}, MISSING, "function_call.name"),
    # options
    (formed(name=1, schema={}), TYPE, "response_format.json_schema.name"),
    (formed(name="n", schema="x"), TYPE, "response_format.json_schema.schema"),
    (formed(name="n", schema={}, strict=1), TYPE, "response_format.json_schema.strict"),
    (formed(name="n", schema={}, description=1), TYPE, "response_format.json_schema.description"),
    ({"logit_bias": {"1": "x"}}, TYPE, "logit_bias.1"),
    ({"logit_bias": {"1": 100, "2": 100.5}}, VALUE, "logit_bias.2"),
    ({"logit_bias": {"1": -101}}, VALUE, "logit_bias.1"),
    ({"modalities": [1]}, TYPE, "modalities[0]"),
    ({"stop": [None]}, TYPE, "stop[0]"),
    ({"audio": {"voice": 1}}, TYPE, "audio.voice"),
    ({"audio": {"voice": "alloy", "format": 1}}, TYPE, "audio.format"),
    ({"prediction": {}}, MISSING, "prediction.type"),
    ({"prediction": {"type": "content"}}, MISSING, "prediction.content"),
    ({"prediction": {"type": "content", "content": 1}}, TYPE, "prediction.content"),
    ({"prediction": {"type": "content", "content": [{"type": "text"}]}}, MISSING, "prediction.content[0].text"),
    ({"stream": True, "stream_options": {"include_obfuscation": "no"}}, TYPE, "stream_options.include_obfuscation"),
    ({"web_search_options": {"search_context_size": 1}}, TYPE, "web_search_options.search_context_size"),
    ({"web_search_options": {"user_location": "here"}}, TYPE, "web_search_options.user_location"),
    ({"web_search_options": {"user_location": {"type": 1}}}, TYPE, "web_search_options.user_location.type"),
    ({"web_search_options": {"user_location": {"type": "approximate", "approximate": {"city": 1}}}}, TYPE,
     "web_search_options.user_location.approximate.city"),
    ({"metadata": "a"}, TYPE, "metadata"),
    ({"prompt_cache_retention": 24}, TYPE, "prompt_cache_retention"),
    ({"top_logprobs": 1}, VALUE, "top_logprobs"),
    ({"logprobs": False, "top_logprobs": 5}, VALUE, "top_logprobs"),
    ({"seed": 18446744073709551615}, VALUE, "seed"),
    ({"max_tokens": -2}, VALUE, "max_tokens"),
]


@pytest.mark.parametrize("fields,code,param", INSIDE, ids=lambda v: v if isinstance(v, str) else json.dumps(v)[:60])
def test_what_stands_inside_known_fields(client, provider, fields, code, param):
    test_what_is_wrong_is_named(client, provider, fields, code, param)


@pytest.mark.parametrize("fields", [
    says(tool_calls=[{}]), says(content=[], tool_calls=CALLS), says(audio={}),  # as a provider may have said it
    {"stop": [str(i) for i in range(16)]}, {"stop": []}, {"tools": []}, {"tools": [{"type": "web_search"}]},
    {"tool_choice": "any"}, {"tool_choice": {"type": "of tomorrow"}}, {"reasoning_effort": "of tomorrow"},
    {"verbosity": "of tomorrow"}, {"service_tier": "of tomorrow"}, {"modalities": ["image"]},
    {"audio": {"voice": {"id": "voice_1"}, "format": "of tomorrow"}}, {"prediction": {"type": "of tomorrow"}},
    {"response_format": {"type": "of tomorrow", "json_schema": 1}}, {"web_search_options": {"user_location": {}}},
    user({"type": "image_url", "image_url": {"url": PIXEL, "detail": "of tomorrow", "new": 1}}),
    user({"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}}),
    user({"type": "input_audio", "input_audio": {"data": "https://example.org/a.mp3"}}),
    user({"type": "file", "file": {}}), user({"type": "text", "text": "x", "image_url": 1}),
    custom(format={"type": "text"}), custom(format={"type": "of tomorrow", "grammar": 1}),
    {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "new"}]}}},
], ids=lambda v: json.dumps(v)[:60])
def test_what_a_provider_may_know_better_is_passed_on(client, provider, fields):
    prompt = unique()
    body = ask(prompt, **fields)
    body["messages"] = [*fields.get("messages", []), {"role": "user", "content": prompt}]
    assert received(client, provider, body) == spelled(body)
