"""What was asked for before a purge is never answered after it, on any host, whatever memcached does."""

import collections
import concurrent.futures
import contextlib
import hashlib
import json
import struct
import time

import pytest

from client import ask, unique
from process import wait_until
from provider import chunk, completion
from recorder import Recorder
from servers import Memcached, Stack
from spelling import key as key_of
from structured_fields import cache_status

PURGE = "/admin/purge"
MODELS = {"other": {"provider": "fake"}, "alias": {"provider": "fake", "model": "demo"},
          "team": {"provider": "fake", "cache": {"scope": "team"}},
          "all": {"provider": "fake", "cache": {"scope": "everyone"}}}
CONFIG = {"models": MODELS}


def purge(client, body):
    answer = client.with_key("root").post(body, path=PURGE)
    assert answer.status == 200, answer
    return answer.json


def epoch_keys(stack, memcached=None):
    return (memcached or stack.memcached).keys(stack.pavise.config["memcached"]["prefix"] + ":e:")


# ── What it purges ────────────────────────────────────────────────────────────────────────────────────────────────────


def warm(stack):
    """state() → {(key, model): whether what was asked before is still known}; asked with only-if-cached."""
    prompt = unique()
    who = [(key, model) for key in ("alice", "bob", "carol") for model in ("demo", "other", "team", "all")]
    for key, model in who:
        stack.client.with_key(key).chat(prompt, model=model)

    def state():
        return {(key, model) for key, model in who if stack.client.with_key(key).post(
            ask(prompt, model=model), {"Cache-Control": "only-if-cached"}).status == 200}
    assert state() == set(who)
    return state, set(who)


@pytest.mark.parametrize("body,gone,scopes,models", [
    ({"scope": {"key": "carol"}}, "carol:demo carol:other carol:team *:all", ["key carol", "team blue", "everyone"], []),
    ({"scope": {"key": "limited"}}, "", ["key limited"], []),  # it may call none of the shared models
    ({"scope": {"team": "red"}}, "alice:* bob:* *:all", ["key alice", "key bob", "team red", "everyone"], []),
    ({"scope": "everyone"}, "*:all", ["everyone"], []),
    ({"model": "other"}, "*:other", [], ["other"]),
    ({"model": "alias"}, "*:demo", [], ["alias"]),  # one model, two names for it
    ({"scope": {"key": "alice"}, "model": "other"}, "*:other alice:* bob:team *:all", ["key alice", "team red", "everyone"],
     ["other"]),
    ({"all": True}, "*:*", [], ["all", "alias", "demo", "other", "team"]),
    ({"scope": None, "model": "demo", "all": False}, "*:demo", [], ["demo"]),
], ids=lambda v: str(v) if isinstance(v, dict) else "")
def test_what_it_purges(stack, body, gone, scopes, models):
    state, everything = warm(stack)
    said = purge(stack.client, body)
    assert said["object"] == "purge" and said["servers"] == 1
    assert (said["scopes"], sorted(said["models"])) == (scopes, sorted(models))
    patterns = [p.split(":") for p in gone.split()]
    dead = {(k, m) for k, m in everything if any(pk in (k, "*") and pm in (m, "*") for pk, pm in patterns)}
    assert state() == everything - dead


def test_afterwards_everything_is_as_before(stack, each):
    prompt = unique()
    each.chat(prompt)
    purge(each, {"all": True})
    assert [each.chat(prompt, stream=s).cache for s in (True, False)] == ["MISS", "HIT"]
    assert stack.provider.calls(prompt) == 2


def test_embeddings_obey(stack, each):
    def answers(call):
        call.answer({"object": "list", "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1}, "data": [
            {"object": "embedding", "index": i, "embedding": [1.5]} for i, _ in enumerate(call.json["input"])]})
    stack.provider.scripts[None] = answers
    texts = [unique(), unique()]
    ask_it = lambda: each.post({"model": "demo", "input": texts}, path="/v1/embeddings").cache  # noqa: E731
    assert [ask_it(), ask_it()] == ["MISS", "HIT"]
    purge(each, {"scope": {"key": "demo"}})
    assert [ask_it(), ask_it()] == ["MISS", "HIT"]
    purge(each, {"model": "demo"})
    assert [ask_it(), ask_it()] == ["MISS", "HIT"]


# ── Who may, and what is no purge ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key,status,code", [("demo", 403, "admin_key_required"), ("nobody", 401, "invalid_api_key"),
                                             (None, 401, "invalid_api_key")])
def test_only_admins_may(stack, each, key, status, code):
    prompt = unique()
    each.chat(prompt)
    answer = each.with_key(key).post({"all": True}, path=PURGE)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert each.chat(prompt).cache == "HIT"


@pytest.mark.parametrize("body,status,code,param,says", [
    ({}, 400, "missing_required_parameter", None, '{"scope": {"key": "alice"}}'),
    ({"all": False}, 400, "missing_required_parameter", None, '{"all": true}'),
    ({"scope": None}, 400, "missing_required_parameter", None, "purges nothing"),
    ([], 400, "invalid_type", None, "JSON object"),
    ({"scope": "alice"}, 400, "invalid_value", "scope", '{"key": "NAME"}'),
    ({"scope": {}}, 400, "invalid_value", "scope", '"everyone"'),
    ({"scope": {"key": "alice", "team": "red"}}, 400, "invalid_value", "scope", '"everyone"'),
    ({"scope": {"key": 7}}, 400, "invalid_value", "scope", '"everyone"'),
    ({"scope": {"user": "x"}}, 400, "invalid_value", "scope", '"everyone"'),
    ({"scope": 7}, 400, "invalid_type", "scope", "an integer"),
    ({"model": ["demo"]}, 400, "invalid_type", "model", "an array"),
    ({"model": "demo\0"}, 400, "invalid_type", "model", "U+0000"),
    ({"all": "yes"}, 400, "invalid_type", "all", "a boolean"),
    ({"all": True, "model": "demo"}, 400, "invalid_value", "all", "no 'model'"),
    ({"models": ["demo"]}, 400, "invalid_value", "models", "Unknown parameter"),
    ({"model": "demo", "x": 1}, 400, "invalid_value", "x", "Unknown parameter"),
    ({"scope": {"key": "zoe"}}, 404, "scope_not_found", "scope.key", "zoe"),
    ({"scope": {"team": "green"}}, 404, "scope_not_found", "scope.team", "green"),
    ({"model": "nothing"}, 404, "model_not_found", "model", "nothing"),
    ("{", 400, "invalid_json", None, "line 1"),
], ids=str)
def test_what_is_no_purge(stack, client, body, status, code, param, says):
    prompt = unique()
    client.chat(prompt)
    answer = client.with_key("root").post(body, path=PURGE)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param), answer
    assert says in answer.error["message"]
    assert "purged" not in stack.log_of(answer)
    assert client.chat(prompt).cache == "HIT"


def test_the_line_that_says_who_purged_what(start):
    stack = start({**CONFIG, "log": {"level": "warn"}})
    answer = stack.client.with_key("root").post({"scope": {"team": "red"}, "model": "demo"}, path=PURGE)
    line = stack.log_of(answer)
    assert (line["key_id"], line["url.path"], line["http.response.status_code"]) == ("root", PURGE, 200)
    assert line["purged"] == "key alice, key bob, team red, everyone, model demo; on 1 of 1 servers"


def test_a_purge_of_many_names_is_one_line(start):
    keys = {f"key-{i:04}-{'x' * 40}": {"team": "crowd"} for i in range(500)}
    stack = start(CONFIG, keys=keys)
    answer = stack.client.with_key("root").post({"scope": {"team": "crowd"}}, path=PURGE)
    assert len(answer.json["scopes"]) == 502
    assert "more; on 1 of 1 servers" in stack.log_of(answer)["purged"]
    assert stack.client.get(PURGE).status == 405


# ── Whatever happens ──────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def second_host(first, folder, config=None, memcached=None):
    """Another supervisor with its own RUN_DIR on the same memcached."""
    config = {**CONFIG, **(config or {}), "memcached": first.pavise.config["memcached"]}
    with Stack(folder, config, memcached=memcached or first.memcached, provider_url=first.provider.url) as second:
        yield second


def test_a_purge_on_one_host_is_instant_on_the_other(start, folder):
    first = start(CONFIG)
    with second_host(first, folder) as second:
        for here, there in [(first, second), (second, first)] * 5:
            prompt = unique()
            assert [s.client.chat(prompt).cache for s in (here, there, here)] == ["MISS", "HIT", "HIT"]
            purge(here.client, {"model": "demo"})
            assert there.client.chat(prompt).cache == "MISS"
            assert here.client.chat(prompt).cache == "HIT"


@pytest.mark.parametrize("purged", [{"model": "demo"}, {"scope": {"key": "demo"}}], ids=str)
def test_a_lost_epoch_brings_nothing_back(start, purged):
    stack, prompt = start(CONFIG), unique()
    texts = iter(range(100))
    stack.provider.on(lambda call: call.answer(completion(f"answer {next(texts)}")), prompt)
    said = lambda: stack.client.chat(prompt).json["choices"][0]["message"]["content"]  # noqa: E731
    assert [said(), said()] == ["answer 0", "answer 0"]
    [entry] = stack.memcached.keys(stack.pavise.config["memcached"]["prefix"] + ":a:")
    old = stack.memcached.get(entry)
    purge(stack.client, purged)
    for name in epoch_keys(stack):
        stack.memcached.command(f"md {name}".encode())  # as memcached does when it needs the room
    assert [said(), said()] == ["answer 1", "answer 1"]
    for _ in range(3):
        stack.memcached.set(entry, old)
        now = said()
        assert now != "answer 0"
        for name in epoch_keys(stack):
            stack.memcached.command(f"md {name}".encode())
    stack.memcached.set(entry, old)
    purge(stack.client, purged)
    assert said() != "answer 0"


def entry_without_epochs(question_hash, text, stored_ms):
    """As version 1 of the format wrote it."""
    body = json.dumps({"object": "chat.completion", "model": "fake-1", "choices": completion(text)["choices"]}).encode()
    rest = struct.pack("<5q4I", stored_ms, stored_ms + 3600_000, 1, 1, -1, 2, 5, len(body), 0) + b"m\0stop\0" + body
    head = b"PVCE" + struct.pack("<I", 1)
    return head + hashlib.sha256(question_hash + head + bytes(16) + rest).digest()[:16] + rest


def test_entries_of_the_version_before_live_until_they_are_purged(start):
    stack, prompt = start(CONFIG), unique()
    name = key_of(stack.pavise.config["memcached"]["prefix"], json.dumps(ask(prompt)), "key demo", "chat", "fake",
                  stack.provider.url, "demo", headers=[("OpenAI-Beta", "")])
    now = int(time.time() * 1000)
    for stored_ms, cache in (now - 5000, "HIT"), (now - 5000, None), (now - 5000, "MISS"), (now + 60000, "HIT"):
        if cache is None:
            purge(stack.client, {"model": "demo"})
            continue
        stack.memcached.set(name, entry_without_epochs(bytes.fromhex(name[-64:]), prompt, stored_ms))
        answer = stack.client.chat(prompt)
        assert answer.cache == cache
        assert (answer.json["choices"][0]["message"]["content"] == prompt) == (cache == "HIT")


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_call_that_was_under_way_is_not_remembered_beyond_the_purge(stack, each, stream):
    prompt = stack.provider.manual()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(each.chat, prompt, stream=stream)
        call = stack.provider.take(prompt)
        purge(each, {"scope": {"key": "demo"}})
        call.plain(["asked before"])
        assert asked.result().cache == "MISS"
        again = pool.submit(each.chat, prompt)
        stack.provider.take(prompt).plain(["asked after"])
        assert again.result().cache == "MISS"
    hit = each.chat(prompt)
    assert hit.cache == "HIT" and hit.json["choices"][0]["message"]["content"] == "asked after"


def test_nobody_follows_a_call_from_before_the_purge(stack, each):
    prompt = stack.provider.manual()
    with each.stream(ask(prompt, stream=True)) as before:
        old = stack.provider.take(prompt)
        old.stream_head()
        old.event(chunk("asked before"))
        assert before.next_data().content == "asked before"
        purge(each, {"model": "demo"})
        with each.stream(ask(prompt, stream=True)) as after:
            new = stack.provider.take(prompt)
            old.event(chunk(finish="stop"))
            old.end_stream()
            assert before.rest()[-1] == "[DONE]"
            new.plain(["asked after"])
            assert [after.next_data().content for _ in range(2)] == ["", "asked after"]
            assert after.rest()[-1] == "[DONE]"
    hit = each.chat(prompt)
    assert hit.cache == "HIT" and hit.json["choices"][0]["message"]["content"] == "asked after"


def test_purges_under_load(stack):
    """Each answer says how many purges had begun when it was made: nobody gets one from before the last that is done."""
    prompt, state = unique(), {"begun": 0, "done": 0}
    stack.provider.on(lambda call: call.answer(completion(str(state["begun"]))), prompt)

    def reader(i):
        client, seen = [web.client for web in stack.webs.values()][i % 2], collections.Counter()
        while not state.get("over"):
            done = state["done"]
            answer = client.chat(prompt)
            assert int(answer.json["choices"][0]["message"]["content"]) >= done
            seen[answer.cache] += 1
        return seen

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(reader, i) for i in range(8)]
        for _ in range(40):
            state["begun"] += 1
            purge(stack.client, {"model": "demo"})
            state["done"] += 1
            stack.client.chat(prompt)
        state["over"] = True
        seen = sum((r.result() for r in readers), collections.Counter())
    assert seen["HIT"] and seen["MISS"]


# ── Several servers ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ring(start, folder):
    """A Stack whose answers live on three servers; .servers"""
    with contextlib.ExitStack() as endings:
        servers = [endings.enter_context(Memcached(folder)) for _ in range(3)]
        counters = endings.enter_context(Memcached(folder))
        stack = start({**CONFIG, "memcached": {"servers": [str(s.path) for s in servers], "timeout": "500ms",
                                               "counters": [str(counters.path)]}}, memcached=counters)
        stack.servers = servers
        yield stack


def holder(stack, prompt):
    """Asks; the server that keeps the answer."""
    before = {s: set(s.keys(":a:")) for s in stack.servers}
    assert stack.client.chat(prompt).cache == "MISS"
    [server] = [s for s in stack.servers if set(s.keys(":a:")) - before[s]]
    return server


def spread(stack, each=3):
    """server → prompts whose answers it keeps, `each` of them on every server."""
    out = {s: [] for s in stack.servers}
    while min(map(len, out.values())) < each:
        prompt = unique()
        out[holder(stack, prompt)].append(prompt)
    return out


def test_every_server_of_the_ring_is_purged(ring):
    prompts = spread(ring)
    assert all(ring.client.chat(p).cache == "HIT" for some in prompts.values() for p in some)
    assert purge(ring.client, {"scope": {"key": "demo"}})["servers"] == 3
    assert all(ring.client.chat(p).cache == "MISS" for some in prompts.values() for p in some)


def test_epochs_stand_where_the_entries_do(ring):
    prompts = spread(ring, 1)
    for server in ring.servers:
        assert len(epoch_keys(ring, server)) == 2
    dead, *living = ring.servers
    dead.kill()
    wait_until(lambda: "detail" in cache_status(ring.client.chat(prompts[dead][0])))
    for server in living:
        assert {ring.client.chat(p).cache for p in prompts[server]} == {"HIT"}


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_server_that_is_away(ring, how):
    prompts = spread(ring, 1)
    away, *living = ring.servers
    getattr(away, how)()
    answer = ring.client.with_key("root").post({"model": "demo"}, path=PURGE)
    assert answer.status == 503 and answer.error["code"] == "purge_incomplete"
    assert answer.headers["x-should-retry"] == "true" and answer.headers["Retry-After"] == "1"
    assert f"2 of 3 memcached servers, but not on {away.path}" in answer.error["message"]
    line = ring.log_of(answer)
    assert line["purged"] == f"model demo; on 2 of 3 servers, not on {away.path}"
    assert (line["error.type"], line["level"]) == ("store_purge_incomplete", "error")
    for server in living:
        assert all(ring.client.chat(p).cache == "MISS" for p in prompts[server])
    if how == "kill":
        away.restart()
    else:
        away.cont()
    wait_until(lambda: ring.client.with_key("root").post({"model": "demo"}, path=PURGE).status == 200)
    assert all(ring.client.chat(p).cache == "MISS" for some in prompts.values() for p in some)
    assert ring.log_of(answer)["purged"]


def test_without_any_server(start):
    stack = start(CONFIG, memcached=False)
    answer = stack.client.with_key("root").post({"all": True}, path=PURGE)
    assert answer.status == 503 and "Purged on 0 of 1" in answer.error["message"]


# ── What it costs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_round_trip_a_hit(folder, start, memcached):
    limits = [{"name": n, "amount": 1000, "window": "1d"} for n in ("a", "b")]
    with Recorder(folder, memcached.path) as recorder:
        stack, prompt = start({**CONFIG, "limits": limits}, memcached=str(recorder.path)), unique()
        prefix = stack.pavise.config["memcached"]["prefix"]
        stack.client.chat(prompt)
        look, *trips = recorder.taken()
        [remember] = [trip for trip in trips if trip[0][0] == "ms" and trip[0][1] == look[4][1]]
        for stream in False, True:
            assert stack.client.chat(prompt, stream=stream).cache == "HIT"
            [trip] = recorder.taken()
            assert [words[0] for words in trip] == ["ma", "ma", "ma", "ma", "mg"]
            assert [words[1].split(":")[1] for words in trip] == ["c", "c", "e", "e", "a"]
            assert all("D0" in words and "N0" in words for words in trip[2:4])
            assert [words[1] for words in trip[2:]] == [words[1] for words in look[2:]]
        assert [words[:2] for words in remember] == [["ms", look[4][1]]] and remember[0][1].startswith(prefix)
        stack.client.with_key("root").post({"model": "demo"}, path=PURGE)
        assert [[words[0] for words in trip] for trip in recorder.taken()][0] == ["ms"]


def test_one_round_trip_for_many_embeddings(folder, start, memcached):
    def answers(call):
        call.answer({"object": "list", "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1}, "data": [
            {"object": "embedding", "index": i, "embedding": [1.5]} for i, _ in enumerate(call.json["input"])]})
    with Recorder(folder, memcached.path) as recorder:
        stack = start(CONFIG, memcached=str(recorder.path))
        stack.provider.scripts[None] = answers
        body = {"model": "demo", "input": [unique() for _ in range(20)]}
        stack.client.post(body, path="/v1/embeddings")
        recorder.taken()
        assert stack.client.post(body, path="/v1/embeddings").cache == "HIT"
        [trip] = recorder.taken()
        assert [words[0] for words in trip] == ["ma", "ma"] + ["mg"] * 20
