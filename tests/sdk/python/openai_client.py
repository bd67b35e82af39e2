"""The official client for Python: each check is a line of JSON on stdout, which test_sdk.py makes a test of."""

import json
import os
import struct
import sys
import time
import traceback

import openai
import pydantic

SETUP = json.loads(sys.argv[1])
PROMPTS = SETUP["prompts"]
USAGE = {"stream_options": {"include_usage": True}}


def unique(text):
    return f"{text} {SETUP['tag']}"


def user(text):
    return [{"role": "user", "content": text}]


def check(name):
    """Runs what it decorates, at once, and says how it went."""
    def run(function):
        said = {"check": name, "ok": True, "detail": ""}
        try:
            function()
        except Exception:  # whatever it is, it is said
            said = {"check": name, "ok": False, "detail": traceback.format_exc()}
        print(json.dumps(said), flush=True)
    return run


class Client(openai.OpenAI):
    """.seen: (status, X-Cache) of every answer that came."""

    def __init__(self, key=None, url=None, max_retries=0):
        self.seen = []
        super().__init__(base_url=url or SETUP["url"], api_key=key or SETUP["key"], max_retries=max_retries,
                         http_client=openai.DefaultHttpxClient(event_hooks={"response": [self.note]}))

    def note(self, response):
        self.seen.append((response.status_code, response.headers.get("x-cache")))

    @property
    def statuses(self):
        return [status for status, _ in self.seen]

    @property
    def caches(self):
        return [cache for _, cache in self.seen]


def plain(answer):
    """As a dict, less what differs from one answer to the next and what only this SDK adds (nulls; a call's place)."""
    out = answer if isinstance(answer, dict) else answer.model_dump(exclude_none=True, warnings=False)
    for choice in out.get("choices", []):
        for call in choice.get("message", {}).get("tool_calls", []):
            call.pop("index", None)
    return {name: value for name, value in out.items() if name not in ("id", "created")}


def forms(kind):
    """As forms() in node/checks.mjs: decorates ask(form, client), which returns the answer as plain data."""
    def run(ask):
        first = {}

        def asked(form, key, cache):
            client = Client(key)
            answer = ask(form, client)
            assert client.caches and set(client.caches) == {cache}, f"expected {cache}: {client.caches}"
            return answer

        def again(form, key, entry):
            answer = asked(form, key, "HIT")
            assert answer == first[entry], f"\n{answer}\n{first[entry]}"

        for form, other, key in (("json", "stream", "alice"), ("stream", "json", "bob")):
            @check(f"{kind}: {form}, miss")
            def _():
                first[form] = asked(form, key, "MISS")

            check(f"{kind}: {form}, hit")(lambda: again(form, key, form))
            check(f"{kind}: {other} from the {form} entry")(lambda: again(other, key, form))

        @check(f"{kind}: both forms agree")
        def _():
            assert first["json"] == first["stream"], f"\n{first['json']}\n{first['stream']}"
    return run


def thrown(function, *args, **options):
    try:
        value = function(*args, **options)
    except Exception as e:
        return e
    raise AssertionError(f"it should have failed, but: {value}")


# ── Chat in both forms ────────────────────────────────────────────────────────────────────────────────────────────────


def chat(form, client, model="demo", **body):
    """The SDK's own object."""
    if form == "json":
        return client.chat.completions.parse(model=model, **body)
    with client.chat.completions.stream(model=model, **body, **USAGE) as stream:
        return stream.get_final_completion()


@forms("text")
def text(form, client):
    answer = plain(chat(form, client, messages=user(unique("What is a pavise?"))))
    assert "pavise" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] > 0
    return answer


@forms("several choices")
def several(form, client):
    answer = plain(chat(form, client, messages=user(unique("Three, please.")), n=3))
    assert len(answer["choices"]) == 3
    return answer


@forms("everything at once")
def everything(form, client):
    answer = plain(chat(form, client, "fake", messages=user(PROMPTS["rich"]), n=3, logprobs=True))
    yes, sorry, calls = answer["choices"]
    assert [t["token"] for t in yes["logprobs"]["content"]] == ["Yes", " sir"]
    assert sorry["message"]["refusal"] == "I am sorry."
    assert [json.loads(call["function"]["arguments"]) for call in calls["message"]["tool_calls"]] == [
        {"city": "Ulm"}, {"city": "Köln"}]
    return answer


class Weather(pydantic.BaseModel):
    """The weather in a city."""

    city: str
    days: int


@forms("tool loop")
def tools(form, client):
    messages, answers = user(unique("What is the weather like?")), []
    for _ in range(4):
        answer = chat(form, client, messages=messages, tools=[openai.pydantic_function_tool(Weather, name="weather")])
        answers.append(plain(answer))
        message = answer.choices[0].message
        messages.append({"role": "assistant", "content": message.content,
                         **({"tool_calls": [{"id": call.id, "type": "function", "function": {
                             "name": call.function.name, "arguments": call.function.arguments}}
                             for call in message.tool_calls]} if message.tool_calls else {})})
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            assert isinstance(call.function.parsed_arguments, Weather)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "hail"})
    assert len(answers) == 2
    assert 'The tool answered "hail"' in answers[1]["choices"][0]["message"]["content"]
    return json.loads(json.dumps(answers, default=lambda o: o.model_dump()))


class Step(pydantic.BaseModel):
    n: int
    text: str


class Reply(pydantic.BaseModel):
    title: str
    steps: list[Step]
    note: str | None


@forms("structured")
def structured(form, client):
    answer = chat(form, client, messages=user(unique("Structure it.")), response_format=Reply)
    assert isinstance(answer.choices[0].message.parsed, Reply)
    return plain(answer)


def every_field(cache):
    client, body = Client(), dict(SETUP["fields"])
    unknown = {"x_unknown": body.pop("x_unknown")}
    answer = client.chat.completions.create(**body, extra_body=unknown).to_dict()
    same = {"id": answer["id"], "created": answer["created"]}
    assert answer == {**SETUP["answer"], **same}, f"\n{answer}\n{SETUP['answer']}"
    assert client.caches == [cache]


check("every field: miss")(lambda: every_field("MISS"))
check("every field: hit")(lambda: every_field("HIT"))


def assembled(stream):
    """The SDK has nothing that puts a text completion's stream together."""
    out = {}
    for chunk in stream:
        part = chunk.model_dump(exclude_none=True)
        choices, usage = out.get("choices", []), part.get("usage") or out.get("usage")
        for choice in part["choices"]:
            if choice["index"] == len(choices):
                choices.append(choice)
                continue
            to = choices[choice["index"]]
            to.update(choice, text=to["text"] + choice["text"])
        out.update(part, choices=choices, usage=usage)
    return out


@forms("text completion")
def completion(form, client):
    body = {"model": "demo", "prompt": [unique("Once upon a time"), "there was"], "n": 2}
    answer = plain(client.completions.create(**body) if form == "json" else
                   assembled(client.completions.create(**body, stream=True, **USAGE)))
    assert answer["object"] == "text_completion"
    assert len(answer["choices"]) == 4 and all(choice["text"] for choice in answer["choices"])
    return answer


# ── Embeddings, models ────────────────────────────────────────────────────────────────────────────────────────────────

FOX, DOG = unique("a quick brown fox"), unique("a lazy dog")


def vectors(answer):
    return [list(d.embedding) for d in answer.data]


@check("embeddings: one")
def _():
    client = Client()
    once, twice = (client.embeddings.create(model="demo", input=FOX) for _ in range(2))
    assert client.caches == ["MISS", "HIT"]
    assert len(once.data[0].embedding) == 1536 and once.usage.prompt_tokens > 0
    assert (vectors(twice), twice.usage) == (vectors(once), once.usage)


@check("embeddings: many, one of them known")
def _():
    client = Client()
    known, both, again = (client.embeddings.create(model="demo", input=what) for what in (FOX, [DOG, FOX], [FOX, DOG]))
    assert client.caches[2] == "HIT"
    assert [d.index for d in both.data] == [0, 1]
    assert vectors(both)[1] == vectors(known)[0] != vectors(both)[0]
    assert vectors(again) == vectors(both)[::-1]
    assert again.usage == both.usage


@check("embeddings: as numbers")
def _():
    client = Client()
    decoded = client.embeddings.create(model="demo", input=FOX)
    numbers, again = (client.embeddings.create(model="demo", input=FOX, encoding_format="float") for _ in range(2))
    assert client.caches == ["HIT", "MISS", "HIT"]
    as_float = [struct.unpack("f", struct.pack("f", x))[0] for x in numbers.data[0].embedding]
    assert as_float == vectors(decoded)[0]
    assert vectors(again) == vectors(numbers)


@check("models: list")
def _():
    assert sorted(model.id for model in Client().models.list()) == ["demo", "fake"]


@check("models: one")
def _():
    model = Client().models.retrieve("demo")
    assert (model.id, model.object, model.owned_by) == ("demo", "model", "demo")


@check("models: none")
def _():
    e = thrown(Client().models.retrieve, "a/b c")
    assert isinstance(e, openai.NotFoundError) and e.code == "model_not_found", e


# ── Errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CLASSES = {400: openai.BadRequestError, 401: openai.AuthenticationError, 403: openai.PermissionDeniedError,
           404: openai.NotFoundError, 409: openai.ConflictError, 422: openai.UnprocessableEntityError,
           429: openai.RateLimitError, 500: openai.InternalServerError, 503: openai.InternalServerError}


def is_error(e, status, code, param):
    assert type(e) is CLASSES[status], repr(e)
    assert (e.status_code, e.code, e.param) == (status, code, param)
    assert e.type and e.request_id


def until_refused(**body):
    """Waits until a limit of ours says no, whatever the window."""
    client = Client(url=SETUP["limited_url"])
    for _ in range(100):
        try:
            client.chat.completions.create(model="demo", **body)
        except openai.APIStatusError as e:
            return e
    raise AssertionError("a hundred requests, and none was refused")


for number, code_, param_, options_, body_ in (
        (400, "invalid_type", "temperature", {}, {"temperature": "hot"}),
        (401, "invalid_api_key", None, {"key": "nobody"}, {}),
        (403, "model_not_allowed", "model", {"key": "limited"}, {"model": "fake"}),
        (404, "model_not_found", "model", {}, {"model": "nothing"})):
    @check(f"error of ours: {number}")
    def _():
        create = Client(**options_).chat.completions.create
        is_error(thrown(create, **{"model": "demo", "messages": user("x"), **body_}), number, code_, param_)


@check("error of ours: 429")
def _():
    e = until_refused(messages=user(unique("again")))
    is_error(e, 429, "rate_limit_exceeded", None)
    assert int(e.response.headers["retry-after"]) >= 1


for number in CLASSES:
    for form_ in "json", "stream":
        @check(f"error of the provider: {number} {form_}")
        def _():
            messages = user(PROMPTS[f"status {number} {form_}"])
            e = thrown(Client().chat.completions.create, model="fake", messages=messages, stream=form_ == "stream")
            is_error(e, number, "fake_code", "messages[0].content")
            assert e.type == "fake_error" and f"no, {number}" in str(e)


@check("error in mid-stream")
def _():
    pieces = []
    try:
        for piece in Client().chat.completions.create(model="fake", messages=user(PROMPTS["break"]), stream=True):
            pieces.append(piece.choices[0].delta.content or "")
        raise AssertionError("it should have failed")
    except openai.APIError as e:
        assert "out of breath" in str(e)
    assert "".join(pieces) == "one"


# ── Trying again, giving up ───────────────────────────────────────────────────────────────────────────────────────────

for number in 429, 500:
    for form_ in "json", "stream":
        @check(f"retry: {number}, {form_}")
        def _():
            client, messages = Client(max_retries=2), user(PROMPTS[f"retry {number} {form_}"])
            if form_ == "json":
                answer = client.chat.completions.create(model="fake", messages=messages)
            else:
                with client.chat.completions.stream(model="fake", messages=messages) as stream:
                    answer = stream.get_final_completion()
            assert answer.choices[0].message.content == "It is fine."
            assert client.statuses == [number, 200]


@check("retry: a limit of ours")
def _():
    body = {"messages": user(unique("once more"))}
    until_refused(**body)
    answer = Client(url=SETUP["limited_url"], max_retries=5).chat.completions.create(model="demo", **body)
    assert answer.choices[0].message.content


def only_once(model, prompt):
    client = Client(max_retries=2)
    e = thrown(client.chat.completions.create, model=model, messages=user(prompt))
    assert isinstance(e, openai.InternalServerError), repr(e)
    assert client.statuses == [503]


check("retry: not when we say so")(lambda: only_once("off", "x"))
check("retry: not when the provider says so")(lambda: only_once("fake", PROMPTS["do not retry"]))


@check("wait: an hour, as a provider says it")
def _():
    client = Client(max_retries=2)
    e = thrown(client.chat.completions.create, model="fake", messages=user(PROMPTS["in an hour"]))
    assert isinstance(e, openai.RateLimitError), repr(e)
    assert client.statuses == [429]  # this one gives up by itself


@check("wait: not for as long as we would have to say")
def _():
    client, body = Client(url=SETUP["month_url"], max_retries=2), {"messages": user(unique("this month"))}
    client.chat.completions.create(model="demo", **body)
    e = thrown(client.chat.completions.create, model="demo", **body)
    assert isinstance(e, openai.RateLimitError), repr(e)
    assert client.statuses == [200, 429] and int(e.response.headers["retry-after"]) > 120


def leave(client, **body):
    """Leaves with the first piece of text."""
    with client.chat.completions.create(stream=True, **body) as stream:
        return next(c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content)


def left_alone():
    """Until the call that this client has left is ended: who asks the same before that is told what it says."""
    for _ in range(600):
        if os.path.exists(SETUP["gone"]):
            return
        time.sleep(0.05)


@check("abort: a miss")
def _():
    client, body = Client(), {"model": "fake", "messages": user(PROMPTS["abort"])}
    assert leave(client, **body) == "one"
    left_alone()
    whole, again = (client.chat.completions.create(**body) for _ in range(2))
    assert client.caches == ["MISS", "MISS", "HIT"]
    assert whole.choices[0].message.content == "It is fine."
    assert plain(again) == plain(whole)


@check("abort: a hit")
def _():
    client, body = Client(), {"model": "demo", "messages": user(unique("Do not interrupt me."))}
    whole = client.chat.completions.create(**body)
    assert whole.choices[0].message.content.startswith(leave(client, **body))
    assert plain(client.chat.completions.create(**body)) == plain(whole)
    assert client.caches == ["MISS", "HIT", "HIT"]
