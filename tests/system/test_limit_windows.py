"""Windows begin and end with the clock, in UTC, to the millisecond, with a clock that the test moves."""

import pytest

from client import ask, unique
from faketime import Clock
from test_limit_headers import read
from test_limits_cache import limit

AMOUNT = 3
WINDOWS = [  # how long, when it begins, its last second, when the next one begins; the years are not over yet, for memcached goes by its own
    ("1s", "2036-03-10 10:00:00", "2036-03-10 10:00:00", "2036-03-10 10:00:01"),
    ("7s", "2036-03-10 00:00:04", "2036-03-10 00:00:10", "2036-03-10 00:00:11"),  # whole ones since 1970
    ("1m", "2036-03-10 10:00:00", "2036-03-10 10:00:59", "2036-03-10 10:01:00"),
    ("1h", "2036-03-10 10:00:00", "2036-03-10 10:59:59", "2036-03-10 11:00:00"),
    ("1d", "2036-03-10 00:00:00", "2036-03-10 23:59:59", "2036-03-11 00:00:00"),
    ("month", "2036-02-01 00:00:00", "2036-02-29 23:59:59", "2036-03-01 00:00:00"),
    ("month", "2036-12-01 00:00:00", "2036-12-31 23:59:59", "2037-01-01 00:00:00"),
]


@pytest.fixture
def at(folder, start):
    """at(time, *limits) → the clock, and a Stack that goes by it, in a time zone that is not UTC."""
    def start_at(text, *limits):
        clock = Clock(folder, text)
        return clock, start({"limits": list(limits)}, env={**clock.env, "TZ": "Pacific/Auckland"})
    return start_at


def passed(stack, client=None, tries=AMOUNT + 2):
    """How many of so many get through; those first."""
    statuses = [(client or stack.client).post(ask(unique())).status for _ in range(tries)]
    assert statuses == sorted(statuses) and set(statuses) <= {200, 429}
    return statuses.count(200)


@pytest.mark.parametrize("window,begin,last,then", WINDOWS)
def test_the_edge(at, window, begin, last, then):
    clock, stack = at(begin, limit(amount=AMOUNT, window=window))
    assert passed(stack) == AMOUNT
    clock.set(last)
    assert passed(stack) == 0
    clock.set(then)
    assert passed(stack) == AMOUNT
    clock.set(last)  # a clock that is set back finds what was counted
    assert passed(stack) == 0


def test_what_is_said_of_it(at):
    clock, stack = at("2036-02-29 23:58:20", limit("day", amount=1, window="1d"), limit("far", amount=9, window="month"))
    first, refused = (stack.client.post(ask(unique())) for _ in range(2))
    assert (first.status, refused.status) == (200, 429)
    assert read(first, "RateLimit") == {"day": {"r": 0, "t": 100}, "far": {"r": 8, "t": 100}}
    assert read(first, "RateLimit-Policy") == {"day": {"q": 1, "w": 86400}, "far": {"q": 9, "w": 29 * 86400}}
    assert first.headers["x-ratelimit-reset-requests"] == refused.headers["x-ratelimit-reset-requests"] == "1m40s"
    assert (refused.headers["Retry-After"], refused.headers["retry-after-ms"]) == ("100", "100000")
    assert "ends in 1m40s, at 2036-03-01T00:00:00.000Z" in refused.error["message"]
    assert "x-should-retry" not in refused.headers  # it is worth the wait
    clock.set("2036-02-29 23:57:59")
    refused = stack.client.post(ask(unique()))
    assert (refused.headers["retry-after-ms"], refused.headers["x-should-retry"]) == ("121000", "false")


def test_several_windows_at_once(at):
    """A burst that is over does not give back what the day has counted."""
    clock, stack = at("2036-03-10 23:59:00", limit("burst", amount=2, window="1m"), limit("day", amount=5, window="1d"))
    assert passed(stack) == 2
    for time, expected in ("2036-03-10 23:59:59", 0), ("2036-03-11 00:00:00", 2), ("2036-03-11 00:01:00", 2), \
            ("2036-03-11 00:02:00", 1), ("2036-03-11 00:03:00", 0), ("2036-03-12 00:00:00", 2):
        clock.set(time)
        assert passed(stack) == expected, time


def test_two_hosts_whose_clocks_differ(at, folder, start):
    """Each goes by its own, and counts for the other where they agree."""
    clock, first = at("2036-03-10 10:00:30", limit(amount=AMOUNT, window="1m"))
    other = Clock(first.pavise.folder, "2036-03-10 10:00:40")
    second = start({"limits": [limit(amount=AMOUNT, window="1m")],
                    "memcached": {"prefix": first.pavise.config["memcached"]["prefix"]}}, env=other.env)
    assert (passed(first, tries=2), passed(second)) == (2, 1)
    other.set("2036-03-10 10:01:05")
    assert (passed(first), passed(second)) == (0, AMOUNT)
    clock.set("2036-03-10 10:01:00")
    assert passed(first) == 0


def test_a_month_of_31_days_is_not_forgotten_at_once(at):
    """What memcached is told to keep for more than 30 days it would take for a date, and a past one."""
    _, stack = at("2036-12-01 00:00:00", limit(amount=1, window="month"))
    assert passed(stack) == 1
    [key] = stack.memcached.keys(stack.pavise.config["memcached"]["prefix"] + ":c:")
    assert int(stack.memcached.command(f"mg {key} t".encode()).split(b"t")[1]) > 31 * 86400
