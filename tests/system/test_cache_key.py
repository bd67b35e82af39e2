"""What is hashed is what is sent: for every request, both are made a second time here, and compared."""

import json
import pathlib
import random

import pytest

from client import CHAT, ask, unique
from provider import chunk, completion, usage_chunk
from recorder import Recorder
from spelling import key, less_our_edits, read, spelled, tokens
from structured_fields import cache_status

SEED = 20250611
CORPUS = pathlib.Path(__file__).parents[1] / "fuzz" / "corpus"
MODEL = {"provider": "fake", "model": "real-model"}
CONFIG = {
    "models": {name: {**MODEL, "model": f"real-{i}"} for i, name in enumerate(["m", "\U0001f600"])} | {
        "team": {**MODEL, "cache": {"scope": "team"}}, "all": {**MODEL, "cache": {"scope": "everyone"}},
        "mine": {**MODEL, "cache": {"scope": "key"}}, "sure": {**MODEL, "cache": {"temperature_zero_only": True}}},
    "forward_headers": ["OpenAI-Beta", "X-Other"],
}


# ── Random requests ───────────────────────────────────────────────────────────────────────────────────────────────────


NAMES = ["a", "zz", "type", "user", "model", "seed2", "ü", "\U0001f600", "with \"quotes\"", "\u2028", "x/y", "\x7f"]
NUMBERS = ["0", "-0", "1", "-17", "1.0", "1E2", "5e-1", "0.1", "1e-7", "123456789012345678", "1e21", "0.000001",
           "9007199254740993", "18446744073709551615", "-9223372036854775808", "1.7976931348623157e308", "5e-324",
           "0.30000000000000004", "4.35", "100e-2", "1e+20"]


def spaced(chance):
    return chance.choice(["", "", " ", "\n", "\t", "\r\n "])


def random_text(chance):
    text = "".join(chance.choice(NAMES + ["\\u00e9", "\\ud83d\\ude00", "\\n", "\\/", " "]) for _ in range(chance.randint(0, 4)))
    return '"' + text.replace('"', '\\"') + '"'


def random_json(chance, depth=3):
    kind = chance.randrange(7 if depth else 5)
    if kind < 5:
        return [chance.choice(NUMBERS), chance.choice(NUMBERS), random_text(chance), "null", "true"][kind]
    if kind == 5:
        inside = [random_json(chance, depth - 1) for _ in range(chance.randint(0, 3))]
        return "[" + ",".join(spaced(chance) + v for v in inside) + "]"
    return random_object(chance, depth)


def random_object(chance, depth=3):
    names = chance.sample(NAMES, chance.randint(0, 4))
    return "{" + ",".join(
        f"{spaced(chance)}{json.dumps(n, ensure_ascii=chance.random() < .5)}{spaced(chance)}:{spaced(chance)}"
        f"{random_json(chance, depth - 1)}" for n in names) + "}"


def random_request(chance):
    members = {
        "model": '"m"', "messages": f'[{{"content":{random_text(chance)},"x":{random_json(chance)},"role":"user"}}]',
        "tools": f'[{{"type":"function","function":{{"parameters":{random_object(chance)},"name":"f"}}}}]',
        "new": random_json(chance), "metadata": '{"a":"1"}', "user": random_text(chance), "temperature": "0.70",
        "top_p": "1.0", "seed": chance.choice(["1", "-5", "1e3"]), "logit_bias": '{"7":-1e2,"3":1.50}',
        "stream": chance.choice(["true", "false"]), "max_tokens": "1e2",
        "response_format": f'{{"json_schema":{{"schema":{random_object(chance)},"name":"n"}},"type":"text"}}',
    }
    names = ["model", "messages"] + [n for n in list(members)[2:] if chance.random() < .5]
    if "stream" in names and members["stream"] == "true" and chance.random() < .5:
        names.append("stream_options")
        members["stream_options"] = chance.choice(
            ['{"x":1,"include_usage":false}', '{}', 'null', '{"include_usage":true,"y":[]}'])
    chance.shuffle(names)
    return ("{" + ",".join(f'{spaced(chance)}"{n}"{spaced(chance)}:{members[n]}' for n in names) + "}").encode()


def requests():
    corpus = {f"corpus/{f.name}": f.read_bytes() for folder in ("chat", "json") for f in sorted((CORPUS / folder).iterdir())}
    for name, body in list(corpus.items()):  # json/ has whatever JSON can be: as a field that we do not know
        if (CORPUS / "json" / name.partition("/")[2]).exists():
            corpus[name] = b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":' + body + b"}"
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    return corpus | {f"random/{i}": random_request(chance) for i in range(150)}


def any_answer(call):
    """Fits every request; JSON where some may be asked for."""
    n = call.json.get("n") or 1
    if call.json.get("stream"):
        call.stream_head()
        for i in range(n):
            for piece in chunk(delta={"role": "assistant", "content": "{}"}), chunk(finish="stop"):
                piece["choices"][0]["index"] = i
                call.event(piece)
        call.event(usage_chunk())
        call.end_stream()
    else:
        answer = completion("{}")
        answer["choices"] = [{**answer["choices"][0], "index": i} for i in range(n)]
        call.answer(answer)


@pytest.fixture
def recorded(folder, start, memcached):
    """A Stack whose memcached is a Recorder's, and the Recorder."""
    with Recorder(folder, memcached.path) as recorder:
        yield start(CONFIG, memcached=str(recorder.path)), recorder


def looked_up(recorder):
    """The entries' names."""
    return {words[1] for trip in recorder.taken() for words in trip if words[0] == "mg" and ":a:" in words[1]}


def test_what_is_sent_is_what_was_asked_and_hashes_to_the_key(recorded, memcached):
    stack, recorder = recorded
    prefix, good, stored = stack.pavise.config["memcached"]["prefix"], 0, 0
    stack.provider.scripts = AnyPrompt()
    for name, body in requests().items():
        seen = len(stack.provider.seen)
        answer = stack.client.post(body, {"X-Other": "Ü \"o\"".encode()})
        sent = stack.provider.seen[seen:]
        if answer.status in (400, 404):
            assert not sent and not looked_up(recorder), name
            continue
        assert answer.status == 200, (name, answer)
        good += 1
        asked, [call] = read(body), sent
        assert tokens(less_our_edits(read(call.body), asked)) == tokens(asked), name
        assert call.body.decode() == spelled(read(call.body)), name  # and not a byte more than it takes
        model = dict(asked)["model"]
        expected = key(prefix, body, "key demo", "chat", "fake", stack.provider.url,
                       stack.pavise.config["models"][model]["model"],
                       headers=[("OpenAI-Beta", ""), ("X-Other", "Ü \"o\"")])
        assert looked_up(recorder) == {expected}, name
        line = stack.log_of(answer)
        if line["stored"]:
            stored += 1
            assert memcached.get(expected), name
            assert stack.client.post(body, {"X-Other": "Ü \"o\"".encode()}).cache == "HIT", name
            memcached.command(f"md {expected}".encode())  # some of the corpus are one question in two spellings
            looked_up(recorder)
    assert good > 165 and stored > 165, (good, stored)


class AnyPrompt(dict):
    """FakeProvider.scripts, whatever the prompt."""

    def get(self, _prompt, _default):
        return any_answer


# ── Who shares ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_scopes_per_model(stack):
    hits = {}
    for model in "m", "mine", "team", "all":
        prompt = unique()
        body = ask(prompt, model=model)
        answers = {who: stack.client.with_key(who).post(body).cache for who in ("alice", "bob", "carol", "demo", "alice")}
        hits[model] = [who for who, cache in answers.items() if cache == "HIT"]
        assert stack.provider.calls(prompt) == 5 - len(hits[model])
    assert hits == {"m": ["alice"], "mine": ["alice"], "team": ["alice", "bob"], "all": ["alice", "bob", "carol", "demo"]}


def test_a_scope_of_its_own_beside_a_wider_one(start):
    stack = start({"cache": {"scope": "everyone"}, "models": {"own": {"provider": "fake", "cache": {"scope": "key"}}}})
    shared, own = unique(), unique()
    assert [stack.client.with_key(k).chat(shared).cache for k in ("alice", "carol")] == ["MISS", "HIT"]
    assert [stack.client.with_key(k).chat(own, model="own").cache for k in ("alice", "carol", "alice")] == \
        ["MISS", "MISS", "HIT"]


# ── What is not looked for ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("effect", [{"store": True}, {"background": True}, {"conversation": "c"}], ids=lambda e: [*e][0])
def test_a_side_effect_is_never_saved(stack, each, effect):
    prompt = unique()
    assert each.chat(prompt).cache == "MISS"
    for _ in range(2):
        answer = each.chat(prompt, **effect)
        assert answer.cache == "BYPASS" and cache_status(answer) == {"fwd": "bypass"}
    assert stack.provider.calls(prompt) == 3
    assert each.chat(prompt, **{name: False for name in effect}).status == 200


def other_answers(call):
    """A legacy completion, or embeddings."""
    if call.path.endswith("/embeddings"):
        call.answer({"object": "list", "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1},
                     "data": [{"object": "embedding", "index": 0, "embedding": [1.5]}]})
    else:
        call.answer({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "t",
                     "choices": [{"index": 0, "text": "fine", "logprobs": None, "finish_reason": "stop"}]})


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
def test_only_temperature_zero(stack, each, path):
    stack.provider.scripts[None] = other_answers
    for temperature, cached in [(0, True), (0.0, True), (0.1, False), (None, False), (..., False)]:
        body = ask(unique(), model="sure") if path == CHAT else {"model": "sure", "prompt": unique()}
        if temperature is not ...:
            body["temperature"] = temperature
        assert [each.post(body, path=path).cache for _ in range(2)] == \
            (["MISS", "HIT"] if cached else ["BYPASS", "BYPASS"]), temperature


def test_embeddings_have_no_temperature(stack, each):
    stack.provider.scripts[None] = other_answers
    body = {"model": "sure", "input": unique()}
    assert [each.post(body, path="/v1/embeddings").cache for _ in range(2)] == ["MISS", "HIT"]
