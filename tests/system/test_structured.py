"""Structured output is checked before it is remembered, and passed on as it is whatever the check says."""

import json

import pytest

from client import ask
from provider import Call, chunk, completion, usage_chunk

CONFIG = {"models": {"uncached": {"provider": "fake", "cache": {"off": True}}}}

SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["name", "steps"],
    "properties": {"name": {"type": "string"}, "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}},
    "$defs": {"step": {"type": "object", "additionalProperties": False, "required": ["n", "then"],
                       "properties": {"n": {"type": "integer", "minimum": 0},
                                      "then": {"anyOf": [{"$ref": "#/$defs/step"}, {"type": "null"}]}}}},
}
FITS = '{"name":"ü 🛡","steps":[{"n":1,"then":{"n":2,"then":null}},{"n":3,"then":null}]}'
SECRET = "the-answers-own-data"


def asked_for(schema=SCHEMA):
    return {"type": "json_schema", "json_schema": {"name": "plan", "strict": True, "schema": schema}}


def message(content, **fields):
    return {"role": "assistant", "content": content, "refusal": None, **fields}


def said(*contents, finish="stop"):
    """A completion with one choice for each content."""
    return completion(choices=[{"index": i, "message": content if isinstance(content, dict) else message(content),
                                "logprobs": None, "finish_reason": finish} for i, content in enumerate(contents)])


def answers(body):
    """A script: this completion in the form that was asked for, streams in pieces of three characters."""
    def script(call):
        if not call.json.get("stream"):
            call.answer(body)
            return
        call.stream_head()
        for choice in body["choices"]:
            at, given = choice["index"], choice["message"]
            of = lambda delta, finish=None: {**chunk(), "choices": [  # noqa: E731
                {"index": at, "delta": delta, "logprobs": None, "finish_reason": finish}]}
            call.event(of({"role": "assistant"}))
            for name in "content", "refusal":
                text = given.get(name) or ""
                for i in range(0, len(text), 3):
                    call.event(of({name: text[i:i + 3]}))
            for i, tool in enumerate(given.get("tool_calls") or []):
                call.event(of({"tool_calls": [{"index": i, **tool}]}))
            if given.get("function_call"):
                call.event(of({"function_call": given["function_call"]}))
            call.event(of({}, choice["finish_reason"]))
        call.event(usage_chunk())
        call.end_stream()
    return script


def contents(answer, streamed):
    """The text of each choice."""
    if not streamed:
        return [choice["message"]["content"] for choice in answer.json["choices"]]
    texts = {}
    for event in answer.events[:-1]:
        for choice in event["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return [texts[i] for i in sorted(texts)]


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def streamed(request):
    return request.param


def asked(client, provider, body, streamed, response_format=None, **fields):
    """(answer, body of the request): the answer is passed on as it is, whatever it is."""
    prompt = provider.on(answers(body))
    request = ask(prompt, response_format=response_format or asked_for(), **fields)
    if streamed:
        request["stream"] = True
    answer = client.post(request)
    assert answer.status == 200, answer
    if streamed:
        assert answer.events[-1] == "[DONE]" and "error" not in str(answer.events)
    else:
        assert answer.body == json.dumps(body).encode()
    return answer, request


def remembered(client, provider, request, texts=None):
    """It is served in both forms without the provider."""
    prompt, before = request["messages"][-1]["content"], provider.calls(request["messages"][-1]["content"])
    for stream in False, True:
        hit = client.post({**request, "stream": stream})
        assert hit.cache == "HIT" and "X-Pavise-Schema" not in hit.headers
        if texts:
            assert contents(hit, stream) == texts
    assert provider.calls(prompt) == before


def forgotten(client, provider, request):
    """The next identical call reaches the provider, whose better answer is remembered."""
    prompt = request["messages"][-1]["content"]
    before = provider.calls(prompt)
    provider.on(answers(said(FITS)), prompt)
    assert client.post(request).cache == "MISS" and provider.calls(prompt) == before + 1
    assert client.post(request).cache == "HIT"


def refused(stack, answer, streamed, word="invalid"):
    """It was not remembered, and it says why where it still can, without the answer's data."""
    line = stack.log_of(answer)
    assert line["schema"] == word
    assert line["error.type"] == {"invalid": "provider_schema_mismatch", "unjudged": "policy_schema_unjudged"}[word]
    assert line["schema_detail"] and SECRET not in str(line)
    assert not line["stored"] and "stored" not in answer.headers["Cache-Status"]
    assert line["http.response.status_code"] == 200 and "gen_ai.usage.output_tokens" in line and "cost_usd" in line
    assert answer.headers.get("X-Pavise-Schema") == (None if streamed else word)
    return line["schema_detail"]


# ── It fits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [FITS, '{"name":"","steps":[]}', f" {FITS}\n\t",
                                  '{"steps":[],\r\n "name":"a\\u0000"}'])
def test_what_fits_is_remembered(each, provider, stack, streamed, text):
    answer, request = asked(each, provider, said(text), streamed)
    assert contents(answer, streamed) == [text] and "X-Pavise-Schema" not in answer.headers
    line = stack.log_of(answer)
    assert line["stored"] and not {"schema", "schema_detail", "error.type"} & set(line)
    remembered(each, provider, request, [text])


def test_the_schema_reaches_the_provider_in_its_order(client, provider):
    _, request = asked(client, provider, said(FITS), False)
    [call] = provider.requests(request["messages"][-1]["content"])
    assert json.dumps(call.json["response_format"]) == json.dumps(asked_for())


@pytest.mark.parametrize("response_format", [
    None, {"type": "text"}, {"type": "of tomorrow"}, {"type": "json_schema", "json_schema": {"name": "no schema"}}],
    ids=str)
def test_nothing_is_checked_that_nobody_asked_for(client, provider, stack, response_format):
    prompt = provider.on(answers(said("no JSON")))
    answer = client.chat(prompt, response_format=response_format)
    assert stack.log_of(answer)["stored"] and "X-Pavise-Schema" not in answer.headers


@pytest.mark.parametrize("schema,text", [
    ({"type": "null"}, "null"), ({}, " null\n"), ({"type": ["integer", "null"]}, "null"), ({"type": "integer"}, "7"),
    ({"type": "string"}, '"ü"'), ({"type": "boolean"}, "false"), ({"type": "array"}, "[]")], ids=str)
def test_an_answer_need_not_be_an_object(client, provider, streamed, schema, text):
    _, request = asked(client, provider, said(text), streamed, asked_for(schema))
    remembered(client, provider, request, [text])


EVENT = asked_for({"type": "object", "additionalProperties": False, "required": ["when", "who", "link"], "properties": {
    "when": {"type": "string", "format": "date-time"}, "who": {"type": ["string", "null"], "format": "email"},
    "link": {"type": "string", "format": "uri"}}})


@pytest.mark.parametrize("when,who,kept", [
    ("2024-02-29T12:00:00Z", "a@example.com", True), ("2024-02-29T12:00:00.5+02:00", None, True),
    ("2023-02-29T12:00:00Z", None, False), ("tomorrow", None, False), ("2024-02-29T12:00:00Z", SECRET, False)], ids=str)
def test_formats(client, provider, stack, streamed, when, who, kept):
    """Those of strict mode are judged, and no others."""
    text = json.dumps({"when": when, "who": who, "link": "no link"})
    answer, request = asked(client, provider, said(text), streamed, EVENT)
    if kept:
        remembered(client, provider, request, [text])
    else:
        assert refused(stack, answer, streamed) == ('/who is not of the format "email"' if who else
                                                    '/when is not of the format "date-time"')


@pytest.mark.parametrize("text,kept", [("{}", True), ("null", False), ('{"a":[1,{"b":null}]}', True), (" {} ", True), ("", False),
                                       ("{", False), ("Here you are: {}", False), ("```json\n{}\n```", False)])
def test_json_object(each, provider, stack, streamed, text, kept):
    answer, request = asked(each, provider, said(text), streamed, {"type": "json_object"})
    if kept:
        remembered(each, provider, request, [text])
    else:
        refused(stack, answer, streamed)
        forgotten(each, provider, request)


# ── It does not ───────────────────────────────────────────────────────────────────────────────────────────────────────


def nested(depth):
    return '{"name":"x","steps":[' + '{"n":1,"then":' * depth + "null" + "}" * depth + "]}"


MISFITS = {
    "a member is missing": f'{{"name":"{SECRET}"}}', "a member too many": f'{{"name":"a","steps":[],"{SECRET}":1}}',
    "the wrong type": f'{{"name":"a","steps":"{SECRET}"}}', "an array": "[]", "a string": f'"{SECRET}"',
    "a number": "7",
    "deep inside": '{"name":"a","steps":[{"n":1,"then":{"n":-1,"then":null}}]}', "no JSON": f"I think {SECRET}",
    "nothing": "", "white space": " \n", "cut": FITS[:-1], "too much": FITS + "}", "twice": FITS + FITS,
    "a fence": f"```json\n{FITS}\n```", "single quotes": "{'name':'a','steps':[]}",
    "a trailing comma": FITS[:-1] + ",}", "null": "null",
    "half a character": '{"name":"\\ud83d', "cut behind half a character": '{"name":"\\ud83d","steps":[',
    "cut behind a name that stands twice": '{"name":"","name":"",',
    "deeper than anybody reads": nested(40)[:-2],
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_passed_on_and_forgotten(client, provider, stack, streamed, name):
    answer, request = asked(client, provider, said(MISFITS[name]), streamed)
    assert contents(answer, streamed) == [MISFITS[name]]
    detail = refused(stack, answer, streamed)
    if name == "deep inside":
        assert "/steps/0/then" in detail
    forgotten(client, provider, request)


def test_through_each_web_server(each, provider, stack, streamed):
    answer, request = asked(each, provider, said(MISFITS["the wrong type"]), streamed)
    assert "/steps" in refused(stack, answer, streamed)
    forgotten(each, provider, request)


def test_a_misfit_that_came_as_json_for_a_stream(each, provider, stack):
    """The head has not gone yet."""
    prompt = provider.on(lambda call: call.answer(said("{}")))
    answer = each.post(ask(prompt, stream=True, response_format=asked_for()))
    assert contents(answer, True) == ["{}"] and answer.events[-1] == "[DONE]"
    assert answer.headers["X-Pavise-Schema"] == "invalid"
    assert stack.log_of(answer)["error.type"] == "provider_schema_mismatch"
    assert each.post(ask(prompt, stream=True, response_format=asked_for())).cache == "MISS"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_is_cut_short(each, provider, stack, streamed, reason):
    """It does not parse, whatever the reason."""
    answer, request = asked(each, provider, said(FITS[:30], finish=reason), streamed)
    assert contents(answer, streamed) == [FITS[:30]]
    assert not stack.log_of(answer)["stored"]
    forgotten(each, provider, request)


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bruges"}'}}
OTHERS = {  # is no structured output: message, finish_reason
    "a refusal": (message(None, refusal="I will not."), "stop"),
    "a tool call": (message(None, tool_calls=[CALL]), "tool_calls"),
    "a call of old": (message(None, function_call={"name": "weather", "arguments": "{}"}), "function_call"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_structured_output_is_an_answer_all_the_same(each, provider, stack, streamed, name):
    given, finish = OTHERS[name]
    answer, request = asked(each, provider, said(given, finish=finish), streamed)
    line = stack.log_of(answer)
    assert "X-Pavise-Schema" not in answer.headers and not {"schema", "error.type"} & set(line)
    assert line["stored"]
    remembered(each, provider, request)
    [choice] = each.post({**request, "stream": False}).json["choices"]
    assert choice["finish_reason"] == finish
    for member in "refusal", "tool_calls", "function_call":
        assert choice["message"].get(member) == given.get(member)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_was_cut_before_it_began(each, provider, stack, streamed, reason):
    """Nobody's schema is hurt, but there is nothing to remember."""
    answer, request = asked(each, provider, said(None, finish=reason), streamed)
    line = stack.log_of(answer)
    assert "X-Pavise-Schema" not in answer.headers and not {"schema", "error.type"} & set(line) and not line["stored"]
    forgotten(each, provider, request)


def parts(*texts):
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    return message([thought, *({"type": "text", "text": text} for text in texts)])


def test_content_in_parts(client, provider, stack):
    """The texts together are the answer (Mistral)."""
    answer, request = asked(client, provider, said(parts(FITS[:9], FITS[9:])), False)
    assert "X-Pavise-Schema" not in answer.headers and stack.log_of(answer)["stored"]
    assert client.post(request).cache == "HIT"
    for bad in parts("{}"), parts(), message([]):
        answer, _ = asked(client, provider, said(bad), False)
        refused(stack, answer, False)


@pytest.mark.parametrize("response_format", [
    {"type": "json_schema", "schema": SCHEMA}, {"type": "json_object", "schema": SCHEMA},
    {"type": "json_schema", "json_schema": {"schema": SCHEMA}}], ids=["Together", "llama.cpp", "Perplexity"])
def test_a_schema_where_others_have_it(client, provider, stack, streamed, response_format):
    answer, request = asked(client, provider, said(FITS), streamed, response_format)
    assert stack.log_of(answer)["stored"]
    remembered(client, provider, request, [FITS])
    assert provider.requests(request["messages"][-1]["content"])[0].json["response_format"] == response_format
    answer, request = asked(client, provider, said('{"name":1}'), streamed, response_format)
    refused(stack, answer, streamed)
    forgotten(client, provider, request)


def test_words_beside_a_tool_call(client, provider, stack, streamed):
    given = message("Let me look.", tool_calls=[CALL])
    answer, request = asked(client, provider, said(given, finish="tool_calls"), streamed)
    assert stack.log_of(answer)["stored"]
    remembered(client, provider, request, ["Let me look."])


@pytest.mark.parametrize("texts", [(FITS, "{}"), ("{}", FITS), (FITS, "no JSON"), (FITS, FITS, "[")], ids=str)
def test_one_of_several_choices_does_not_fit(client, provider, stack, streamed, texts):
    answer, request = asked(client, provider, said(*texts), streamed, n=len(texts))
    assert contents(answer, streamed) == list(texts)
    refused(stack, answer, streamed)
    prompt = request["messages"][-1]["content"]
    assert client.post(request).cache == "MISS" and provider.calls(prompt) == 2


def test_several_choices_that_fit(each, provider, streamed):
    texts = [FITS, '{"name":"b","steps":[]}']
    _, request = asked(each, provider, said(*texts), streamed, n=2)
    remembered(each, provider, request, texts)


@pytest.mark.parametrize("texts", [('{"b":1e999}', '{"a":1}'), ('{"a":1}', '{"b":1e999}')], ids=str)
def test_one_misfit_counts_more_than_one_that_nobody_can_judge(client, provider, stack, streamed, texts):
    schema = {"properties": {"a": {"type": "string"}}}
    answer, _ = asked(client, provider, said(*texts), streamed, asked_for(schema), n=2)
    assert refused(stack, answer, streamed) == "/a is an integer, which type does not allow"


# ── Nobody can tell ───────────────────────────────────────────────────────────────────────────────────────────────────


UNJUDGEABLE = {
    "a reference that leads nowhere": {"$ref": "#/$defs/none"},
    "a reference that leads out": {"$ref": "https://example.org/schema.json"},
    "a type that is none": {"type": "objekt"}, "a broken expression": {"pattern": "("},
    "a circle": {"$ref": "#"}, "a keyword beyond us": {"unevaluatedProperties": False, "$dynamicRef": "#x"},
}


@pytest.mark.parametrize("name", UNJUDGEABLE)
def test_what_nobody_can_judge_is_not_remembered(client, provider, stack, streamed, name):
    text = '"x"' if "expression" in name else "{}"
    answer, request = asked(client, provider, said(text), streamed, asked_for(UNJUDGEABLE[name]))
    refused(stack, answer, streamed, "unjudged")
    prompt = request["messages"][-1]["content"]
    assert client.post(request).cache == "MISS" and provider.calls(prompt) == 2


@pytest.mark.parametrize("text,word", [
    (f"{{\"{SECRET}\":1e999}}", "a number"), ('{"n":123456789012345678901234567890}', "a number"),
    (f'{{"{SECRET}":1,"{SECRET}":1}}', "stands twice"), ("[" * 129 + "]" * 129, "levels"),
    (f'{{"{SECRET}":"\\ud83d"}}', "surrogate"), ('"\\udc00\\ud800"', "surrogate"), ('{"\\u0000":1}', "NUL")])
@pytest.mark.parametrize("response_format", [asked_for({}), {"type": "json_object"}], ids=["schema", "object"])
def test_json_that_we_cannot_read_is_no_misfit(client, provider, stack, streamed, response_format, text, word):
    """Each is JSON by its grammar, and fits; but we could not say so."""
    answer, request = asked(client, provider, said(text), streamed, response_format)
    assert word in refused(stack, answer, streamed, "unjudged")
    prompt = request["messages"][-1]["content"]
    assert client.post(request).cache == "MISS" and provider.calls(prompt) == 2


def test_many_choices_share_one_bound(client, provider, stack):
    """Each alone is within it."""
    text = json.dumps(list(range(400)))
    schema = {"items": {"enum": [str(i) for i in range(2000)] + list(range(400))}}
    assert stack.log_of(asked(client, provider, said(text), False, asked_for(schema))[0])["stored"]
    answer, _ = asked(client, provider, said(*[text] * 4), False, asked_for(schema), n=4)
    assert refused(stack, answer, False, "unjudged") == "the schema takes too many steps to judge"


def test_a_schema_that_never_ends_costs_a_bounded_time(client, provider, stack):
    """Two ways at each of a thousand levels."""
    schema = {"$defs": {"a": {"anyOf": [{"properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["no"]},
                                        {"properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["no"]}]}},
              "$ref": "#/$defs/a"}
    text = '{"x":' * 100 + "{}" + "}" * 100
    answer, request = asked(client, provider, said(text), False, asked_for(schema))
    assert stack.log_of(answer)["schema"] in ("invalid", "unjudged")
    forgotten_by = client.post(request)
    assert forgotten_by.cache == "MISS"


def test_an_expression_that_never_ends_costs_a_bounded_time(client, provider, stack):
    answer, _ = asked(client, provider, said(json.dumps("a" * 5000 + "!")), False, asked_for({"pattern": "^(a+)+$"}))
    assert stack.log_of(answer)["schema"] in ("invalid", "unjudged")


# ── And otherwise as ever ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_with_its_cache_off_is_told_too(client, provider, stack):
    prompt = provider.on(answers(said("{}")))
    answer = client.chat(prompt, model="uncached", response_format=asked_for())
    assert answer.headers["X-Pavise-Schema"] == "invalid" and answer.cache == "BYPASS"
    assert stack.log_of(answer)["error.type"] == "provider_schema_mismatch"


def test_two_schemas_are_two_questions(client, provider):
    _, request = asked(client, provider, said(FITS), False)
    other = {**request, "response_format": asked_for({**SCHEMA, "description": "another"})}
    assert client.post(other).cache == "MISS"
    assert client.post(request).cache == "HIT"


def test_a_stream_that_breaks_is_not_judged(client, provider, stack):
    def script(call):
        call.stream_head()
        call.event(chunk('{"name":'))
        Call.close(call)
    answer = client.post(ask(provider.on(script), stream=True, response_format=asked_for()))
    line = stack.log_of(answer)
    assert line["error.type"] == "provider_connection_broken" and not line["stored"] and "schema" not in line


@pytest.mark.parametrize("empty", [{"tool_calls": []}, {"refusal": ""}], ids=str)
def test_members_that_are_there_and_empty_excuse_nothing(client, provider, empty):
    """vLLM and others send them with every answer."""
    prompt = provider.on(answers(said(message("this is not json", **empty))))
    for _ in range(2):
        answer = client.chat(prompt, response_format=asked_for())
        assert answer.cache == "MISS" and answer.headers["X-Pavise-Schema"] == "invalid"
    good = provider.on(answers(said(message(FITS, **empty))))
    assert [client.chat(good, response_format=asked_for()).cache for _ in range(2)] == ["MISS", "HIT"]
