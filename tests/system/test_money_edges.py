"""Where limits, the cache, the ledger and reloads meet."""

import json
import subprocess
from decimal import Decimal

from client import ask, unique
from money import COST, IN, OUT, budget, left, logged, reconfigure, tokens, usage, usd
from process import BUILD, wait_until
from provider import chunk, completion
from servers import Memcached


def spent(stack, calls):
    """What the ledger says, as soon as it knows of so many calls."""
    def total():
        said = subprocess.run([BUILD / "pavisectl", "spend", "--config", stack.pavise.config_path, "--by", "key", "--format",
                               "json"], env={**stack.pavise.env, "FAKE_PORT": "1"}, stdout=subprocess.PIPE, check=False)
        if said.returncode:  # there is no ledger yet
            return None
        return json.loads(said.stdout, parse_float=Decimal)["total"]
    return wait_until(lambda: (said := total()) and said["calls"] == calls and said)


def embed(stack, *texts):
    """A token a byte, as the worst of tokenizers would."""
    def answer(call):
        used = sum(map(len, call.json["input"]))
        data = [{"object": "embedding", "index": i, "embedding": [1.5]} for i, _ in enumerate(call.json["input"])]
        call.answer({"object": "list", "model": "e", "data": data,
                     "usage": {"prompt_tokens": used, "total_tokens": used}})
    stack.provider.scripts[None] = answer
    return stack.client.post({"model": "demo", "input": list(texts)}, path="/v1/embeddings")


def test_each_input_has_a_context(start):
    stack = start(budget(tokens(10000), context=1000))
    answer = embed(stack, *(f"{i:03}" + "a" * 900 for i in range(20)))
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
    assert embed(stack, *(f"{i:03}" + "a" * 900 for i in range(8))).status == 200


def test_what_was_bought_and_not_what_was_shown(start):
    stack = start({"limits": []})
    assert embed(stack, "a" * 100, "b" * 100).status == 200
    assert embed(stack, "a" * 100, "c" * 10).status == 200
    said = spent(stack, 2)
    assert (said["input_tokens"], said["cost_usd"]) == (210, 210 * IN)


def test_best_of_is_bounded(start):
    stack = start()
    body = {"model": "demo", "prompt": ["a", "b"], "best_of": 2 ** 62}
    assert stack.client.post(body, path="/v1/completions").error["param"] == "best_of"


def test_another_count_under_the_same_name(start):
    """What was spent in tokens says nothing of dollars; the ledger does."""
    stack = start(budget(tokens(100000, name="daily")))
    prompt = stack.provider.on(lambda call: call.answer(completion(usage=usage(0, 4000))))
    assert stack.client.post(ask(prompt)).status == 200
    spent(stack, 1)
    reconfigure(stack, budget(usd("0.10", name="daily")))
    assert left(stack.client) == Decimal("0.10") - 4000 * OUT


def test_local_budgets_are_settled(start, folder):
    """Thirty calls reserve far more than there is, one after the other."""
    with Memcached(folder) as own:
        stack = start({**budget(usd("0.05", on_store_down="local")), "memcached": {"timeout": "50ms"}}, memcached=own)
        own.kill()
        for _ in range(30):
            assert stack.client.post(ask(unique())).status == 200
        many = stack.provider.on(lambda call: call.answer(completion(usage=usage(0, 25000))))
        assert stack.client.post(ask(many)).status == 200  # more than it was allowed: all of it
        refused = stack.client.post(ask(unique()))
        assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
        assert 30 * COST + 25000 * OUT > Decimal("0.05")


def test_without_a_budget_it_is_known_all_the_same(start):
    """A stream that its client leaves, and one that does not say what it used: their bytes say how much it can be."""
    stack = start({"limits": []})
    prompt = stack.provider.manual()
    with stack.client.stream(ask(prompt, stream=True)) as stream:
        call = stack.provider.take(prompt)
        call.stream_head()
        call.event(chunk("a" * 500))
        stream.next_data()
    assert call.peer_gone(10)
    call.close()
    silent = stack.provider.on(lambda call: call.stream(["x" * 300], usage=False))
    line = stack.log_of(stack.client.post(ask(silent, stream=True)))
    assert line["cost_estimated"] is True and logged(line) >= 300 * OUT
    said = spent(stack, 2)
    assert said["estimated_calls"] == 2 and said["cost_usd"] >= 800 * OUT


def test_tokens_in_a_minute_are_a_rate(start):
    stack = start(budget(tokens(3000, window="1m")))
    prompt = stack.provider.on(lambda call: call.answer(completion(usage=usage(2900, 100))))
    assert stack.client.post(ask(prompt, max_tokens=16)).status == 200
    refused = stack.client.post(ask(unique()))
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["Retry-After"]) <= 60 and "x-should-retry" not in refused.headers


def test_a_dry_run_of_what_has_no_end(start):
    """Nobody knows what a call without bounds has cost that timed out: much, but sums of it do not overflow."""
    stack = start({**budget(usd("5.00", name="dry", enforce=False, window="month"), context=None, max_output=None,
                            price={"output": "60.00"}),
                   "providers": {"fake": {"timeout": {"first_byte": "300ms"}}}})
    for _ in range(3):
        prompt = stack.provider.on(lambda call: call.hang(2))
        assert stack.client.post(ask(prompt, n=128, max_tokens=10 ** 9)).status == 504
    assert spent(stack, 3)["cost_usd"] == 30000
    reconfigure(stack, {"limits": [usd("5.00", window="month", per=["team"])]})
    assert stack.client.with_key("alice").post(ask(unique())).status == 200
    assert not stack.pavise.deaths()


def test_open_without_memcached_counts_what_was_seen(start, folder):
    with Memcached(folder) as own:
        stack = start({**budget(usd("1.00", on_store_down="open"), context=None, max_output=None),
                       "memcached": {"timeout": "100ms"}}, memcached=own)
        own.kill()
        silent = stack.provider.on(lambda call: call.stream(["x" * 5000], usage=False))
        line = stack.log_of(stack.client.post(ask(silent, stream=True)))
        assert line["cost_estimated"] is True and logged(line) >= 5000 * OUT


def test_many_limits_do_not_cut_a_field(start):
    def many(whose, **fields):
        return [usd("5.00", f"{whose}-limit-with-a-very-long-name-of-nearly-sixty-characters-{i:02}", **fields)
                for i in range(16)]
    stack = start(budget(*many("our")), keys={"alice": {"limits": many("own", per=[])}})
    answer = stack.client.with_key("alice").chat(unique())
    for name, parts in ("RateLimit-Policy", ("q", "qu", "w")), ("RateLimit", ("r", "t")):
        for member in answer.headers[name].split(", "):
            assert [p.split("=")[0] for p in member.split(";")[1:]] == list(parts), member
