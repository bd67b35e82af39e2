"""demo-llm, the pretend provider, seen from outside: what pavise and its benchmark rely on it for."""

import base64
import concurrent.futures
import contextlib
import http.client
import json
import math
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / os.environ.get("PAVISE_BUILD", "build") / "demo-llm"
PATIENCE = 20


class Demo:
    """A running demo-llm, and a client of it."""

    def __init__(self, process, port, tls=None):
        self.process, self.port, self.tls = process, port, tls

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def call(self, method, path, body=None, **headers):
        """(status, parsed body, headers); header names have _ for -."""
        connection = self.connect()
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def chat(self, text="What is a pavise?", headers=None, **fields):
        status, answer, _ = self.call("POST", "/v1/chat/completions", request(text, **fields), **(headers or {}))
        assert status == 200, answer
        return answer

    def stream(self, text="What is a pavise?", headers=None, **fields):
        """[(arrival, chunk)], the last chunk being "[DONE]" if the stream came to its end."""
        connection = self.connect()
        try:
            body = json.dumps(request(text, stream=True, **fields))
            names = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
            connection.request("POST", "/v1/chat/completions", body, names)
            response = connection.getresponse()
            assert response.status == 200
            assert response.getheader("Content-Type").startswith("text/event-stream")
            return list(events(response))
        finally:
            connection.close()

    def stats(self):
        return self.call("GET", "/stats")[1]

    def wait_for(self, **counters):
        """Until /stats says so."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            stats = self.stats()
            if all(stats[name] == value for name, value in counters.items()):
                return
            time.sleep(0.01)
        pytest.fail(f"{stats}, never {counters}")


def request(text, **fields):
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **fields}


def exchange(connection, method, path, body, headers):
    data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
    connection.request(method, path, data, {name.replace("_", "-"): str(value) for name, value in headers.items()})
    response = connection.getresponse()
    return response.status, json.loads(response.read()), response.headers


def events(response):
    for line in response:
        if line.startswith(b"data: "):
            data = line[6:].strip().decode()
            yield time.monotonic(), data if data == "[DONE]" else json.loads(data)


@contextlib.contextmanager
def running(*options, tls=None):
    command = [BINARY, "--port", "0", "--quiet", *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("demo-llm: listening on http"), line
        assert line.endswith("/v1\n")
        yield Demo(process, int(line.rsplit(":", 1)[1].split("/")[0]), tls)
    finally:
        process.terminate()
        status = process.wait(PATIENCE)
        process.stdout.close()
    assert status == 0


@pytest.fixture(scope="module")
def demo():
    with running("--first-ms", 0, "--token-ms", 0) as d:
        yield d


@pytest.fixture
def fresh():
    """One that nobody else counts on."""
    with running("--first-ms", 0, "--token-ms", 0) as d:
        yield d


def joined(chunks, index=0):
    """What a client makes of one choice of a stream: (content, pieces, finish reasons)."""
    content, pieces, reasons = "", 0, []
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] == index:
                piece = choice["delta"].get("content")
                content += piece or ""
                pieces += bool(piece)
                reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
    return content, pieces, reasons


def without_times(stream):
    assert stream[-1][1] == "[DONE]"
    return [chunk for _, chunk in stream[:-1]]


# ── Chat ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_answer_has_openais_shape(demo):
    answer = demo.chat("What is a pavise?", model="any/model")
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert abs(answer["created"] - time.time()) < 60
    assert answer["model"] == "any/model"
    assert answer["system_fingerprint"].startswith("fp_")
    [choice] = answer["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert choice["index"] == 0 and choice["logprobs"] is None and choice["finish_reason"] == "stop"
    assert set(choice["message"]) == {"role", "content", "refusal"}
    assert choice["message"]["role"] == "assistant" and choice["message"]["refusal"] is None
    assert "What is a pavise?" in choice["message"]["content"]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 60, "total_tokens": 64,
                               "prompt_tokens_details": {"cached_tokens": 0}}


def test_same_question_same_answer(demo):
    first, second = demo.chat("the same"), demo.chat("the same")
    assert first["choices"] == second["choices"]
    assert first["id"] != second["id"]
    assert demo.chat("another")["choices"] != first["choices"]


def test_stream_says_what_json_says(demo):
    answer = demo.chat()
    chunks = without_times(demo.stream())
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert not any("usage" in chunk for chunk in chunks)
    content, pieces, reasons = joined(chunks)
    assert content == answer["choices"][0]["message"]["content"]
    assert pieces == answer["usage"]["completion_tokens"]
    assert reasons == ["stop"]


def test_stream_with_usage(demo):
    chunks = without_times(demo.stream(stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == demo.chat()["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_answers_have_the_length_asked_for(demo):
    for tokens in *range(1, 100), 5000:
        answer = demo.chat(f"hello {tokens}", headers={"x_demo_tokens": tokens})
        content = answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] == len(content.split()) == tokens
        assert content[-1] in ".!" and content[0] != " "


def test_several_choices(demo):
    answer = demo.chat(n=3)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert len(set(texts)) == 3
    assert answer["usage"]["completion_tokens"] == sum(len(text.split()) for text in texts)
    chunks = without_times(demo.stream(n=3))
    for index, text in enumerate(texts):
        assert joined(chunks, index)[0] == text
        assert joined(chunks, index)[2] == ["stop"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_cap_cuts(demo, name):
    answer = demo.chat(**{name: 5})
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5
    assert demo.chat()["choices"][0]["message"]["content"].startswith(answer["choices"][0]["message"]["content"])
    content, pieces, reasons = joined(without_times(demo.stream(**{name: 5})))
    assert (content, pieces, reasons) == (answer["choices"][0]["message"]["content"], 5, ["length"])
    assert demo.chat(**{name: 60})["choices"][0]["finish_reason"] == "stop"


def test_prompt_tokens_count_the_words_of_all_messages(demo):
    parts = [{"type": "text", "text": "four little words here"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    messages = [{"role": "system", "content": " Be  brief.\n"}, {"role": "user", "content": parts}]
    assert demo.chat(messages=messages)["usage"]["prompt_tokens"] == 6


def test_a_question_in_any_script_comes_back_whole(demo):
    for text in "什么是盾牌" * 30, "Qu'est-ce qu'un «pavois» ? 🛡️", 'a "quoted"\nword \\':
        answer = demo.chat(text)["choices"][0]["message"]["content"]
        assert text.split()[0][:20] in answer
        assert joined(without_times(demo.stream(text)))[0] == answer


# ── Tools and structured answers ──────────────────────────────────────────────────────────────────────────────────────

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "required": ["city", "unit", "days", "where", "exact"],
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                   "days": {"type": "integer", "minimum": 2}, "where": {"$ref": "#/$defs/place"},
                   "exact": {"type": ["null", "boolean"]}, "optional": {"type": "string"}},
    "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]}}}}}
ARGUMENTS = {"city": "example", "unit": "celsius", "days": 2, "where": {"lat": 1}, "exact": True}


def test_the_tools_loop(demo):
    answer = demo.chat("Weather?", tools=[TOOL])
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_") and call["type"] == "function"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == ARGUMENTS
    messages = [{"role": "user", "content": "Weather?"}, choice["message"],
                {"role": "tool", "tool_call_id": call["id"], "content": "sunny, 21 degrees"}]
    final = demo.chat(messages=messages, tools=[TOOL])["choices"][0]
    assert final["finish_reason"] == "stop" and "sunny, 21 degrees" in final["message"]["content"]


def test_tool_arguments_stream_in_fragments(demo):
    chunks = without_times(demo.stream("Weather?", tools=[TOOL], stream_options={"include_usage": True}))
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    first = deltas[0]["tool_calls"][0]
    assert deltas[0]["role"] == "assistant" and deltas[0]["content"] is None
    assert first["index"] == 0 and first["id"] and first["function"] == {"name": "get_weather", "arguments": ""}
    fragments = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas[1:-1]]
    assert len(fragments) > 5 and json.loads("".join(fragments)) == ARGUMENTS
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["completion_tokens"] == len(fragments)
    assert demo.chat("Weather?", tools=[TOOL])["usage"] == chunks[-1]["usage"]


def test_tool_choice(demo):
    other = {"type": "function", "function": {"name": "other"}}
    assert demo.chat(tools=[TOOL], tool_choice="none")["choices"][0]["message"]["content"]
    named = demo.chat(tools=[TOOL, other], tool_choice={"type": "function", "function": {"name": "other"}})
    assert named["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "other", "arguments": "{}"}


SCHEMAS = {
    "order": (
        {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "boolean"}}},
        '{"z":"example","a":true}',
    ),
    "enum": ({"properties": {"e": {"enum": ["b", "a"]}, "c": {"const": 7}}}, '{"e":"b","c":7}'),
    "numbers": (
        {"properties": {
            "a": {"type": "integer", "exclusiveMinimum": 4},
            "b": {"type": "integer", "maximum": -3},
            "c": {"type": "number", "minimum": 0, "maximum": 0.5},
            "d": {"type": "integer", "minimum": 7, "multipleOf": 5},
            "e": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
        }},
        '{"a":5,"b":-3,"c":0.25,"d":10,"e":0.25}',
    ),
    "strings": (
        {"properties": {
            "a": {"type": "string", "maxLength": 2},
            "b": {"type": "string", "minLength": 9},
            "c": {"type": "string", "format": "date"},
        }},
        '{"a":"ex","b":"example..","c":"2026-01-01"}',
    ),
    "arrays": (
        {"properties": {
            "a": {"type": "array", "items": {"type": "integer"}},
            "b": {"type": "array", "minItems": 2, "items": {"type": "null"}},
            "c": {"prefixItems": [{"type": "string"}, {"type": "boolean"}]},
        }},
        '{"a":[1],"b":[null,null],"c":["example",true]}',
    ),
    "refs": (
        {"properties": {
            "a": {"$ref": "#/$defs/x~1y"},
            "b": {"allOf": [{"$ref": "#/definitions/n"}]},
            "c": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        }, "$defs": {"x/y": {"enum": [1]}}, "definitions": {"n": {"type": "object"}}},
        '{"a":1,"b":{},"c":null}',
    ),
    "missing": ({"type": "object", "required": ["x"]}, '{"x":"example"}'),
    "patterns": (
        {"properties": {name: {"type": "string", "pattern": pattern, **more} for name, pattern, more in (
            ("a", r"^\d{3}-\d{4}$", {}), ("b", r"^[A-Z]{2,5}(?:-[0-9a-f]+)?$", {}), ("c", r"^(ja|nein)$", {}),
            ("d", r"^[^a-z\s]+\.x?\$$", {"minLength": 6, "maxLength": 8}), ("e", "ü{2}", {}),
            ("f", r"^(a(b|c){2}|d){2}.*$", {"maxLength": 9}), ("g", r"^[\w.-]+@[a-z]+\.[a-z]{2,}$", {}))}},
        '{"a":"000-0000","b":"AA","c":"ja","d":"AAA.x$","e":"üü","f":"abbabb","g":"a@a.aa"}',
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_structured_answers_fit_their_schema(demo, name):
    schema, expected = SCHEMAS[name]
    form = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
    assert demo.chat(response_format=form)["choices"][0]["message"]["content"] == expected
    assert joined(without_times(demo.stream(response_format=form)))[0] == expected


@pytest.mark.parametrize("pattern", [r"^(?=.*\d)[a-z]+\d$", r"^(a)\1$", "^[ü]$", "^a{5000}$", "b^a"])
def test_what_the_demo_cannot_make_up_it_says(demo, pattern):
    schema = {"properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    status, answer, _ = demo.call("POST", "/v1/chat/completions", request("x", response_format=form))
    assert status == 400 and answer["error"]["param"] == "response_format.json_schema.schema"
    assert "cannot make up" in answer["error"]["message"]


def test_a_schema_may_refer_to_itself(demo):
    node = {"type": "object", "properties": {
        "value": {"type": "integer"},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    }}
    form = {"type": "json_schema", "json_schema": {"name": "node", "schema": node}}

    def check(value):
        assert list(value) == ["value", "children", "next"] and value["value"] == 1
        for child in value["children"]:
            check(child)
        if value["next"] is not None:
            check(value["next"])

    check(json.loads(demo.chat(response_format=form)["choices"][0]["message"]["content"]))
    endless = {"type": "json_schema", "json_schema": {"name": "endless", "schema": {"$ref": "#"}}}
    status, _, _ = demo.call("POST", "/v1/chat/completions", request("x", response_format=endless))
    assert status == 400


def test_json_object(demo):
    answer = demo.chat("Say it.", response_format={"type": "json_object"})["choices"][0]["message"]["content"]
    assert "Say it." in json.loads(answer)["answer"]


@pytest.mark.parametrize("prompt,choices", [
    ("Once upon a time", 1), (["Once upon", "a time"], 2), ([17, 4, 2], 1), ([[17, 4], [2]], 2), ([], 1), (None, 1)])
def test_text_completions_as_json_and_as_a_stream(demo, prompt, choices):
    body = {"model": "demo", "n": 2, **({} if prompt is None else {"prompt": prompt})}
    status, whole, _ = demo.call("POST", "/v1/completions", body)
    assert status == 200
    assert whole["object"] == "text_completion" and whole["id"].startswith("cmpl-")
    assert [choice["index"] for choice in whole["choices"]] == list(range(2 * choices))
    for choice in whole["choices"]:
        assert choice["text"] and (choice["logprobs"], choice["finish_reason"]) == (None, "stop")
    assert whole["usage"]["completion_tokens"] == 60 * 2 * choices

    connection = demo.connect()
    connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}))
    chunks = [chunk for _, chunk in events(connection.getresponse())]
    connection.close()
    assert chunks.pop() == "[DONE]"
    texts = [""] * len(whole["choices"])
    for chunk in chunks:
        assert chunk["object"] == "text_completion"
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_too_many_prompts(demo):
    status, answer, _ = demo.call("POST", "/v1/completions", {"model": "demo", "prompt": ["x"] * 100, "n": 2})
    assert (status, answer["error"]["param"]) == (400, "prompt")


# ── Embeddings, models ────────────────────────────────────────────────────────────────────────────────────────────────


def embed(demo, given, **fields):
    status, answer, _ = demo.call("POST", "/v1/embeddings", {"model": "demo-embedding", "input": given, **fields})
    assert status == 200, answer
    assert answer["object"] == "list" and answer["model"] == "demo-embedding"
    assert [item["index"] for item in answer["data"]] == list(range(len(answer["data"])))
    return [item["embedding"] for item in answer["data"]], answer["usage"]


def test_embeddings_are_unit_vectors_of_their_input(demo):
    [one], usage = embed(demo, "hello little world")
    assert len(one) == 1536 and math.isclose(sum(x * x for x in one), 1, rel_tol=1e-5)
    assert usage == {"prompt_tokens": 3, "total_tokens": 3}
    several, usage = embed(demo, ["hello little world", "another"])
    assert several[0] == one and several[1] != one
    assert usage["prompt_tokens"] == 4
    [tokens], usage = embed(demo, [1, 2, 3])
    assert usage["prompt_tokens"] == 3
    assert embed(demo, [[1, 2, 3], [4]])[0][0] == tokens


def test_embeddings_dimensions_and_base64(demo):
    [plain], _ = embed(demo, "hello", dimensions=8)
    [packed], _ = embed(demo, "hello", dimensions=8, encoding_format="base64")
    assert len(plain) == 8 and math.isclose(sum(x * x for x in plain), 1, rel_tol=1e-5)
    assert base64.b64decode(packed) == struct.pack("<8f", *plain)


BAD_EMBEDDINGS = [
    ({}, "input"),
    ({"input": []}, "input"),
    ({"input": ""}, "input"),
    ({"input": ["a", 1]}, "input"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "dimensions": "8"}, "dimensions"),
    ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
]


@pytest.mark.parametrize("fields,param", BAD_EMBEDDINGS)
def test_bad_embedding_requests(demo, fields, param):
    status, answer, _ = demo.call("POST", "/v1/embeddings", {"model": "demo", **fields})
    assert status == 400 and answer["error"]["param"] == param


def test_models(demo):
    status, answer, _ = demo.call("GET", "/v1/models")
    assert status == 200 and answer["object"] == "list"
    model = next(model for model in answer["data"] if model["id"] == "demo")
    assert model["object"] == "model" and isinstance(model["created"], int) and model["owned_by"]
    assert demo.call("GET", "/v1/models/demo")[1] == model
    status, answer, _ = demo.call("GET", "/v1/models/no%20such")
    assert status == 404 and answer["error"]["code"] == "model_not_found" and "no such" in answer["error"]["message"]


# ── Errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────

BAD_CHATS = [
    (b"{", "invalid_json", None),
    (b"", "invalid_json", None),
    (b"[]", "invalid_type", None),
    ({"messages": [{"role": "user", "content": "x"}]}, "missing_required_parameter", "model"),
    ({"model": "m"}, "missing_required_parameter", "messages"),
    ({"model": "m", "messages": []}, "invalid_value", "messages"),
    ({"model": "m", "messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
    (request("x", max_tokens=0), "invalid_value", "max_tokens"),
    (request("x", max_tokens="5"), "invalid_type", "max_tokens"),
    (request("x", n=0), "invalid_value", "n"),
    (request("x", response_format={"type": "xml"}), "invalid_value", "response_format.type"),
]


@pytest.mark.parametrize("body,code,param", BAD_CHATS)
def test_bad_chat_requests(demo, body, code, param):
    status, answer, _ = demo.call("POST", "/v1/chat/completions", body)
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error" and answer["error"]["message"]
    assert (answer["error"]["code"], answer["error"]["param"]) == (code, param)


WRONG_CALLS = [
    ("GET", "/", 404), ("POST", "/v1/responses", 404), ("GET", "/v1/modelsx", 404), ("GET", "/v1/completions", 405),
    ("GET", "/v1/chat/completions", 405), ("DELETE", "/v1/chat/completions", 405), ("PATCH", "/v1/embeddings", 405),
    ("POST", "/v1/models", 405), ("POST", "/v1/models/demo", 405), ("OPTIONS", "/healthz", 405),
]


@pytest.mark.parametrize("method,path,expected", WRONG_CALLS)
def test_wrong_urls_and_methods(demo, method, path, expected):
    status, answer, headers = demo.call(method, path)
    assert status == expected
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert headers["x-request-id"].startswith("req_")
    assert bool(headers["Allow"]) == (expected == 405)


def test_health(demo):
    assert demo.call("GET", "/healthz")[:2] == (200, {"status": "ok"})


def test_every_nth_request_fails():
    with running("--first-ms", 0, "--token-ms", 0, "--fail", "429:3") as demo:
        answers = [demo.call("POST", "/v1/chat/completions", request("x")) for _ in range(6)]
        assert [status for status, _, _ in answers] == [200, 200, 429] * 2
        _, answer, headers = answers[2]
        assert headers["Retry-After"] == "1"
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert answer["error"]["code"] == "rate_limit_exceeded"
        demo.chat()
        demo.chat()
        demo.chat(headers={"x_demo_fail": 0})
        assert demo.stats()["requests"] == 9


@pytest.mark.parametrize("status", [400, 418, 429, 500, 503, 599])
def test_a_request_may_ask_to_fail(demo, status):
    got, answer, headers = demo.call("POST", "/v1/chat/completions", request("x", stream=True), x_demo_fail=status)
    assert got == status and headers["Content-Type"] == "application/json"
    kinds = {400: "invalid_request_error", 418: "invalid_request_error", 429: "rate_limit_error"}
    assert answer["error"]["type"] == kinds.get(status, "server_error")


@pytest.mark.parametrize("name,value", [("x-demo-tokens", "0"), ("x-demo-tokens", "many"), ("x-demo-first-ms", "-1"),
                                        ("x-demo-token-ms", "1s"), ("x-demo-fail", "200")])
def test_bad_headers_are_said(demo, name, value):
    status, answer, _ = demo.call("POST", "/v1/chat/completions", request("x"), **{name: value})
    assert status == 400 and answer["error"]["param"] == name


def test_key():
    with running("--first-ms", 0, "--token-ms", 0, "--api-key", "sk-right") as demo:
        for given in None, "Bearer sk-wrong", "Bearer sk-righ", "sk-right":
            headers = {"Authorization": given} if given else {}
            status, answer, _ = demo.call("POST", "/v1/chat/completions", request("x"), **headers)
            assert status == 401 and answer["error"]["code"] == "invalid_api_key"
        demo.chat(headers={"Authorization": "Bearer sk-right"})
        assert demo.call("GET", "/v1/models")[0] == 401
        assert demo.call("GET", "/healthz")[0] == 200


BAD_OPTIONS = [
    ["--port", "65536"], ["--port", "x"], ["--tokens", "0"], ["--first-ms", "-1"], ["--nonsense"], ["extra"],
    ["--fail", "200"], ["--fail", "429:0"], ["--fail", "429:"], ["--fail", "4290000000"], ["--listen", ""],
    ["--tls-cert", "only.pem"], ["--tls-cert", "no-such.pem", "--tls-key", "no-such.pem"],
]


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_options(options):
    done = subprocess.run([BINARY, *options], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout


def test_help():
    done = subprocess.run([BINARY, "--help"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and "--token-ms" in done.stdout and "x-demo-fail" in done.stdout


def test_a_port_that_is_taken(demo):
    done = subprocess.run([BINARY, "--port", str(demo.port)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "in use" in done.stderr


# ── Time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tokens_arrive_one_after_the_other():
    with running("--first-ms", 100, "--token-ms", 20, "--tokens", 20) as demo:
        start = time.monotonic()
        stream = demo.stream()
        arrivals = [at - start for at, chunk in stream if chunk != "[DONE]" and joined([chunk])[1]]
        assert len(arrivals) == 20
        assert arrivals[0] >= 0.09
        # not in one piece; the first may have been read late, so half of the pace is enough to tell
        assert arrivals[-1] - arrivals[0] >= 19 * 0.020 / 2
        assert len({round(at, 2) for at in arrivals}) > 10, "in one lump"
        start = time.monotonic()
        demo.chat()
        assert time.monotonic() - start >= 0.4
        start = time.monotonic()
        demo.call("POST", "/v1/embeddings", {"model": "m", "input": "x"})
        assert time.monotonic() - start >= 0.09


def test_headers_win_over_options():
    with running("--first-ms", 60000, "--token-ms", 60000) as demo:
        pace = {"x_demo_first_ms": 10, "x_demo_token_ms": 5, "x_demo_tokens": 4}
        assert len(demo.stream(headers=pace)) == 1 + 4 + 1 + 1
        assert demo.chat(headers=pace)["usage"]["completion_tokens"] == 4


def test_stamps_say_when_each_token_was_made():
    with running("--first-ms", 0, "--token-ms", 5, "--stamp", "--tokens", 10) as demo:
        before = time.monotonic_ns() // 1000
        content, pieces, _ = joined(without_times(demo.stream()))
        stamps = [int(word) for word in content.split()]
        assert pieces == len(stamps) == 10 and content.endswith(" ")
        assert before <= stamps[0] and stamps == sorted(stamps) and stamps[-1] <= time.monotonic_ns() // 1000
        assert stamps[-1] - stamps[0] >= 45_000 / 2  # not all at once


def test_a_stream_without_a_pace_waits_for_a_slow_reader(demo):
    body = json.dumps(request("x", stream=True, stream_options={"include_usage": True})).encode()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(PATIENCE)
        s.connect(("127.0.0.1", demo.port))
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-demo-tokens: 20000\r\n"
                  b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(0.3)  # it makes what the buffers take, and others are served meanwhile
        assert demo.call("GET", "/healthz")[0] == 200
        response = http.client.HTTPResponse(s)
        response.begin()
        chunks = without_times(list(events(response)))
    assert joined(chunks)[1] == chunks[-1]["usage"]["completion_tokens"] == 20000


# ── Connections ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_connections_are_kept_alive(demo):
    connection = demo.connect()
    for stream in False, True, True, False:
        connection.request("POST", "/v1/chat/completions", json.dumps(request("x", stream=stream)))
        sock = connection.sock
        response = connection.getresponse()
        assert response.status == 200 and response.read()
    assert exchange(connection, "GET", "/nowhere", None, {})[0] == 404
    assert connection.sock is sock
    connection.close()


def test_requests_that_come_too_early_wait_for_their_turn(fresh):
    body = json.dumps(request("x")).encode()
    one = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-demo-first-ms: 50\r\n"
           b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    with socket.create_connection(("127.0.0.1", fresh.port), PATIENCE) as s:
        s.sendall(one)
        fresh.wait_for(chat=1)
        s.sendall(one + one)
        got = b""
        while got.count(b'"total_tokens"') < 3:
            data = s.recv(65536)
            assert data, got
            got += data


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("first_ms", [0, 60000])
@pytest.mark.parametrize("reset", [True, False])
def test_a_client_that_leaves_is_noticed(fresh, stream, first_ms, reset):
    body = json.dumps(request("x", stream=stream)).encode()
    with socket.create_connection(("127.0.0.1", fresh.port), PATIENCE) as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-demo-first-ms: %d\r\nx-demo-token-ms: 1000\r\n"
                  b"Content-Length: %d\r\n\r\n%s" % (first_ms, len(body), body))
        if stream and not first_ms:
            assert s.recv(1)
        fresh.wait_for(requests=1, chat=1, streams_open=int(stream), aborted=0)
        if reset:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    fresh.wait_for(streams_open=0, aborted=1)


def test_counters(fresh):
    fresh.chat()
    fresh.stream()
    fresh.call("POST", "/v1/chat/completions", b"{")
    fresh.call("POST", "/v1/embeddings", {"model": "m", "input": "x"})
    fresh.call("GET", "/v1/models")
    assert fresh.stats() == {"requests": 4, "chat": 3, "streams_open": 0, "aborted": 0, "embeddings": 1}


def test_dying_in_mid_stream():
    with running("--first-ms", 0, "--token-ms", 1, "--die-after", 5) as demo:
        connection = demo.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(request("x", stream=True)))
        response = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead) as broken:
            response.read()
        lines = broken.value.partial.splitlines()
        chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
        assert joined(chunks)[1:] == (5, [])
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            demo.call("POST", "/v1/chat/completions", request("x"))
        assert len(demo.stream(headers={"x_demo_tokens": 4})) == 7
        assert demo.stats()["aborted"] == 0 and demo.stats()["streams_open"] == 0


def test_long_bodies(demo):
    words = 1_000_000
    assert demo.chat("word " * words)["usage"]["prompt_tokens"] == words


def test_http_1_0(demo):
    body = json.dumps(request("x", stream=True)).encode()
    with socket.create_connection(("127.0.0.1", demo.port), PATIENCE) as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        response = http.client.HTTPResponse(s)
        response.begin()
        assert response.getheader("Transfer-Encoding") is None
        assert joined(without_times(list(events(response))))[1] == 60


def test_many_streams_at_once():
    with running("--first-ms", 50, "--token-ms", 5, "--tokens", 20) as demo:
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            streams = list(pool.map(lambda i: without_times(demo.stream(f"question {i}")), range(200)))
        assert all(joined(chunks)[1:] == (20, ["stop"]) for chunks in streams)
        assert len({joined(chunks)[0] for chunks in streams}) > 100
        assert demo.stats()["chat"] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once(number):
    with running("--token-ms", 60000) as demo:
        connection = demo.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(request("x", stream=True)))
        demo.wait_for(streams_open=1)
        start = time.monotonic()
        demo.process.send_signal(number)
        assert demo.process.wait(PATIENCE) == 0
        assert time.monotonic() - start < 2
        connection.close()


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA of our own, and what it signed for localhost."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    openssl("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "cert.pem")
    return folder


def test_tls(certificates):
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    options = ["--tls-cert", certificates / "cert.pem", "--tls-key", certificates / "key.pem"]
    with running("--first-ms", 100, "--token-ms", 2, *options, tls=context) as demo:
        answer = demo.chat()
        assert joined(without_times(demo.stream()))[0] == answer["choices"][0]["message"]["content"]
        connection = demo.connect()
        body = json.dumps(request("x", stream=True))
        connection.request("POST", "/v1/chat/completions", body, {"x-demo-token-ms": "60000"})
        demo.wait_for(streams_open=1)
        connection.close()
        demo.wait_for(streams_open=0, aborted=1)
        with pytest.raises(ssl.SSLCertVerificationError):
            demo.tls = ssl.create_default_context()
            demo.chat()
