"""Budgets in tests: limits of money and tokens, what is left of them, and what an answer of the fake provider costs."""

import concurrent.futures
from decimal import Decimal

from client import ask, unique
from process import wait_until

MILLION = Decimal(1000000)
# of servers.default_config's model "demo", and of provider.USAGE: 11 tokens in, 3 of them cached, 7 out
IN, CACHED, OUT = Decimal("1.00") / MILLION, Decimal("0.50") / MILLION, Decimal("2.00") / MILLION
COST = 8 * IN + 3 * CACHED + 7 * OUT
MAX_OUTPUT = 4096


def usd(amount="1.00", name="spend", **fields):
    return {"name": name, "count": "usd", "per": ["key"], "amount": str(amount), "window": "1d", **fields}


def tokens(amount, name="tokens", **fields):
    return {"name": name, "count": "tokens", "per": ["key"], "amount": amount, "window": "1d", **fields}


def budget(*limits, **model):
    """A configuration with these limits; model: of the model "demo"."""
    return {"limits": list(limits or [usd()]), "models": {"demo": model}}


def reconfigure(stack, over):
    """Until no worker is left that knows anything else."""
    old = set(stack.pavise.workers())
    stack.pavise.change(over)
    wait_until(lambda: not old & set(stack.pavise.workers()), what="new workers")


def left(client):
    """What is left of the tightest limit of money, what is set aside at this moment taken off."""
    return Decimal(client.get("/v1/models").headers["x-pavise-budget-remaining-usd"])


def wait_left(client, amount):
    """Until so much is left: an answer may end before its worker has said so."""
    wait_until(lambda: left(client) == amount, what=f"{amount} left, not {left(client)}")


def cost_of(headers):
    return Decimal(headers["x-pavise-cost-usd"])


def logged(line, name="cost_usd"):
    return Decimal(str(line[name]))


def usage(prompt, completion, **details):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **details}


def sent(stack, **fields):
    """What the provider is sent for such a chat."""
    prompt = unique()
    answer = stack.client.post(ask(prompt, **fields))
    assert answer.status == 200, answer
    return stack.provider.requests(prompt)[0].json


def held(stack, **fields):
    """What is set aside while such a request is answered."""
    prompt = stack.provider.manual()
    before = left(stack.client)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stack.client.post, {**ask(prompt), **fields, "messages": [
            *fields.get("messages", []), {"role": "user", "content": prompt}]})
        call = stack.provider.take(prompt)
        amount = before - left(stack.client)
        call.plain()
        assert answer.result().status == 200
    return amount
