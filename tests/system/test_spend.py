"""Where did it go? What pavisectl spend and GET /admin/spend say of a ledger whose every row is known."""

import contextlib
import csv
import io
import json
import os
import pathlib
import sqlite3
import subprocess
import time
from decimal import Decimal

import pytest

from client import ask, unique
from money import COST, budget, usd
from process import BUILD, wait_until
from servers import Pavise, Stack

HOUR, DAY = 3600, 86400
NOW = int(time.time()) // HOUR * HOUR
FIELDS = ["requests", "calls", "input_tokens", "cached_tokens", "output_tokens", "cost_usd", "saved_usd",
          "estimated_calls"]
# hours ago, key, team, user, model, requests, calls, input, cached, output, picodollars of cost and of saving, estimated
ROWS = [
    (1, "alice", "red", "u1", "small", 10, 4, 400, 40, 100, 300_000_000_001, 700_000_000_000, 0),
    (2, "alice", "red", "", "large", 5, 5, 500, 0, 900, 100_000_000_000, 0, 2),
    (30, "bob", "red", "u2", "small", 7, 7, 70, 7, 77, 200_000_000_000, 1, 0),
    (80, "carol", "blue", '=cmd|"x",y', "small", 1, 1, 1, 0, 1, 9_000_000_000_000, 0, 0),
    (24 * 20, "lone", "", "", "small", 3, 2, 30, 3, 33, 50_000, 0, 0),
    (24 * 40, "alice", "red", "u1", "small", 1000, 1000, 1, 1, 1, 77_000_000_000_000, 0, 0),  # longer ago than asked
]
PLACES = {"key": 1, "team": 2, "user": 3, "model": 4}


def name_of(row, by):
    at = time.gmtime(NOW - row[0] * HOUR)
    if by in PLACES:
        return row[PLACES[by]]
    return time.strftime("%Y-%m-%d" if by == "day" else "%Y-%m-%dT%H:00Z", at)


def amounts(rows):
    """Their sums, as a row of an answer."""
    sums = [sum(column) for column in list(zip(*rows))[5:]] if rows else [0] * 8
    sums[5:7] = [Decimal(pusd) / 10**12 for pusd in sums[5:7]]
    return dict(zip(FIELDS, sums))


def expected(by, hours=24 * 30, **filters):
    """By name, in the order of the answer."""
    rows = [row for row in ROWS if row[0] <= hours and all(row[PLACES[f]] == value for f, value in filters.items())]
    groups = {}
    for row in rows:
        groups.setdefault(name_of(row, by), []).append(row)
    out = [{by: name, **amounts(group)} for name, group in groups.items()]
    return sorted(out, key=lambda row: row[by]) if by in ("day", "hour") else sorted(
        out, key=lambda row: -row["cost_usd"])


@pytest.fixture(scope="module")
def books(stack):
    """The module's stack, whose ledger holds ROWS, and nothing else is ever asked for there."""
    path = stack.pavise.folder / "ledger.db"
    wait_until(path.exists)
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as ledger, ledger:
        for ago, key, team, user, model, *sums in ROWS:
            ledger.execute("INSERT INTO spend (hour, key, team, user, ip, model, requests, calls, input_tokens,"
                           " cached_tokens, output_tokens, cost_pusd, saved_pusd, estimated, tokens)"
                           " VALUES (?, ?, ?, ?, '', ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                           (NOW - ago * HOUR, key, team, user, model, *sums))
    return stack


def ctl(pavise, *arguments):
    return subprocess.run([BUILD / "pavisectl", "spend", "--config", pavise.config_path, *arguments], check=False,
                          env={**os.environ, **pavise.env, "FAKE_PORT": "9"}, capture_output=True)


def said(pavise, *arguments):
    """What it says as JSON, its numbers exact."""
    done = ctl(pavise, *arguments, "--format", "json")
    assert (done.returncode, done.stderr) == (0, b""), done
    return json.loads(done.stdout, parse_float=Decimal)


def asked(stack, query="", status=200):
    answer = stack.client.with_key("root").get(f"/admin/spend{query}")
    assert answer.status == status, answer
    return json.loads(answer.body, parse_float=Decimal) if status == 200 else answer.error


BYS = ["key", "team", "user", "model", "day", "hour"]


@pytest.mark.parametrize("by", BYS)
def test_by(books, by):
    answer = said(books.pavise, "--by", by)
    assert answer["data"] == expected(by)
    assert list(answer) == ["object", "by", "since", "until", "data", "total"]
    assert (answer["object"], answer["by"], answer["total"]) == ("spend", by, amounts(ROWS[:-1]))


def test_sums_are_exact(books):
    total = said(books.pavise)["total"]
    assert total["cost_usd"] == Decimal("9.600000050001") and total["saved_usd"] == Decimal("0.700000000001")


@pytest.mark.parametrize("by", BYS)
def test_over_http_it_is_the_same(books, by):
    assert asked(books, f"?by={by}") == said(books.pavise, "--by", by)


def test_without_a_question_by_key_of_thirty_days(books):
    assert said(books.pavise) == asked(books) == said(books.pavise, "--by", "key", "--since", "30d")


@pytest.mark.parametrize("by", BYS)
def test_as_csv(books, by):
    done = ctl(books.pavise, "--by", by, "--format", "csv")
    head, *rows = list(csv.reader(io.StringIO(done.stdout.decode(), newline="")))
    assert head == [by, *FIELDS] and done.stdout.count(b"\r\n") == done.stdout.count(b"\n") == len(rows) + 1
    assert [[row[0].removeprefix("'"), *map(Decimal, row[1:])] for row in rows] == [
        list(row.values()) for row in expected(by)]
    assert not any(row[0].startswith("=") for row in rows)  # which a spreadsheet would calculate


@pytest.mark.parametrize("by", BYS)
def test_as_a_table(books, by):
    lines = ctl(books.pavise, "--by", by).stdout.decode().splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[0].split()[0] == by and lines[-1].split()[0] == "total"
    told = [[Decimal(word) for word in line.split()[-8:]] for line in lines[1:]]
    assert told == [list(row.values())[1:] for row in expected(by)] + [list(amounts(ROWS[:-1]).values())]
    assert [line.rsplit(None, 8)[0] for line in lines[1:-1]] == [row[by] or "-" for row in expected(by)]


def stamp(seconds, form):
    return time.strftime(form, time.gmtime(seconds))


@pytest.mark.parametrize("since, hours", [
    ("7d", 24 * 7), ("10h", 10), ("60d", 24 * 60), ("5400m", 90),
    (stamp(NOW - 30 * HOUR, "%Y-%m-%dT%H:00:00Z"), 30), (stamp(NOW - 30 * HOUR, "%Y-%m-%dT%H:59:59Z"), 30),
    (stamp(NOW - 29 * HOUR, "%Y-%m-%dT%H:00:00Z"), 29),
    (stamp(NOW - 80 * HOUR, "%Y-%m-%d"), (NOW - (NOW - 80 * HOUR) // DAY * DAY) // HOUR)])
def test_since(books, since, hours):
    """An hour that has begun counts as a whole."""
    assert said(books.pavise, "--since", since)["data"] == expected("key", hours)
    assert asked(books, f"?since={since.replace(':', '%3A')}")["data"] == expected("key", hours)


@pytest.mark.parametrize("until, hours", [
    ("10h", 30), ("3d", 80), (stamp(NOW - 29 * HOUR, "%Y-%m-%dT%H:00:00Z"), 30),
    (stamp(NOW - 30 * HOUR, "%Y-%m-%dT%H:00:01Z"), 30), (stamp(NOW - 30 * HOUR, "%Y-%m-%dT%H:00:00Z"), 31)])
def test_until(books, until, hours):
    rows = [row for row in ROWS[:-1] if row[0] >= hours]
    for answer in said(books.pavise, "--until", until), asked(books, f"?until={until}"):
        assert answer["total"] == amounts(rows), answer


@pytest.mark.parametrize("filters", [
    {"key": "alice"}, {"team": "red"}, {"user": "u1"}, {"model": "large"}, {"key": "alice", "model": "small"},
    {"key": "nobody"}, {"team": ""}])
def test_filters(books, filters):
    words = [word for name, value in filters.items() for word in (f"--{name}", value)]
    answer = said(books.pavise, "--by", "model", *words)
    assert answer["data"] == expected("model", **filters)
    assert answer == asked(books, "?by=model&" + "&".join(f"{name}={value}" for name, value in filters.items()))


def test_what_a_query_spells_out(books):
    user = ROWS[3][3]
    spelled = "".join(f"%{byte:02x}" for byte in user.encode())
    assert asked(books, f"?by=key&user={spelled}")["data"] == expected("key", user=user)
    assert asked(books, "?&by=user&")["data"] == expected("user")


@pytest.mark.parametrize("name, value, what", [
    ("by", "week", "'key', 'team', 'user', 'model', 'day' or 'hour'"), ("by", "", "'key'"), ("since", "yesterday", "'7d'"),
    ("since", "2026-13-01", "'2026-11-01'"), ("since", "2026-11-01T25:00:00Z", "'2026-11-01T12:00:00Z'"),
    ("since", "", "'7d'"), ("until", "-7d", "'7d'"), ("until", "7", "'7d'")])
def test_what_is_no_question(books, name, value, what):
    done = ctl(books.pavise, f"--{name}", value)
    assert done.returncode == 2 and not done.stdout
    assert f"--{name}: expected".encode() in done.stderr and what.encode() in done.stderr, done
    error = asked(books, f"?{name}={value}", 400)
    assert error["param"] == name and what in error["message"]


@pytest.mark.parametrize("arguments", [["--format", "xml"], ["--what"], ["more"], ["--by"]])
def test_what_is_no_command(books, arguments):
    done = ctl(books.pavise, *arguments)
    assert done.returncode == 2 and done.stderr and not done.stdout


def test_a_query_of_something_else(books):
    assert asked(books, "?colour=red", 400)["param"] == "colour"


def test_admins_only(books):
    said_no = books.client.with_key("alice").get("/admin/spend")
    assert (said_no.status, said_no.error["code"]) == (403, "admin_key_required")
    assert books.client.with_key("nobody").get("/admin/spend").status == 401
    assert books.client.with_key("root").call("POST", "/admin/spend", {}).status == 405


def test_a_ledger_that_is_not_there_or_none(folder):
    with Pavise(folder) as pavise:
        wait_until((pavise.folder / "ledger.db").exists)
    for spoil in pathlib.Path.unlink, lambda path: path.write_text("not what it was, and long enough for a page" * 99):
        for file in pavise.folder.glob("ledger.db-*"):
            file.unlink()
        spoil(pavise.folder / "ledger.db")
        done = ctl(pavise)
        assert done.returncode == 1 and b"ledger.db" in done.stderr and not done.stdout
    pavise.change({"ledger": {"path": ""}})
    assert ctl(pavise).returncode == 1 and b"no ledger is kept" in ctl(pavise).stderr


def test_what_was_asked_is_in_it(start):
    """Misses, a hit, an answer in a stream, a refusal; with and without a budget that counts them."""
    stack = start(budget(usd("5", per=["team"])))
    alice, prompt = stack.client.with_key("alice"), unique()
    for fields in {}, {}, {"user": "u"}, {"stream": True, "user": "u"}:
        alice.chat(prompt, **fields)
    alice.chat(unique(), stream=True, user="u")
    stack.client.with_key("bob").chat(unique())
    failed = stack.client.post(ask(stack.provider.on(lambda call: call.error(400))))
    assert failed.status == 400

    def rows(by):
        return {row[by]: row for row in asked(stack, f"?by={by}")["data"]}
    wait_until(lambda: rows("key").get("alice", {}).get("requests") == 5 and rows("key")["bob"]["requests"] == 1)
    assert rows("key")["alice"]["calls"] == 2 and rows("key")["alice"]["cost_usd"] == 2 * COST
    assert rows("key")["alice"]["saved_usd"] == 3 * COST
    assert rows("team")["red"]["cost_usd"] == 3 * COST
    assert rows("user")["u"]["requests"] == 3 and rows("user")["u"]["calls"] == 1
    assert rows("model")["demo"]["input_tokens"] == 33 and rows("model")["demo"]["cached_tokens"] == 9
    wait_until(lambda: rows("key").get("demo", {}).get("requests") == 1)
    assert rows("key")["demo"]["cost_usd"] == 0
