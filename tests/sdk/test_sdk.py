"""
The clients that people use, against the real servers: each is a script that says of every check how it went (a line of
JSON), and here each check is a test. Beside that the providers are asked what they saw.
"""

import concurrent.futures
import json
import pathlib
import secrets
import subprocess
import threading

import pytest

import install
from faketime import Clock
from process import PATIENCE
from provider import chunk, completion, usage_chunk

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT_PATIENCE = 300

# name → program, and what it can do beside what everybody can
CLIENTS = {
    "openai-node": ("openai.mjs", {"completions across", "raw", "models", "told"}),
    "ai-sdk": ("ai-sdk.mjs", {"completions across"}),
    "langchain": ("langchain.mjs", set()),
    "openai-python": ("openai_client.py", {"completions across", "raw", "models", "told"}),
}
KEYS = dict(zip(CLIENTS, ("alice", "bob", "carol", "demo")))  # one each, where limits are counted

STATUSES = (400, 401, 403, 404, 409, 422, 429, 500, 503)


def forms(kind):
    """As node/checks.mjs, forms(): asked in one form first, then again, then in the other."""
    return [f"{kind}: {what}" for what in (
        "json, miss", "json, hit", "stream from the json entry", "stream, miss", "stream, hit",
        "json from the stream entry", "both forms agree")]


def checks_of(client):
    _, can = CLIENTS[client]
    names = [*forms("text"), *forms("tool loop"), *forms("structured"), *forms("text completion"),
             "embeddings: one", "embeddings: many, one of them known"]
    names += [f"error of ours: {status}" for status in (400, 401, 403, 404, 429)]
    names += [f"error of the provider: {status} {form}" for status in STATUSES for form in ("json", "stream")]
    names += [f"retry: {status}, {form}" for status in (429, 500) for form in ("json", "stream")]
    names += ["retry: a limit of ours", "abort: a miss", "abort: a hit", "error in mid-stream"]
    if "completions across" not in can:
        names = [name for name in names if not (name.startswith("text completion: ") and " from the " in name)]
    if "raw" in can:
        names += [*forms("several choices"), *forms("everything at once"), "embeddings: as numbers",
                  "every field: miss", "every field: hit"]
    if "models" in can:
        names += ["models: list", "models: one", "models: none"]
    if "told" in can:
        names += ["retry: not when we say so", "retry: not when the provider says so"]
        names += ["wait: an hour, as a provider says it", "wait: not for as long as we would have to say"]
    return names


def token(text, logprob):
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}


def tool_call(number, **more):
    return {"id": f"call_{number}", "type": "function", "function": {"name": "weather", **more}}


YES, SIR = token("Yes", -0.25), token(" sir", -1e-7)
RICH = [  # message, logprobs, finish_reason, and the (delta, logprobs) that add up to them
    ({"content": "Yes sir", "refusal": None}, {"content": [YES, SIR], "refusal": None}, "stop",
     [({"content": "", "refusal": None}, None), ({"content": "Yes"}, {"content": [YES], "refusal": None}),
      ({"content": " sir"}, {"content": [SIR], "refusal": None})]),
    ({"content": None, "refusal": "I am sorry."}, None, "stop",
     [({"content": None, "refusal": ""}, None), ({"refusal": "I am "}, None), ({"refusal": "sorry."}, None)]),
    ({"content": None, "refusal": None, "tool_calls": [tool_call(1, arguments='{"city":"Ulm"}'),
                                                       tool_call(2, arguments='{"city":"Köln"}')]}, None, "tool_calls",
     [({"content": None, "refusal": None, "tool_calls": [{"index": 0, **tool_call(1, arguments="")}]}, None),
      ({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}, None),
      ({"tool_calls": [{"index": 1, **tool_call(2, arguments='{"ci')}]}, None),
      ({"tool_calls": [{"index": 1, "function": {"arguments": 'ty":"Köln"}'}}]}, None),
      ({"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]}, None)]),
]


def choice_of(index, logprobs, finish, **said):
    return {"index": index, **said, "logprobs": logprobs, "finish_reason": finish}


def answer_richly(call):
    """Log probabilities, a refusal and two calls of tools at once, in the form that was asked for."""
    if not call.json.get("stream"):
        call.answer(completion(choices=[choice_of(i, logprobs, finish, message={"role": "assistant", **message})
                                        for i, (message, logprobs, finish, _) in enumerate(RICH)]))
        return
    call.stream_head()
    for step in range(6):
        for i, (_, _, finish, deltas) in enumerate(RICH):
            role = {"role": "assistant"} if step == 0 else {}
            if step < len(deltas):
                delta, logprobs = deltas[step]
                said = choice_of(i, logprobs, None, delta={**role, **delta})
            elif step == len(deltas):
                said = choice_of(i, None, finish, delta={})
            else:
                continue
            call.event({**chunk(service_tier="default"), "choices": [said]})
    call.event(usage_chunk())
    call.end_stream()


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False}
FIELDS = {  # nearly all that a chat request can have, and something that nobody knows
    "model": "fake", "n": 1, "seed": 7, "temperature": 0.5, "top_p": 1, "frequency_penalty": -1.5,
    "presence_penalty": 0, "max_completion_tokens": 100, "stop": ["\n\n", "END"], "logit_bias": {"50256": -100},
    "logprobs": True, "top_logprobs": 2, "user": "u-1", "safety_identifier": "s-1", "prompt_cache_key": "k",
    "metadata": {"a": "b"}, "reasoning_effort": "low", "verbosity": "low", "service_tier": "flex",
    "parallel_tool_calls": True,
    "modalities": ["text"], "prediction": {"type": "content", "content": "Es war einmal"},
    "response_format": {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}},
    "tools": [{"type": "function", "function": {"name": "weather", "strict": True, "parameters": CITY}}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "x_unknown": {"deep": [1, 2.5, None, "\u20ac", {"z": 1, "a": 2}]},
}
PARTS = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "name": "Ada", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}]},
    {"role": "assistant", "content": None, "tool_calls": [tool_call(1, arguments='{"city": "Ulm"}')]},
    {"role": "tool", "tool_call_id": "call_1", "content": "hail"},
]
ANSWER = completion("{\"city\":\"Ulm\"}", x_answer={"b": [1, {"c": None}], "a": "\u00e9"})
ANSWER["choices"][0]["message"] |= {"annotations": [], "reasoning_content": "Hm.", "x_message": 1.5}
ANSWER["usage"] = {**ANSWER["usage"], "completion_tokens_details": {"reasoning_tokens": 1}, "x_usage": "y"}


class Moods:
    """
    What the FakeProvider does for one client; prompts: mood → prompt. The path gone exists when the call that the client
    left has ended.
    """

    def __init__(self, provider, gone):
        self.provider, self.gone = provider, gone
        self.prompts = {f"status {status} {form}": provider.on(self.refuse(status))
                        for status in STATUSES for form in ("json", "stream")}
        for status in 429, 500:
            for form in "json", "stream":
                self.prompts[f"retry {status} {form}"] = provider.on(self.refuse_once(status))
        self.prompts["do not retry"] = provider.on(self.refuse(503, {"x-should-retry": "false"}))
        self.prompts["in an hour"] = provider.on(self.refuse(429, {"Retry-After": "3600"}))
        self.prompts["abort"] = provider.on(self.wait_for_the_end)
        self.prompts["break"] = provider.on(self.break_off)
        self.prompts["rich"] = provider.on(answer_richly)
        self.prompts["fields"] = provider.on(lambda call: call.answer(ANSWER))
        self.fields = {**FIELDS, "messages": [*PARTS, {"role": "user", "content": self.prompts["fields"]}]}

    def refuse(self, status, headers=None):
        return lambda call: call.error(status, f"no, {status}", headers, param="messages[0].content")

    def refuse_once(self, status):
        def script(call):
            if self.provider.calls(call.prompt) == 1:
                call.error(status, "not now", {"Retry-After": "1"})
            else:
                call.plain()
        return script

    def wait_for_the_end(self, call):
        """The first time a stream that begins and goes on until the other side leaves; then a whole answer."""
        if self.provider.calls(call.prompt) > 1:
            call.plain()
            return
        call.stream_head()
        call.event(chunk(delta={"role": "assistant", "content": ""}))
        call.event(chunk("one"))
        if call.peer_gone(PATIENCE):
            self.gone.touch()
        call.close()

    def break_off(self, call):
        call.stream_head()
        call.event(chunk(delta={"role": "assistant", "content": ""}))
        call.event(chunk("one"))
        call.event({"error": {"message": "out of breath", "type": "server_error", "param": None, "code": "breath"}})
        call.end_stream(done=False)

    def calls(self, mood):
        return self.provider.calls(self.prompts[mood])


class Run:
    """A client's script, run to its end: .checks (name → its line), or .skip (why not)."""

    def __init__(self, client, site, stack, limited, month):
        self.client, self.skip, self.checks, self.errors = client, None, {}, ""
        self.moods = Moods(stack.provider, pathlib.Path(site.folder) / f"{client}.gone")
        setup = {"url": f"http://127.0.0.1:{stack.client.port}/v1", "key": KEYS[client],
                 "limited_url": f"http://127.0.0.1:{limited.client.port}/v1",
                 "month_url": f"http://127.0.0.1:{month.client.port}/v1",
                 "prompts": self.moods.prompts, "tag": secrets.token_hex(6), "fields": self.moods.fields,
                 "answer": ANSWER, "gone": str(self.moods.gone)}
        try:
            command = self.command()
        except install.Unreachable as e:
            self.skip = str(e)
            return
        except AssertionError as e:
            self.errors = str(e)
            return
        with open(pathlib.Path(site.folder) / f"{client}.log", "w+", encoding="utf-8") as log:
            self.process = subprocess.Popen([*command, json.dumps(setup)], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=log, text=True)
            self.read()
            log.seek(0)
            self.errors += log.read()[-3000:]

    def command(self):
        script, _ = CLIENTS[self.client]
        if script.endswith(".mjs"):
            return ["node", str(install.npm() / script)]
        return [str(install.pypi()), str(HERE / "python" / script)]

    def read(self):
        """To the end of the script; whoever hangs is ended."""
        with self.process as process:
            timer = threading.Timer(SCRIPT_PATIENCE, process.kill)
            timer.start()
            for line in process.stdout:
                if line.startswith("{"):
                    said = json.loads(line)
                    self.checks[said["check"]] = said
                else:
                    self.errors += line
            timer.cancel()
            if process.wait():
                self.errors += f"ended with {process.returncode}\n"


@pytest.fixture(scope="session")
def runs(site):
    """All clients at once: most of their time they wait before they try again."""
    stack = site.start()
    limit = {"name": "one", "count": "requests", "per": ["key"], "amount": 1, "window": "2s"}
    limited = site.start({"limits": [limit]})
    clock = Clock(site.folder, "2036-03-10 00:00:00")  # the month has some time to go
    month = site.start({"limits": [{**limit, "window": "month"}]}, env=clock.env)
    with concurrent.futures.ThreadPoolExecutor(len(CLIENTS)) as pool:
        started = {client: pool.submit(Run, client, site, stack, limited, month) for client in CLIENTS}
        yield {client: run.result() for client, run in started.items()}


@pytest.fixture
def run(runs, client):
    if runs[client].skip:
        pytest.skip(runs[client].skip)
    return runs[client]


@pytest.mark.parametrize("client,check", [(client, check) for client in CLIENTS for check in checks_of(client)])
def test_client(run, check):
    said = run.checks.get(check)
    assert said, f"the script has said nothing of it:\n{run.errors}"
    assert said["ok"], said["detail"]


@pytest.mark.parametrize("client", CLIENTS)
def test_script_has_ended_well_and_said_nothing_else(run, client):
    assert set(run.checks) <= set(checks_of(client))
    assert "ended with" not in run.errors, run.errors


@pytest.mark.parametrize("client", CLIENTS)
def test_provider_saw_each_attempt(run, client):
    expected = {f"retry {status} {form}": 2 for status in (429, 500) for form in ("json", "stream")}
    expected |= {f"status {status} {form}": 1 for status in STATUSES for form in ("json", "stream")}
    if "told" in CLIENTS[client][1]:
        expected["do not retry"] = 1
    assert {mood: run.moods.calls(mood) for mood in expected} == expected


@pytest.mark.parametrize("client", [client for client in CLIENTS if "raw" in CLIENTS[client][1]])
def test_every_field_that_the_client_sends_arrives(run):
    [call] = run.moods.provider.requests(run.moods.prompts["fields"])
    assert call.json == run.moods.fields


@pytest.mark.parametrize("client", CLIENTS)
def test_provider_call_ends_when_the_client_leaves(run, client):
    assert run.moods.gone.exists()
    assert run.moods.calls("abort") == 2  # the second one was answered, the third from the cache
