"""GET /metrics: what limits have decided is counted, and who may know it."""

from client import ask, unique
from servers import Memcached


def limit(name, amount=1, **fields):
    return {"name": name, "count": "requests", "per": ["key"], "amount": amount, "window": "1d", **fields}


def decisions(stack, headers=None):
    """(limit, key, decision) → how often, without zeros."""
    said = {}
    for line in stack.client.with_key(None).get("/metrics", headers).body.decode().splitlines():
        if not line.startswith("#"):
            name, count = line.rsplit(" ", 1)
            assert name.startswith("pavise_limit_decisions_total{"), line
            labels = dict(part.split("=") for part in name[len("pavise_limit_decisions_total{"):-1].split(","))
            said[tuple(labels[label].strip('"') for label in ("limit", "key", "decision"))] = int(count)
    return said


def some(said):
    return {labels: count for labels, count in said.items() if count}


def test_refusals_are_counted_and_dry_runs_too(start):
    stack = start({"limits": [limit("hard", 2), limit("dry", enforce=False)]}, keys={"alice": {"limits": [limit("own", per=[])]}})
    assert len(decisions(stack)) == 2 * 5 and not some(decisions(stack))  # each is there from the beginning
    for status in (200, 200, 429, 429):
        assert stack.client.post(ask(unique())).status == status
    for status in (200, 429):
        assert stack.client.with_key("alice").post(ask(unique())).status == status
    assert some(decisions(stack)) == {("hard", "", "refused"): 2, ("dry", "", "would_refuse"): 3 + 1,
                                      ("own", "alice", "refused"): 1}


def test_what_is_decided_without_memcached(start, folder):
    with Memcached(folder) as own:
        stack = start({"limits": [limit(name, 100, on_store_down=name) for name in ("open", "local", "closed")],
                       "memcached": {"timeout": "50ms"}}, memcached=own)
        own.kill()
        assert stack.client.post(ask(unique())).status == 503
        assert some(decisions(stack)) == {("open", "", "store_open"): 1, ("local", "", "store_local"): 1,
                                          ("closed", "", "store_closed"): 1, ("closed", "", "refused"): 1}


def test_only_for_who_is_here_or_an_admin(start):
    stack = start(keys={"root": {"admin": True}})
    assert stack.client.with_key(None).get("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    assert stack.client.with_key(None).get("/metrics", elsewhere).status == 401
    assert stack.client.with_key("demo").get("/metrics", elsewhere).status == 403
    assert stack.client.with_key("root").get("/metrics", elsewhere).status == 200
