"""
Budgets outlive what counts them: memcached is killed, emptied or loses a key, workers and the bookkeeper are killed,
hosts come and go, the disk is full or busy. The next request is judged by what was really spent.
"""

import concurrent.futures
import contextlib
import os
import random
import signal
import sqlite3
import subprocess

from decimal import Decimal

import pytest

from client import ask, unique
from faketime import Clock
from money import COST, OUT, budget, tokens, usage, usd
from process import wait_until
from procs import owner_of
from provider import chunk, completion
from servers import Memcached, Stack

PAID = Decimal("0.0065")  # less than what one call sets aside
START = 3 * PAID + Decimal("0.00002")  # what is left behind three of them is too little for any
MONTH = usd(START, "monthly", window="month")


def pay(stack, amount=PAID, client=None, **fields):
    """A call that costs so much."""
    real = usage(0, int(amount / OUT))
    prompt = stack.provider.on(lambda call: call.answer(completion(usage=real)))
    return (client or stack.client).chat(prompt, **fields)


def left(client):
    """What is left of the tightest limit of money; None while nobody knows."""
    said = client.get("/v1/models").headers["x-pavise-budget-remaining-usd"]
    return Decimal(said) if said else None


def wait_left(client, amount):
    wait_until(lambda: left(client) == amount, what=f"{amount} left, not {left(client)}")


def booked(stack, by="key", **filters):
    """What the ledger says, by name."""
    query = "&".join(f"{name}={value}" for name, value in {"by": by, **filters}.items())
    said = stack.client.with_key("root").get(f"/admin/spend?{query}")
    assert said.status == 200, said
    return {row[by]: {**row, "cost_usd": Decimal(str(row["cost_usd"]))} for row in said.json["data"]}


def wait_booked(stack, name, **expected):
    """Until what is queued is written."""
    def there():
        row = booked(stack).get(name, {})
        return all(row.get(field) == value for field, value in expected.items())
    wait_until(there, what=f"{expected}, not {booked(stack)}")


def judged(client, **fields):
    """The first answer that is not about memcached being away."""
    return wait_until(lambda: (a := client.post(ask(unique(), **fields))).status != 503 and a)


# ── memcached ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def kill_it(memcached):
    memcached.kill()
    memcached.start()


def lose(part):
    def lose_it(memcached):
        keys = memcached.keys(part)
        assert keys
        for key in keys:
            memcached.command(f"delete {key}".encode())
    return lose_it


@pytest.mark.parametrize("hurt", [kill_it, Memcached.flush, lose(":g:"), lose(":c:monthly"), lose(":monthly")],
                         ids=["kill -9", "flushed", "which counts", "what is counted", "everything of it"])
def test_the_month_goes_on(folder, hurt):
    with Memcached(folder) as memcached, Stack(folder, budget(MONTH), memcached=memcached) as stack:
        alice = stack.client.with_key("alice")
        for _ in range(3):
            pay(stack)
        pay(stack, client=alice)
        hurt(memcached)
        refused = judged(stack.client)
        assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
        assert "$0.0195 of $0.01952" in refused.error["message"]
        wait_left(stack.client, START - 3 * PAID)
        wait_left(alice, START - PAID)
        pay(stack, client=alice)
        assert left(alice) == START - 2 * PAID
        assert len(stack.provider.seen) == 5


def test_while_memcached_is_away_the_budget_refuses(folder):
    with Memcached(folder) as memcached, Stack(folder, budget(MONTH), memcached=memcached) as stack:
        pay(stack)
        memcached.kill()
        refused = stack.client.post(ask(unique()))
        assert (refused.status, refused.error["code"]) == (503, "limit_store_unavailable")
        line = stack.log_of(refused)
        assert (line["limit"], line["limit_store"]) == ("monthly", "closed")
        memcached.start()
        assert judged(stack.client).status == 200
        wait_left(stack.client, START - PAID - COST)


def test_every_kind_of_budget_goes_on(folder, memcached):
    """Per team, per user, per model, of everyone together, of one key alone; tokens too."""
    limits = [usd("1", "team", per=["team"]), usd("2", "user", per=["key", "user"]), usd("3", "model", per=["model"]),
              usd("4", "all", per=[]), tokens(90000, per=["team", "model"])]
    keys = {"dave": {"team": "red", "limits": [usd("0.5", "own", per=[])]}}
    with Memcached(folder) as counters, Stack(folder, {**budget(*limits), "memcached": {"counters": [counters.name]}},
                                              memcached=memcached, keys=keys) as stack:
        def standing():
            """What is left of each limit, as each of them sees it on a hit."""
            said = {name: stack.client.with_key(name).chat("the same for all", user=name[0]).headers["RateLimit"] or ""
                    for name in ("alice", "bob", "carol", "dave")}
            return {name: sorted(part.split(";t=")[0] for part in line.split(", ")) for name, line in said.items()}
        standing()
        for name in "alice", "bob", "carol", "dave":
            pay(stack, client=stack.client.with_key(name), user="somebody")
        before, calls = standing(), len(stack.provider.seen)
        assert [len(limits) for limits in before.values()] == [5, 5, 5, 6], before
        kill_it(counters)
        wait_until(lambda: standing() == before, what=f"{before} again")
        assert len(stack.provider.seen) == calls == 8


# ── the window's edge ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_day_begins_with_nothing(folder):
    clock = Clock(folder, "2036-02-29 23:00:00")
    day = usd(START, "daily", window="1d")
    with Memcached(folder) as memcached, Stack(folder, budget(day), memcached=memcached, env=clock.env) as stack:
        for _ in range(3):
            pay(stack)
        assert judged(stack.client).status == 429
        clock.set("2036-03-01 00:00:00")
        pay(stack)
        assert left(stack.client) == START - PAID
        memcached.flush()
        wait_left(stack.client, START - PAID)
        wait_until(lambda: set(booked(stack, "day", since="2036-02-29")) == {"2036-02-29", "2036-03-01"})


# ── who is killed ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_dies_behind_the_answer(folder):
    """What it had set aside stands, whatever becomes of memcached: nobody will ever say what it took."""
    with Memcached(folder) as memcached, Stack(folder, budget(MONTH), memcached=memcached) as stack:
        prompt = stack.provider.manual()
        with stack.client.stream(ask(prompt, stream=True, max_tokens=2000)) as stream:
            call = stack.provider.take(prompt)
            call.stream_head()
            call.event(chunk("All that you wanted."))
            call.event(chunk(finish="stop"))
            assert "All" in stream.next_data().data
            held = left(stack.client)
            os.kill(owner_of(call.socket, stack.pavise.workers()), signal.SIGKILL)
            stack.pavise.wait_event("worker_died")
            call.finish()
        assert START - 2000 * OUT > held > 0
        wait_booked(stack, "demo", calls=1, cost_usd=START - held, estimated_calls=1)
        kill_it(memcached)
        wait_left(stack.client, held)


def many(stack, count, threads=8):
    """Calls of random cost; what they cost together. Each is answered."""
    def one(_):
        return Decimal(pay(stack, random.randint(1, 3000) * OUT).headers["x-pavise-cost-usd"])
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, range(count)))


def test_the_bookkeeper_dies_under_load(start):
    """Nothing is lost, nothing is counted twice, and nobody waits for it."""
    stack = start(budget(usd("10", window="month")))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        load = pool.submit(many, stack, 300)
        for _ in range(3):
            os.kill(wait_until(stack.pavise.bookkeeper), signal.SIGKILL)
            wait_until(lambda: load.done() or len(stack.pavise.log.find(lambda line: line["event"] == "helper_died")))
        paid = load.result()
    assert stack.pavise.log.find(lambda line: line["event"] == "helper_died")
    wait_booked(stack, "demo", calls=300, cost_usd=paid, estimated_calls=0)
    wait_left(stack.client, 10 - paid)


def test_workers_and_the_bookkeeper_die_under_load(start):
    """The ledger never says less than what was really spent, and what is left is what it says."""
    stack = start({**budget(usd("10", window="month")), "server": {"workers": {"min": 8, "max": 16}}})
    dice = random.Random(7)

    def one(_):
        real = usage(0, 1000)
        prompt = stack.provider.on(lambda call: call.answer(completion(usage=real)))
        return stack.client.post(ask(prompt)).status
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(one, i) for i in range(200)]
        while not all(answer.done() for answer in answers):
            victims = [*stack.pavise.workers(), stack.pavise.bookkeeper()]
            if len([line for line in stack.pavise.deaths()]) < 6 and (victim := dice.choice(victims)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            concurrent.futures.wait(answers, 0.1, concurrent.futures.FIRST_COMPLETED)
    calls = len(stack.provider.seen)
    assert stack.pavise.deaths() and calls >= sum(answer.result() == 200 for answer in answers)
    wait_until(lambda: left(stack.client) == 10 - booked(stack)["demo"]["cost_usd"])
    assert booked(stack)["demo"]["cost_usd"] >= 1000 * OUT * sum(answer.result() == 200 for answer in answers)


def test_what_was_spent_is_written_when_it_stops(start):
    """At once, and read by pavisectl when nobody is there any more."""
    stack = start(budget(MONTH))
    pay(stack)
    stack.pavise.term()
    assert stack.pavise.process.wait() == 0
    with contextlib.closing(sqlite3.connect(stack.pavise.folder / "ledger.db")) as ledger:
        assert ledger.execute("SELECT SUM(cost_pusd), SUM(calls) FROM spend").fetchone() == (int(PAID * 10**12), 1)
        assert ledger.execute("SELECT COUNT(*) FROM held").fetchone()[0] <= 1
    stack.pavise.start()
    wait_left(stack.client, START - PAID)


def test_one_writer(start):
    """Whoever else has the ledger open: only the bookkeeper."""
    stack = start(budget(MONTH))
    pay(stack)
    bookkeeper = wait_until(stack.pavise.bookkeeper)
    holders = subprocess.run(["fuser", stack.pavise.folder / "ledger.db"], capture_output=True, text=True, check=False)
    assert [int(pid) for pid in holders.stdout.split()] == [bookkeeper]


# ── two hosts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Host(Stack):
    """One of a cluster: its own supervisor, run_dir and web server; memcached and its names are the others', too."""

    def __init__(self, folder, name, memcached):
        super().__init__(folder, {**budget(MONTH), "memcached": {"prefix": "cluster"}, "cluster": {
            "host": name, "hosts": ["east", "west"]}}, memcached=memcached)


def test_two_hosts_bring_their_shares(folder):
    with Memcached(folder) as memcached, Host(folder, "east", memcached) as east:
        refused = east.client.post(ask(unique()))  # nobody knows what west has spent
        assert (refused.status, refused.error["code"]) == (503, "limit_store_unavailable")
        with Host(folder, "west", memcached) as west:
            assert judged(east.client).status == 200
            pay(west)
            both = START - COST - PAID
            wait_left(east.client, both)
            wait_left(west.client, both)
            kill_it(memcached)
            wait_left(west.client, both)
            wait_left(east.client, both)
            west.pavise.term()
            west.pavise.process.wait()
            assert east.client.post(ask(unique())).status == 200  # nothing was lost
            memcached.flush()
            for _ in range(2):
                refused = east.client.post(ask(unique()))
                assert (refused.status, refused.error["code"]) == (503, "limit_store_unavailable")
            west.pavise.start()
            wait_left(east.client, both - COST)
            pay(west)
            pay(east)
            refused = west.client.post(ask(unique()))
            assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")


# ── the disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(folder):
    """A file system that is soon full."""
    path = folder / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], check=False).returncode:
        pytest.skip("may not mount a file system")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(path):
    with contextlib.suppress(OSError), open(path / "rubbish", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk(start, small_disk):
    """One warning. What is spent waits in memory, and answers go on; nothing of it is lost."""
    stack = start({**budget(usd("10", window="month")), "ledger": {"path": str(small_disk / "ledger.db")}})
    pay(stack)
    wait_booked(stack, "demo", calls=1)
    fill(small_disk)
    paid = PAID + many(stack, 40)
    stack.pavise.wait_event("ledger_down")
    paid += many(stack, 40)
    assert left(stack.client) == 10 - paid
    (small_disk / "rubbish").unlink()
    wait_booked(stack, "demo", calls=81, cost_usd=paid)
    assert judged(stack.client).status == 200
    wait_left(stack.client, 10 - paid - COST)
    events = [line["event"] for line in stack.pavise.log.find(lambda line: line["event"].startswith("ledger_"))]
    assert events == ["ledger_down", "ledger_up"]


def test_a_busy_ledger_queues(start):
    """Somebody else writes to it, for longer than anybody would wait: answers do not."""
    stack = start(budget(usd("10", window="month")))
    pay(stack)
    wait_booked(stack, "demo", calls=1)
    with contextlib.closing(sqlite3.connect(stack.pavise.folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        paid = PAID + many(stack, 60)
        assert booked(stack)["demo"]["calls"] == 1 and left(stack.client) == 10 - paid
        other.execute("ROLLBACK")
    wait_booked(stack, "demo", calls=61, cost_usd=paid)
    assert left(stack.client) == 10 - paid


def test_no_ledger_where_none_is_wanted(start):
    stack = start({**budget(MONTH), "ledger": {"path": ""}})
    pay(stack)
    assert left(stack.client) == START - PAID and stack.pavise.bookkeeper() is None
    said = stack.client.with_key("root").get("/admin/spend")
    assert (said.status, said.error["code"]) == (503, "ledger_unavailable")
