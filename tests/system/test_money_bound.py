"""What a call can cost at most is set aside before it is made, and its answers are as long as there is money for."""

from decimal import Decimal

import pytest

from client import ask, unique
from money import CACHED, COST, IN, MAX_OUTPUT, OUT, budget, cost_of, held, left, reconfigure, sent, tokens, usage, usd
from process import wait_until
from provider import completion
from servers import Stack

PARTS = {"part_tokens": {"image": 1500, "audio": 200, "file": 3000}}


@pytest.fixture(scope="module")
def rich(module_folder, memcached):
    """More money than these tests can spend: what they look at is what is asked for, and what is set aside."""
    with Stack(module_folder, {"limits": [usd("1000")], "models": {
            "new": {"provider": "fake", "cap_field": "max_completion_tokens", "max_output": 100,
                    "price": {"input": "1", "output": "2"}},
            "endless": {"provider": "fake", "price": {"input": "1", "output": "2"}},
            "parts": {"provider": "fake", "context": 100000, "max_output": 100, **PARTS,
                      "price": {"input": "1", "output": "2", "audio_input": "10", "audio_output": "20"}}}},
               memcached=memcached) as stack:
        yield stack
        assert not stack.pavise.deaths()


# ── The cap ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_least_of_the_clients_cap_and_the_models(rich):
    assert sent(rich)["max_tokens"] == MAX_OUTPUT  # none of the client's
    assert sent(rich, max_tokens=100)["max_tokens"] == 100
    assert sent(rich, max_tokens=5)["max_tokens"] == 5  # below 16, but its own
    assert sent(rich, max_tokens=10 ** 6)["max_tokens"] == MAX_OUTPUT


@pytest.mark.parametrize("none", [-1, 0, None])
def test_what_is_no_cap(rich, none):
    assert sent(rich, max_tokens=none)["max_tokens"] == MAX_OUTPUT


def test_the_field_that_the_model_takes(rich):
    assert "max_completion_tokens" not in sent(rich)
    body = sent(rich, max_completion_tokens=50)  # where the client says it
    assert body["max_completion_tokens"] == 50 and "max_tokens" not in body
    for fields in {}, {"max_tokens": 500}, {"max_completion_tokens": 500}, {"max_tokens": -1}:
        body = sent(rich, model="new", **fields)
        assert body["max_completion_tokens"] == 100 and "max_tokens" not in body


def test_without_a_budget_nothing_is_added(start):
    stack = start({"limits": [usd(enforce=False), tokens(1000, enforce=False)]})
    assert not {"max_tokens", "max_completion_tokens"} & set(sent(stack))
    assert sent(start(), max_tokens=-1)["max_tokens"] == -1


def test_what_is_set_aside(rich):
    base = held(rich, max_tokens=100) - 100 * OUT
    assert 300 * IN < base < 1000 * IN  # a few words, and what a provider may write around them
    assert held(rich, max_tokens=300) == base + 300 * OUT
    assert held(rich, max_tokens=100, n=3) == pytest.approx(base + 300 * OUT, abs=50 * IN)
    assert held(rich, max_tokens=100, best_of=4) == pytest.approx(base + 400 * OUT, abs=50 * IN)
    assert held(rich) == pytest.approx(base + MAX_OUTPUT * OUT, abs=50 * IN)
    text = {"role": "user", "content": "é" * 1000}  # two bytes each
    assert held(rich, max_tokens=100, messages=[text]) == pytest.approx(base + 100 * OUT + 2000 * IN, abs=100 * IN)


def test_a_cap_that_is_ours_does_not_make_another_question(rich):
    prompt = unique()
    assert rich.client.chat(prompt).cache == "MISS"
    assert rich.client.chat(prompt).cache == "HIT"
    reconfigure(rich, {"limits": []})
    try:
        assert rich.client.chat(prompt).cache == "HIT"
    finally:
        reconfigure(rich, {"limits": [usd("1000")]})


def test_the_cap_is_what_is_left(start):
    stack = start(budget(usd("0.002")))
    cap = sent(stack)["max_tokens"]
    assert 0.5 < cap * OUT / Decimal("0.002") < 1  # all but the input
    assert sent(stack, n=4)["max_tokens"] == pytest.approx(cap / 4, abs=20)
    assert sent(stack, max_tokens=50)["max_tokens"] == 50
    reconfigure(stack, budget(tokens(1000)))
    assert 300 < sent(stack)["max_tokens"] < 700
    assert stack.client.chat(unique(), max_tokens=16).status == 200


def test_the_tightest_of_several(start):
    stack = start(budget(usd("100"), tokens(1000), usd("50", "team", per=["team"])))
    assert 300 < sent(stack)["max_tokens"] < 1000


def test_no_answer_is_shorter_than_the_floor(start):
    """As the money runs out answers get shorter, down to 16 tokens and no further."""
    stack = start(budget(usd("0.002")))
    caps = []
    while (answer := stack.client.post(ask(prompt := unique(), max_tokens=200))).status == 200:
        caps.append(stack.provider.requests(prompt)[0].json["max_tokens"])
    assert caps[0] == 200 and caps == sorted(caps, reverse=True) and caps[-1] >= 16
    assert answer.error["code"] == "insufficient_quota"


def test_a_client_that_wants_less_than_the_floor_may_have_it(start):
    """To the token: where eight fit, nine do not."""
    stack = start(budget(usd("10")))
    need = held(stack, max_tokens=100) - 92 * OUT  # with an answer of 8
    real = usage(int((left(stack.client) - need) / IN), 0)
    assert stack.client.chat(stack.provider.on(lambda call: call.answer(completion(usage=real)))).status == 200
    assert need <= left(stack.client) < need + OUT
    for cap in 9, 50:  # who wants 50 is not given 8
        assert stack.client.post(ask(unique(), max_tokens=cap)).error["code"] == "insufficient_quota"
    assert sent(stack, max_tokens=8)["max_tokens"] == 8


# ── What has no bound ─────────────────────────────────────────────────────────────────────────────────────────────────

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100000}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "A" * 100000, "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}


@pytest.mark.parametrize("part,kind", [(IMAGE, "image"), (AUDIO, "audio"), (FILE, "file")])
@pytest.mark.parametrize("limit", [usd("1000"), tokens(10 ** 9)], ids=["usd", "tokens"])
def test_a_part_without_a_bound(start, part, kind, limit):
    stack = start(budget(limit))
    body = ask("x")
    body["messages"].append({"role": "user", "content": [{"type": "text", "text": "a"}, part]})
    answer = stack.client.post(body)
    assert (answer.status, answer.error["param"]) == (400, "messages[1].content[1]")
    assert f"models.demo.part_tokens.{kind}" in answer.error["message"]
    assert not stack.provider.seen
    stack.pavise.change({"limits": []})
    wait_until(lambda: stack.client.post(body).status == 200)  # nothing is limited, nothing is asked


def test_parts_by_the_models_figure(rich):
    def of(*parts):
        return held(rich, model="parts", max_tokens=50, messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"}, *parts]}])
    def near(amount):
        return pytest.approx(amount, abs=2 * IN)  # a comma between two parts
    plain = of()
    assert of(IMAGE) == near(plain + 1500 * IN) and of(IMAGE, IMAGE) == near(plain + 3000 * IN)
    assert of(FILE) == near(plain + 3000 * IN)
    assert of(AUDIO, AUDIO) == near(plain + 2 * 200 * 10 * IN)


def test_answers_that_are_spoken(rich):
    spoken = {"modalities": ["text", "audio"], "audio": {"voice": "v", "format": "wav"}}
    assert held(rich, model="parts", max_tokens=50, **spoken) == pytest.approx(
        held(rich, model="parts", max_tokens=50) + 50 * 9 * OUT, abs=200 * IN)
    answer = rich.client.post(ask("x", **spoken))
    assert (answer.status, answer.error["param"]) == (400, "modalities")
    assert "models.demo.price.audio_output" in answer.error["message"]


WHOLE = [("prediction", {"prediction": {"type": "content", "content": "x"}}),
         ("web_search_options", {"web_search_options": {}}),
         ("tools[0]", {"tools": [{"type": "web_search"}]}),
         ("service_tier", {"service_tier": "ultrafast"}),
         ("n_predict", {"n_predict": 10}),
         ("plugins", {"plugins": [{"id": "web"}]})]


@pytest.mark.parametrize("param,fields", WHOLE, ids=[param for param, _ in WHOLE])
def test_what_can_take_anything_takes_the_whole_context(rich, param, fields):
    answer = rich.client.post(ask("x", model="endless", **fields))
    assert (answer.status, answer.error["param"]) == (400, param) and "models.endless.context" in answer.error["message"]
    assert held(rich, **fields) == 128000 * OUT
    assert "max_tokens" not in sent(rich, **fields)  # OpenAI allows no cap beside a prediction


def test_the_whole_context_is_given_back(start):
    """A prediction's usage says all that it costs; that of a search does not."""
    stack = start(budget(usd("10")))
    assert stack.client.chat(unique(), **WHOLE[0][1]).status == 200
    assert left(stack.client) == 10 - COST
    answer = stack.client.chat(unique(), **WHOLE[1][1])
    assert cost_of(answer.headers) == 128000 * OUT and stack.log_of(answer)["cost_estimated"] is True
    assert left(stack.client) == 10 - COST - 128000 * OUT


def test_a_dearer_tier(start):
    prices = {"price": {"priority": {"input": "2.00", "output": "4.00"}}}
    stack = start(budget(usd("10"), **prices))
    prompt = stack.provider.on(lambda call: call.answer(completion(service_tier="priority")))
    answer = stack.client.chat(prompt, service_tier="priority")
    assert cost_of(answer.headers) == 11 * 2 * IN + 7 * 2 * OUT  # cached input by default as input
    stack.pavise.write_config({**stack.pavise.config, "models": {"demo": {
        "provider": "fake", "price": {"input": "1", "output": "2"}}}})
    refused = wait_until(lambda: (a := stack.client.post(ask(unique(), service_tier="priority"))).status == 400 and a)
    assert refused.error["param"] == "service_tier" and "price.priority" in refused.error["message"]


def test_cache_writes_are_dearer(start):
    stack = start(budget(usd("10"), price={"cache_write": "1.25"}))
    details = usage(100, 7, prompt_tokens_details={"cached_tokens": 10, "cache_write_tokens": 40})
    answer = stack.client.chat(stack.provider.on(lambda call: call.answer(completion(usage=details))))
    assert cost_of(answer.headers) == 50 * IN + 10 * CACHED + 40 * IN * Decimal("1.25") + 7 * OUT
    dear = held(stack, max_tokens=100) - 100 * OUT
    reconfigure(stack, {"models": {"demo": {"price": {"cache_write": "1.00"}}}})
    assert held(stack, max_tokens=100) - 100 * OUT == dear / Decimal("1.25")


def test_completions_and_embeddings(start):
    stack = start(budget(usd("10")))
    body = {"model": "demo", "prompt": ["a", "b", "c"], "n": 2, "max_tokens": 30}
    text = {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [
        {"index": i, "text": "x", "finish_reason": "stop"} for i in range(6)], "usage": usage(3, 60)}
    stack.provider.scripts[None] = lambda call: call.answer(text)
    answer = stack.client.post(body, path="/v1/completions")
    assert stack.provider.seen[0].json["max_tokens"] == 30 and cost_of(answer.headers) == 3 * IN + 60 * OUT
    assert stack.client.post({**body, "max_tokens": None}, path="/v1/completions").status == 200
    assert stack.provider.seen[1].json["max_tokens"] == MAX_OUTPUT
    vectors = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}],
               "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    stack.provider.scripts[None] = lambda call: call.answer(vectors)
    before = left(stack.client)
    answer = stack.client.post({"model": "demo", "input": "hello"}, path="/v1/embeddings")
    assert cost_of(answer.headers) == 5 * IN and "max_tokens" not in stack.provider.seen[2].json
    assert left(stack.client) == before - 5 * IN
    hit = stack.client.post({"model": "demo", "input": "hello"}, path="/v1/embeddings")
    assert (hit.cache, cost_of(hit.headers)) == ("HIT", 0) and left(stack.client) == before - 5 * IN
    reconfigure(stack, {"limits": [usd(10 - before + 5 * IN + Decimal("0.0005"), "tiny")]})
    assert left(stack.client) == Decimal("0.0005")  # what was spent today counts in a new budget, too
    answer = stack.client.post({"model": "demo", "input": "hello " * 200}, path="/v1/embeddings")
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
