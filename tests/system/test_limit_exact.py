"""A limit of 100 lets 100 through, of 500 who ask two hosts at once, every time; and a window ends where it ends."""

import asyncio
import collections
import json

import pytest

from client import ask, unique
from servers import Stack
from test_limits_cache import limit

RUNS, CLIENTS, AMOUNT = 20, 500, 100


@pytest.fixture
def hosts(folder, memcached):
    """hosts(*limits) → two supervisors, each with a RUN_DIR and a web server, on one memcached."""
    stacks = []

    def start_both(*limits):
        config = {"limits": list(limits), "memcached": {"prefix": unique()[-16:].replace(" ", "x")},
                  "models": {"other": {"provider": "fake"}}}
        stacks.append(Stack(folder, config, memcached=memcached))
        stacks.append(Stack(folder, config, memcached=memcached, provider_url=stacks[0].provider.url))
        return stacks
    yield start_both
    for stack in reversed(stacks):
        assert not stack.pavise.deaths()
        stack.end()


def sent(port, body, key="demo"):
    data = json.dumps(body).encode()
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n").encode() + data


def at_once(stacks, bodies):
    """One client for each body, in turn at one host and the other; all have connected before the first asks. The
    statuses in the order of the bodies."""
    ports = [stack.webs["lighttpd"].port for stack in stacks]

    async def one(i, body, everybody):
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[i % 2])
        await everybody.arrive()
        writer.write(sent(ports[i % 2], body))
        answer = await reader.read(-1)
        writer.close()
        return int(answer.split(b" ", 2)[1])

    class Everybody:
        def __init__(self):
            self.there, self.all = 0, asyncio.Event()

        async def arrive(self):
            self.there += 1
            if self.there == len(bodies):
                self.all.set()
            await self.all.wait()

    async def crowd():
        everybody = Everybody()
        return await asyncio.wait_for(asyncio.gather(*(one(i, b, everybody) for i, b in enumerate(bodies))), 120)
    return asyncio.run(crowd())


def test_exactly_a_hundred_of_five_hundred(hosts):
    """Twenty times, each for a user of its own; the answers are known, so that nothing but the limit decides."""
    stacks = hosts(limit(per=["user"], amount=AMOUNT), limit("wide", per=[], amount=RUNS * CLIENTS))
    prompt = unique()
    stacks[0].client.chat(prompt, user="nobody")
    for run in range(RUNS):
        statuses = collections.Counter(at_once(stacks, CLIENTS * [ask(prompt, user=f"run-{run}")]))
        assert statuses == {200: AMOUNT, 429: CLIENTS - AMOUNT}, run
    # and nobody who was refused has taken anything from the others
    left = stacks[1].client.chat(prompt, user="somebody").headers["RateLimit"]
    assert f'"wide";r={RUNS * CLIENTS - RUNS * AMOUNT - 2}' in left


def test_two_limits_that_both_refuse(hosts):
    """Never more than either; and what one's refusals gave back, the other has."""
    stacks = hosts(limit("all", per=["user"], amount=100), limit("each", per=["user", "model"], amount=60))
    prompt = unique()
    bodies = [ask(prompt, user="u", model=("demo", "other")[i // 2 % 2]) for i in range(CLIENTS)]
    passed = collections.Counter(body["model"] for body, status in zip(bodies, at_once(stacks, bodies)) if status == 200)
    assert max(passed.values()) <= 60 and sum(passed.values()) <= 100
    for body in bodies[:4] * 40:  # one after the other until it is full
        passed[body["model"]] += stacks[0].client.post(body).status == 200
    assert sum(passed.values()) == 100 and max(passed.values()) <= 60
