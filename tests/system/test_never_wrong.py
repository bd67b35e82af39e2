"""
A few thousand random requests by several clients on two hosts, while memcacheds are killed, stopped, emptied and
tampered with, and the provider fails in each way that it can: what comes from the cache is always an answer that the
provider gave, whole, to the same question of the same scope, within its age (oracle.py says what that means).

PAVISE_SEED chooses another run, PAVISE_OPERATIONS a longer one.
"""

import collections
import concurrent.futures
import contextlib
import os
import random
import threading
import time

from oracle import PATHS, Asked, Everything, Judge, Oracle, body_of
from process import BUILD, wait_until
from servers import Memcached, Stack

SEED = int(os.environ.get("PAVISE_SEED", "4"))
OPERATIONS = int(os.environ.get("PAVISE_OPERATIONS", "5000"))
CLIENTS = 8
FAULTS_OF_PROVIDER = ["error", "overloaded", "cut", "reset", "hang", "stall", "nonsense", "page", "no choices",
                      "strange", "unsaid", "error event", "misfit", "misfit", "misfit"]
SCOPES = {"demo": "key", "brief": "key", "team": "team", "all": "everyone", "few": "key"}
TTLS = {"demo": 60, "brief": 1, "team": 60, "all": 2, "few": 60}
TEAMS = {"alice": "red", "bob": "red", "carol": "blue", "demo": None}
KINDS = ["chat"] * 8 + ["text"] * 3 + ["embed"] * 3 + ["schema"] * 3 + ["large"]
TEXTS = [f"question {i}" for i in range(5)]
CONTROLS = [{}] * 30 + [{"Cache-Control": said} for said in
                        ("no-cache", "no-store", "max-age=0", "max-age=1", "only-if-cached",
                         "max-age=1, only-if-cached")] + [{"X-Pavise-Cache-TTL": ttl} for ttl in ("0", "300ms", "1s")]
PURGES = [{"model": model} for model in SCOPES] + [{"scope": {"key": key}} for key in TEAMS] + \
    [{"scope": {"team": "red"}}, {"scope": "everyone"}, {"all": True}]
LIMIT = {"amount": 60, "window": 1}  # seconds
STALE = {"stale_while_revalidate": 0.5, "stale_if_error": 1.0}


def knows_stale():
    """Whether this program serves stale answers: then it shall do that here too."""
    return all(name.encode() in (BUILD / "pavise").read_bytes() for name in STALE)


def scope_of(key, model):
    if SCOPES[model] == "everyone":
        return "everyone"
    return f"team {TEAMS[key]}" if SCOPES[model] == "team" and TEAMS[key] else f"key {key}"


def settings(servers, counters, prefix=None):
    stale = {name: f"{round(seconds * 1000)}ms" for name, seconds in STALE.items()} if knows_stale() else {}
    return {
        "server": {"workers": {"min": 8, "max": 48, "spare": 4}},
        "memcached": {"servers": [s.name for s in servers], "counters": [counters.name], "timeout": "200ms",
                      **({"prefix": prefix} if prefix else {})},
        "providers": {"fake": {"timeout": {"first_byte": "400ms", "between_bytes": "400ms"}}},
        "models": {model: {"provider": "fake", "context": 128000, "max_output": 4096,
                           "cache": {"scope": scope, "ttl": f"{round(TTLS[model] * 1000)}ms"}}
                   for model, scope in SCOPES.items()},
        "cache": stale,
        "limits": [{"name": "few", "count": "requests", "per": ["key", "model"], "amount": LIMIT["amount"],
                    "window": f"{LIMIT['window']}s", "on_store_down": "closed"}],
    }


class Clients:
    """What they do, at random."""

    def __init__(self, oracle, hosts):
        self.oracle, self.hosts = oracle, hosts
        self.lock, self.done, self.did = threading.Lock(), 0, collections.Counter()
        self.over = threading.Event()

    def run(self, seed):
        chance = random.Random(seed)
        while not self.over.is_set():
            what = chance.random()
            if what < 0.01:
                self.purge(chance)
            elif what < 0.012:
                self.burst(chance)
            elif what < 0.25:  # what many ask at the same time
                hot = self.done // 15
                self.ask(chance, key=("alice", "bob")[hot % 2], kind="chat", model="team", texts=[f"hot {hot}"])
            else:
                self.ask(chance, leave=what > 0.99)

    def count(self, what):
        with self.lock:
            self.did[what] += 1
            self.done += 1
            if self.done >= OPERATIONS:
                self.over.set()
            return self.done

    def asked(self, chance, **fixed):
        kind = chance.choice(KINDS)
        key, model = chance.choice(list(TEAMS)), chance.choice([m for m in SCOPES if m != "few"])
        texts = chance.sample(TEXTS, chance.randrange(1, 4)) if kind == "embed" else [chance.choice(TEXTS)]
        if kind == "large":
            texts = ["long " + text for text in texts]
        fields = {"key": key, "kind": kind, "model": model, "texts": texts, "controls": chance.choice(CONTROLS),
                  "stream": kind != "embed" and chance.random() < 0.5, "usage": chance.random() < 0.3,
                  "host": chance.randrange(2), **fixed}
        said = fields["controls"].get("X-Pavise-Cache-TTL")
        ttl = {None: TTLS[fields["model"]], "0": 0, "300ms": 0.3, "1s": 1}[said]
        return Asked(**fields, ttl=ttl, scope=scope_of(fields["key"], fields["model"]), number=self.count(kind))

    def ask(self, chance, leave=False, **fixed):
        asked = self.asked(chance, **fixed)
        client = self.hosts[asked.host].client
        self.oracle.note(asked)
        body = body_of(asked.kind, asked.model, asked.texts)
        if asked.stream:
            body["stream"] = True
        if asked.stream and asked.usage:
            body["stream_options"] = {"include_usage": True}
        headers = {**asked.controls, "traceparent": f"00-{asked.trace}-{'cd' * 8}-01"}
        asked.begun = time.time()
        with client.with_key(asked.key).stream(body, headers, PATHS[asked.kind]) as stream:
            if leave:
                time.sleep(chance.random() * 0.02)
                asked.broken = True
                return asked
            answer = stream.whole()
        asked.ended = time.time()
        self.oracle.read(asked, answer)
        return asked

    def burst(self, chance):
        """More of the same than a limit allows."""
        key, text = chance.choice(list(TEAMS)), chance.choice(TEXTS)
        for _ in range(LIMIT["amount"] + 20):
            self.ask(chance, key=key, model="few", kind="chat", texts=[text], controls={})

    def purge(self, chance):
        self.count("purge")
        begun = time.time()
        answer = chance.choice(self.hosts).client.with_key("root").post(chance.choice(PURGES), path="/admin/purge")
        if answer.status == 200:  # else some of the servers were away
            self.oracle.purges.append((answer.json["scopes"], answer.json["models"], begun, time.time()))
            self.did["purged"] += 1
        else:
            assert answer.status == 503, answer


class Faults:
    """What happens to the memcacheds, one thing after the other; one of them at a time is away."""

    def __init__(self, servers, clients, seed):
        self.servers, self.clients, self.chance = servers, clients, random.Random(seed)
        self.did, self.kept = collections.Counter(), {}

    def run(self):
        kinds = [self.stop, self.kill, self.flush, self.forget_epochs,
                 *2 * [self.flip, self.cut, self.swap, self.keep, self.replay]]
        while not self.clients.over.is_set():
            fault = self.chance.choice(kinds)
            fault(self.chance.choice(self.servers))
            self.did[fault.__name__] += 1
            self.wait(self.chance.randrange(20, 60))

    def wait(self, operations):
        until = self.clients.done + operations
        wait_until(lambda: self.clients.done >= until or self.clients.over.is_set(), 60)

    def flush(self, server):
        server.flush()

    def stop(self, server):
        server.stop()
        try:
            self.wait(self.chance.randrange(20, 80))
        finally:
            server.cont()

    def kill(self, server):
        server.kill()
        try:
            self.wait(self.chance.randrange(20, 80))
        finally:
            server.start()

    def some(self, server, parts=(":a:", ":p:", ":s:")):
        names = [name for name in server.keys() if any(part in name for part in parts)]
        return self.chance.sample(names, min(len(names), 12))

    def change(self, server, function):
        for name in self.some(server):
            value = server.get(name)
            if value:
                server.set(name, function(value))

    def flip(self, server):
        def flipped(value):
            at = self.chance.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << self.chance.randrange(8)]) + value[at + 1:]
        self.change(server, flipped)

    def cut(self, server):
        self.change(server, lambda value: value[:self.chance.randrange(len(value))])

    def swap(self, server):
        values = [value for value in map(server.get, self.some(server)) if value]
        if values:
            self.change(server, lambda value: self.chance.choice(values))

    def keep(self, server):
        for name in self.some(server):
            self.kept[name] = (server, server.get(name))

    def replay(self, _):
        """What has been there before, where it was."""
        for name, (server, value) in list(self.kept.items()):
            if value:
                server.set(name, value)

    def forget_epochs(self, server):
        for name in self.some(server, (":e:",)):
            server.command(f"md {name}".encode())


def limit_overrun(oracle):
    """Windows in which more went through than the limit says: requests that began and ended within one count for it."""
    through = collections.Counter()
    for asked in oracle.asked:
        window = int(asked.begun // LIMIT["window"])
        if asked.ended and window == int(asked.ended // LIMIT["window"]) and not asked.refused:
            through[asked.key, asked.model, window] += 1
    return {what: count for what, count in through.items() if count > LIMIT["amount"]}


def seen(oracle):
    """What happened, so that it can be asked whether this was a test at all."""
    out = collections.Counter()
    for asked in oracle.asked:
        out[asked.cache] += 1
        for _, serial in asked.got:
            given = oracle.given[serial]
            if asked.cache == "HIT":
                out["hit", asked.kind] += 1
                out["hit", "from a stream" if given.stream else "from JSON", asked.stream] += 1
            if asked.kind == "embed" and asked.cache == "MISS" and given.asked is not asked:
                out["partial"] += 1
        out["refused"] += asked.refused
    return out


def check_that_it_was_a_test(oracle, clients, faults):
    saw, scale = seen(oracle), OPERATIONS / 5000
    print(f"seed {SEED}:", dict(saw), dict(clients.did), dict(faults.did))
    assert saw["HIT"] > 800 * scale and saw["MISS"] > 500 * scale and saw["COLLAPSED"] > 20 * scale and saw["partial"]
    assert all(saw["hit", kind] for kind in PATHS) and saw["refused"] and clients.did["purged"]
    assert all(saw["hit", source, stream] for source in ("from a stream", "from JSON") for stream in (False, True))
    assert {given.how for given in oracle.given.values()} == {"good", *FAULTS_OF_PROVIDER}
    assert len(faults.did) >= 7
    if knows_stale():
        assert saw["STALE"]


def test_never_wrong(folder):
    print(f"seed {SEED}")
    oracle = Oracle(SEED, FAULTS_OF_PROVIDER)
    with contextlib.ExitStack() as endings:
        *servers, counters = [endings.enter_context(Memcached(folder)) for _ in range(4)]
        first = endings.enter_context(Stack(folder, settings(servers, counters), memcached=False))
        prefix = first.pavise.config["memcached"]["prefix"]
        second = endings.enter_context(Stack(folder, settings(servers, counters, prefix), memcached=False,
                                             provider_url=first.provider.url))
        first.provider.scripts = Everything(oracle.answer)
        clients = Clients(oracle, [first, second])
        faults = Faults(servers, clients, SEED)
        with concurrent.futures.ThreadPoolExecutor(CLIENTS + 1) as pool:
            tasks = [pool.submit(clients.run, f"{SEED} {i}") for i in range(CLIENTS)] + [pool.submit(faults.run)]
            concurrent.futures.wait(tasks, return_when=concurrent.futures.FIRST_EXCEPTION)
            clients.over.set()
            for task in tasks:
                task.result()
        for stack in first, second:
            assert not stack.pavise.deaths()
            stack.end()  # every line is written then
        lines = [line for stack in (first, second) for log in stack.logs() for line in log.read()]
    wrongs = Judge(oracle, lines, *(STALE.values() if knows_stale() else ())).wrongs()
    assert not wrongs, f"seed {SEED}, {len(wrongs)} wrongs:\n" + "\n".join(wrongs[:5])
    assert not limit_overrun(oracle)
    check_that_it_was_a_test(oracle, clients, faults)
