"""
What pavise may answer: a provider that remembers every answer it gave, and a judge of what the clients were given.

Every answer of the provider carries a serial number of its own, and the provider knows for whom it was made by the
trace that travels with the call. Nothing is compared while it happens: requests and answers are noted with the times
between which they happened, and judged when all is over, so that only what is wrong in every order of events is wrong.
"""

import base64
import collections
import dataclasses
import datetime
import itertools
import json
import random
import re
import threading
import time

from provider import USAGE

LARGE = base64.b64encode(random.Random(7).randbytes(1_200_000)).decode()
SCHEMA = {"type": "json_schema", "json_schema": {"name": "numbered", "strict": True, "schema": {
    "type": "object", "properties": {"serial": {"type": "integer"}}, "required": ["serial"],
    "additionalProperties": False}}}
VECTOR = 0.25
STRANGE = '{"strange": 1, "strange": 2}'  # no event that we could read: passed on, and nothing is remembered
STALE = 3  # seconds after which who has not been heard of leads no more
CLOCK = 0.003  # log lines have milliseconds

Question = collections.namedtuple("Question", "scope kind model text")
PATHS = {"chat": "/v1/chat/completions", "schema": "/v1/chat/completions", "large": "/v1/chat/completions",
         "text": "/v1/completions", "embed": "/v1/embeddings"}


def body_of(kind, model, texts):
    """What a client sends, less how it wants the answer."""
    if kind == "embed":
        return {"model": model, "input": texts}
    if kind == "text":
        return {"model": model, "prompt": texts[0]}
    body = {"model": model, "messages": [{"role": "user", "content": texts[0]}]}
    return {**body, "response_format": SCHEMA} if kind == "schema" else body


@dataclasses.dataclass
class Asked:
    """One request, and what became of it."""
    key: str
    kind: str
    model: str
    scope: str
    texts: list
    stream: bool
    usage: bool  # asked for it in a stream
    controls: dict
    ttl: float  # for which its answer is remembered
    number: int
    host: int  # which one was asked
    begun: float = 0
    ended: float = 0
    status: int = 0
    cache: str = ""
    age: int = 0
    left: int = 0  # Cache-Status's ttl
    refused: bool = False
    broken: bool = False  # an error, or an end before its time
    got: list = dataclasses.field(default_factory=list)  # (Question, serial)

    @property
    def trace(self):
        return f"{self.number:032x}"

    @property
    def questions(self):
        return [Question(self.scope, self.kind, self.model, text) for text in self.texts]

    def says(self, word):
        return word in self.controls.get("Cache-Control", "")

    @property
    def max_age(self):
        found = re.search(r"max-age=(\d+)", self.controls.get("Cache-Control", ""))
        return int(found.group(1)) if found else None


@dataclasses.dataclass
class Given:
    """One call, and what the provider said."""
    serial: int
    asked: Asked
    how: str
    stream: bool
    arrived: float
    pieces: list = dataclasses.field(default=None, repr=False)  # of the content
    sent: bytes = dataclasses.field(default=b"", repr=False)  # as JSON
    deltas: list = dataclasses.field(default=None, repr=False)  # of a stream
    last: float = None  # when its last bytes were about to be sent
    complete: bool = False  # all of it is there
    lasting: bool = False  # and it is one that may be remembered


class Wrong(AssertionError):
    pass


# ── The provider ──────────────────────────────────────────────────────────────────────────────────────────────────────


def completion(given):
    """The answer as JSON; a stream says the same in pieces."""
    text, kind = "".join(given.pieces), given.asked.kind
    if kind == "text":
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}
    else:
        choice = {"index": 0, "message": {"role": "assistant", "content": text, "refusal": None}, "logprobs": None,
                  "finish_reason": "stop"}
    return {"id": f"up-{given.serial}", "object": "text_completion" if kind == "text" else "chat.completion",
            "created": 1700000000, "model": "fake-1", "choices": [choice], "usage": USAGE,
            "system_fingerprint": f"fp_{given.serial}"}


def chunks(given):
    whole = completion(given)
    head = {**whole, "object": whole["object"] + ("" if given.asked.kind == "text" else ".chunk"), "usage": None}

    def one(finish=None, **delta):
        if given.asked.kind == "text":
            choice = {"text": delta.get("content", ""), "index": 0, "logprobs": None, "finish_reason": finish}
        else:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]}
    first = [] if given.asked.kind == "text" else [one(role="assistant", content="", refusal=None)]
    return first + [one(content=piece) for piece in given.pieces] + [one(finish="stop")]


class Oracle:
    """Give .answer to a FakeProvider; note() what is asked and given; judge() it at the end."""

    def __init__(self, seed, faults):
        self.chance, self.faults = random.Random(seed), faults
        self.lock, self.numbers = threading.Lock(), itertools.count(1)
        self.given, self.asked, self.by_trace, self.wrongs = {}, [], {}, []
        self.purges = []  # (scopes, models, begun, ended)

    def note(self, asked):
        with self.lock:
            self.asked.append(asked)
            self.by_trace[asked.trace] = asked

    def answer(self, call):
        """The script of every call."""
        try:
            trace = call.headers["traceparent"].split("-")[1]
            with self.lock:
                asked, chance = self.by_trace[trace], random.Random(self.chance.random())
                stream = bool(call.json.get("stream"))
                given = Given(next(self.numbers), asked, self.mood(asked, stream, chance), stream, time.time())
                self.given[given.serial] = given
            self.check_question(call, asked)
        except Exception as e:  # a thread of the provider's: nobody would hear of it
            self.wrongs.append(f"{type(e).__name__}: {e}")
            raise
        given.pieces = self.pieces(given, chance)
        if chance.random() < 0.3:  # long enough for others to ask the same
            time.sleep(chance.random() * 0.03)
        if asked.kind == "embed":
            self.embeddings(call, given)
        elif given.stream:
            self.streamed(call, given, chance)
        else:
            self.whole(call, given, chance)

    def mood(self, asked, stream, chance):
        how = chance.choice(self.faults) if chance.random() < 0.25 else "good"
        cannot = {"misfit": asked.kind != "schema", "no choices": asked.kind == "embed",
                  "unsaid": not stream, "error event": not stream}
        return "good" if cannot.get(how) else how

    def check_question(self, call, asked):
        said = {name: value for name, value in call.json.items() if name not in ("stream", "stream_options")}
        expected = body_of(asked.kind, asked.model, asked.texts)
        if asked.kind == "embed" and isinstance(said.get("input"), list):  # those that are not known yet
            rest = iter(expected["input"])
            expected["input"] = [text for text in said["input"] if text in rest]
        if said != expected:
            raise Wrong(f"{asked} became {said}")
        if asked.says("only-if-cached"):
            raise Wrong(f"{asked} became a call")

    def pieces(self, given, chance):
        asked, serial = given.asked, given.serial
        if asked.kind == "schema":
            return ['{"serial"', ": ", f'"{serial}"}}' if given.how == "misfit" else f"{serial}}}"]
        text = f"{serial}|{asked.texts[0]}|"
        if asked.kind == "large":
            return [text, *(LARGE[at:at + 300_000] for at in range(0, len(LARGE), 300_000))]
        return [text, *(str(chance.random()) for _ in range(chance.randrange(4)))]

    def embeddings(self, call, given):
        data = [{"object": "embedding", "index": i, "embedding": [given.serial, VECTOR]}
                for i, _ in enumerate(call.json["input"])]
        self.send_whole(call, given, {"object": "list", "data": data, "model": "fake-1",
                                      "usage": {"prompt_tokens": 10 * len(data), "total_tokens": 10 * len(data)}})

    def whole(self, call, given, chance):
        if given.how == "no choices":
            self.send_whole(call, given, {**completion(given), "choices": []})
        else:
            self.send_whole(call, given, completion(given))

    def send_whole(self, call, given, body):
        how, data = given.how, json.dumps(body).encode()
        if how == "strange":  # JSON to some: passed on, and not to be remembered
            data = b'{"model":"twice",' + data[1:]
        given.sent = data
        given.complete = how not in ("cut", "reset", "hang", "stall", "nonsense", "error", "overloaded", "page")
        given.lasting = given.complete and how not in ("strange", "no choices", "misfit")
        given.last = time.time()
        if how == "error":
            call.error(500)
        elif how == "overloaded":
            call.error(429, headers={"Retry-After": "1"})
        elif how == "hang":
            call.hang(5)
        elif how == "nonsense":
            call.answer(data[:len(data) * 2 // 3])
        elif how == "page":
            call.answer(b"<html>It works!</html>", headers={"Content-Type": "text/html"})
        elif how in ("cut", "reset", "stall"):
            call.head(200, {"Content-Type": "application/json", "Content-Length": len(data)})
            call.send(data[:len(data) * 2 // 3])
            {"cut": call.close, "reset": call.reset, "stall": lambda: call.hang(5)}[how]()
        else:
            call.answer(data)

    def streamed(self, call, given, chance):
        how = given.how
        if how in ("error", "overloaded", "hang", "page", "nonsense", "no choices"):
            self.whole(call, given, chance)  # with a content type that is no stream's
            return
        given.deltas = chunks(given)
        given.complete = how not in ("cut", "reset", "stall", "error event")
        given.lasting = given.complete and how not in ("unsaid", "strange", "misfit")
        events = given.deltas if given.complete else given.deltas[:1 + chance.randrange(len(given.deltas) - 1)]
        call.stream_head()
        for event in events[:-1]:
            call.event(event)
        if how == "strange":
            call.event(STRANGE)
        given.last = time.time()
        call.event(events[-1])
        if given.complete and call.json.get("stream_options", {}).get("include_usage"):
            call.event({**given.deltas[0], "choices": [], "usage": USAGE})
        if how == "error event":
            call.event({"error": {"message": "no", "type": "fake_error", "param": None, "code": "fake_code"}})
        if how in ("cut", "reset", "stall"):
            {"cut": call.close, "reset": call.reset, "stall": lambda: call.hang(5)}[how]()
        else:
            call.end_stream(done=how not in ("unsaid", "error event"))

    # ── What a client was given: its content is judged at once, and only its number kept ──

    def read(self, asked, answer):
        asked.status, asked.cache = answer.status, answer.headers["X-Cache"] or ""
        asked.age = int(answer.headers["Age"] or 0)
        left = re.search(r"hit; ttl=(-?\d+)", answer.headers["Cache-Status"] or "")
        asked.left = int(left.group(1)) if left else None
        if answer.status != 200:
            asked.broken = True
            asked.refused = answer.status == 429 and answer.error["code"] == "rate_limit_exceeded"
            if answer.status not in (429, 500, 502, 503, 504):
                raise Wrong(f"{asked}: {answer}")
        elif asked.kind == "embed":
            self.read_embeddings(asked, answer)
        elif asked.stream:
            self.read_stream(asked, answer)
        else:
            self.read_whole(asked, answer)

    def of(self, asked, text, question):
        found = re.search(r'"serial": "?(\d+)|^(\d+)\|', text)
        given = self.given.get(int(found.group(1) or found.group(2))) if found else None
        if not given:
            raise Wrong(f"{asked}: nobody ever said {text[:100]!r}")
        asked.got.append((question, given.serial))
        return given

    def read_embeddings(self, asked, answer):
        data = answer.json["data"]
        if [item["index"] for item in data] != list(range(len(asked.texts))):
            raise Wrong(f"{asked}: {answer}")
        for item, question in zip(data, asked.questions):
            given = self.given[item["embedding"][0]]
            if question not in given.asked.questions or item["embedding"][1:] != [VECTOR]:
                raise Wrong(f"{asked}: {item} of {given}")
            asked.got.append((question, given.serial))

    def read_whole(self, asked, answer):
        body = answer.json
        if not body["choices"] and asked.cache in ("MISS", "BYPASS", "COLLAPSED"):
            return
        choice = body["choices"][0]
        given = self.of(asked, choice["text"] if asked.kind == "text" else choice["message"]["content"],
                        asked.questions[0])
        if asked.cache in ("MISS", "BYPASS"):
            same = answer.body == given.sent
        else:
            mine, its = lasting(body), lasting(completion(given) if given.stream else json.loads(given.sent))
            # in its order too, if that is known
            same = mine == its and (given.stream or json.dumps(mine) == json.dumps(its))
        if not same:
            raise Wrong(f"{asked} was answered {answer.body[:1000]!r} of {given}")
        self.check_fresh(asked, body, given)

    def check_fresh(self, asked, body, given):
        if asked.cache in ("HIT", "STALE") and (body["id"] == f"up-{given.serial}" or not asked.begun - 2 <=
                                                body["created"] <= time.time() + 2):
            raise Wrong(f"{asked}: id {body['id']}, created {body['created']}")

    def read_stream(self, asked, answer):
        events = answer.events
        asked.broken = not events or events[-1] != "[DONE]"
        said = [e for e in events if e != "[DONE]" and "error" not in e and "strange" not in e]
        deltas = [e for e in said if e["choices"]]
        if not deltas:
            asked.broken = True
            return
        field = (lambda c: c["text"]) if asked.kind == "text" else (lambda c: c["delta"].get("content") or "")
        text = "".join(field(e["choices"][0]) for e in deltas)
        if not text:
            asked.broken = True
            return
        if asked.broken and asked.kind == "schema" and not re.search(r"\d", text):
            return
        given = self.of(asked, text, asked.questions[0])
        whole = "".join(given.pieces)
        if not (whole.startswith(text) if asked.broken else text == whole):
            raise Wrong(f"{asked} was told {text[:1000]!r} of {given}")
        if given.deltas:  # it streamed at these boundaries
            expected = [lasting(e) for e in given.deltas]
            if [lasting(e) for e in deltas] != (expected[:len(deltas)] if asked.broken else expected):
                raise Wrong(f"{asked} was told {deltas[:20]} of {given}")
        if asked.usage and not asked.broken and said[-1].get("usage") != USAGE:
            raise Wrong(f"{asked} was told no usage: {said[-1]} of {given}")
        self.check_fresh(asked, said[0], given)


def lasting(body):
    """Less what is made anew for each answer; in a chunk, less its usage, which depends on who asks."""
    less = {"id", "created"} | ({"usage"} if not body["object"].endswith("completion") or "usage" in body and
                                body["usage"] is None else set())
    return {name: value for name, value in body.items() if name not in less}


# ── The judge ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Judge:
    """lines: the program's log lines; a request has stored its answer before it writes its own."""

    def __init__(self, oracle, lines, stale_while_revalidate=0, stale_if_error=0):
        self.oracle, self.windows = oracle, (stale_while_revalidate, stale_if_error)
        self.over = collections.defaultdict(lambda: float("-inf"))
        for line in lines:
            if "trace_id" in line:
                at = datetime.datetime.fromisoformat(line["time"]).timestamp() + CLOCK
                self.over[line["trace_id"]] = max(self.over[line["trace_id"]], at)

    def wrongs(self):
        """Everything that must not be, in words."""
        out = list(self.oracle.wrongs)
        for asked in self.oracle.asked:
            for question, serial in asked.got:
                given = self.oracle.given[serial]
                wrong = self.wrong(asked, question, given)
                if wrong:
                    out.append(f"{wrong}:\n  {asked}\n  {given}"[:3000])
            if asked.cache == "HIT" and asked.broken:
                out.append(f"a hit that is broken: {asked}")
            if asked.says("only-if-cached") and asked.ended and not (asked.broken or asked.cache in ("HIT", "STALE")):
                out.append(f"only-if-cached, and no hit: {asked}")
        return out

    def wrong(self, asked, question, given):
        own = given.asked is asked
        if question not in given.asked.questions:
            return "the answer to another question, or of another scope"
        if own and asked.cache in ("MISS", "BYPASS"):
            return None if given.complete or asked.broken else "a broken answer that looks whole"
        if asked.cache == "COLLAPSED":
            return self.wrong_shared(asked, given)
        if asked.cache in ("HIT", "STALE") or asked.kind == "embed":
            return self.wrong_remembered(asked, given)
        return "a call of its own that answers with another's"

    def stored_by(self, given):
        """When it was stored at the latest."""
        return self.over.get(given.asked.trace, float("inf"))

    def purged(self, asked, given):
        question = given.asked.questions[0]
        for scopes, models, begun, ended in self.oracle.purges:
            if (question.scope in scopes or question.model in models) and given.arrived < begun and ended < asked.begun:
                return True
        return False

    def wrong_shared(self, asked, given):
        if not given.complete and not asked.broken:
            return "a broken answer that looks whole"
        # another host may be told a little later that it is over
        if self.stored_by(given) + (0 if asked.host == given.asked.host else STALE) < asked.begun:
            return "shared by a call that was over"
        if asked.says("no-store") or asked.says("no-cache"):
            return "shared with who did not want to"
        return "shared beyond a purge" if self.purged(asked, given) else None

    def wrong_remembered(self, asked, given):
        if not given.lasting or given.last is None:
            return "remembered, and not one that may be"
        if given.asked.says("no-store") or given.asked.ttl <= 0:
            return "remembered against its client's will"
        if asked.says("no-cache"):
            return "an old answer for who wanted none"
        if self.purged(asked, given):
            return "purged"
        return self.wrong_age(asked, given)

    def wrong_age(self, asked, given):
        stored, ttl, windows = self.stored_by(given), given.asked.ttl, (0,)
        if asked.cache == "STALE":
            windows = self.windows
        if asked.begun >= stored + ttl + max(windows):
            return "too old"
        if asked.max_age is not None and asked.begun >= stored + asked.max_age:
            return "older than its client wants"
        if asked.kind == "embed":  # Age is that of the oldest
            return None
        # it was stored between the provider's last bytes and its log line, and was served between the request's two ends
        if not asked.begun - stored - 1 < asked.age <= asked.ended - given.last + CLOCK:
            return "not of the age that it says"
        if asked.left is not None and not given.last + ttl - asked.ended - 1 - CLOCK <= asked.left <= \
                stored + ttl - asked.begun:
            return "not good for as long as it says"
        return None


class Everything:
    """FakeProvider's scripts: the same for all."""

    def __init__(self, script):
        self.script = script

    def get(self, *_):
        return self.script


