"""Large answers are remembered whole or not at all; sealed ones say nothing to who has no secret, and believe nobody."""

import base64
import random

import pytest

from client import unique
from process import wait_until
from provider import completion
from servers import Stack

MB = 1000 * 1000
SEAL = "seventeen bytes 1"


def chaos(size, seed=1):
    """Text that does not get much smaller."""
    return base64.b64encode(random.Random(seed).randbytes(size * 3 // 4)).decode()


def prefix(stack):
    return stack.pavise.config["memcached"]["prefix"]


def heads(stack):
    return stack.memcached.keys(prefix(stack) + ":a:")


def pieces(stack):
    return stack.memcached.keys(prefix(stack) + ":p:")


def pieces_of(text, size):
    return [text[at:at + size] for at in range(0, len(text), size)]


def content(answer):
    """Whatever its form."""
    if answer.body[:1] == b"{":
        return answer.json["choices"][0]["message"]["content"]
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in answer.events[:-1] if e["choices"])


def asked(stack):
    """A prompt that has been answered and remembered."""
    prompt = unique()
    answer = stack.client.chat(prompt)
    assert answer.cache == "MISS" and "stored" in answer.headers["Cache-Status"]
    return prompt


# ── Large ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("came", ["json", "stream"])
@pytest.mark.parametrize("kind", ["chaos", "text"])
def test_several_megabytes_in_both_forms(stack, each, came, kind):
    text = chaos(5 * MB) if kind == "chaos" else ("Pavises were painted. " * (5 * MB // 22))
    before = len(pieces(stack))
    prompt = stack.provider.on(lambda call: call.plain(pieces_of(text, 100_000)))
    miss = each.chat(prompt, stream=came == "stream")
    assert miss.cache == "MISS" and content(miss) == text and stack.log_of(miss)["stored"] is True
    assert len(pieces(stack)) == before + (4 if kind == "chaos" else 0)  # base64 gets a quarter smaller
    for stream in False, True:
        hit = each.chat(prompt, stream=stream)
        assert hit.cache == "HIT" and content(hit) == text
        if stream and came == "stream":
            assert [e["choices"] for e in hit.events[:-1]] == [e["choices"] for e in miss.events[:-1]]
    assert stack.provider.calls(prompt) == 1


def test_what_is_larger_than_max_entry_is_passed_on(start):
    stack = start({"cache": {"max_entry": "1MiB"}})
    for size, kept in (1100 * 1000, False), (900 * 1000, True):
        for stream in False, True:
            text = chaos(size)
            prompt = stack.provider.on(lambda call: call.plain(pieces_of(text, 100_000)))
            for cache in "MISS", "HIT" if kept else "MISS":
                answer = stack.client.chat(prompt, stream=stream)
                assert answer.cache == cache and content(answer) == text
                assert cache == "HIT" or stack.log_of(answer)["stored"] is kept
    assert not pieces(stack)


def test_a_stream_of_many_small_steps(stack, each):
    """As a stream it is a hundred times what it is as JSON: sent as it is played, and the worker holds none of it."""
    count = 60_000
    text = chaos(count * 3)
    prompt = stack.provider.on(lambda call: call.plain(pieces_of(text, 3)))
    miss, hit = each.chat(prompt, stream=True), each.chat(prompt, stream=True)
    assert (miss.cache, hit.cache) == ("MISS", "HIT") and len(hit.body) > 10 * MB
    assert [e["choices"] for e in hit.events[:-1]] == [e["choices"] for e in miss.events[:-1]]


@pytest.mark.parametrize("seal", [None, SEAL], ids=["plain", "sealed"])
def test_pieces_that_are_not_what_they_were(start, seal):
    """Missing, flipped, cut, in another order, of another answer: misses, and the answers are right."""
    stack = start({"cache": {"seal": seal}})
    text = chaos(3 * MB)
    prompt = stack.provider.on(lambda call: call.answer(completion(text)))
    other = stack.provider.on(lambda call: call.answer(completion(chaos(3 * MB, seed=2))))

    def check(spoil):
        stack.memcached.flush()
        assert stack.client.chat(prompt).cache == "MISS"
        names = pieces(stack)
        names = sorted(name for name in names if stack.memcached.get(name) is not None)
        assert len(names) == 3 and stack.client.chat(prompt).cache == "HIT"
        spoil(names, [stack.memcached.get(name) for name in names])
        answer = stack.client.chat(prompt)
        assert answer.cache == "MISS" and content(answer) == text
        assert stack.client.chat(prompt).cache == "HIT"

    def delete(at):
        return lambda names, values: stack.memcached.command(f"md {names[at]}".encode())

    def replace(at, change):
        return lambda names, values: stack.memcached.set(names[at], change(values))

    for at in range(3):
        check(delete(at))
        check(replace(at, lambda values: values[at][:-1]))
        check(replace(at, lambda values: bytes([values[at][0] ^ 1]) + values[at][1:]))
        check(replace(at, lambda values: values[(at + 1) % 3]))

    def other_answers(names, values):
        stack.client.chat(other)
        foreign = sorted(set(pieces(stack)) - set(names))[-3:]
        for mine, its in zip(names, foreign):
            stack.memcached.set(mine, stack.memcached.get(its))
    check(other_answers)


# ── Sealed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def everything(stack):
    """Names and values of all that memcached holds for this stack."""
    names = stack.memcached.keys(prefix(stack))
    return {name: stack.memcached.get(name) or b"" for name in names}


@pytest.mark.parametrize("form", ["json", "stream"])
@pytest.mark.parametrize("size", [100, 200_000, 3 * MB])
def test_nothing_readable_is_stored(start, form, size):
    secret = "painted-oak-and-leather"
    text = secret + chaos(size)
    for seal in None, SEAL:
        stack = start({"cache": {"seal": seal}})
        prompt = stack.provider.on(lambda call: call.plain(pieces_of(text, 100_000)), unique("what-is-a-secret"))
        answers = [stack.client.chat(prompt, stream=form == "stream") for _ in range(2)]
        assert [a.cache for a in answers] == ["MISS", "HIT"] and content(answers[1]) == text
        held = everything(stack)
        stored = {name: value for name, value in held.items() if ":c:" not in name}
        assert stored
        readable = [word for word in (secret, "choices", "assistant", "fake-1", "PVCV", "PVCE", prompt)
                    if any(word.encode() in name.encode() + value for name, value in stored.items())]
        if seal:
            assert not readable
        else:  # this test would find it; what is compressed is no text any more
            assert "PVCV" in readable and (size > 1000 or secret in readable)


def test_forged_replayed_and_truncated_values(start):
    stack = start({"cache": {"seal": SEAL}})
    prompt, other = asked(stack), asked(stack)
    assert stack.client.chat(prompt).cache == stack.client.chat(other).cache == "HIT"
    stack.memcached.flush()
    stack.client.chat(prompt)
    [key] = [name for name in heads(stack) if stack.memcached.get(name)]
    value = stack.memcached.get(key)
    stack.client.chat(other)
    [foreign] = [stack.memcached.get(name) for name in heads(stack) if name != key and stack.memcached.get(name)]
    wrongs = [foreign, b"", value[:-1], value[1:], value + b"\0", b"{}", b"PVCV" + value]
    for at in 0, 11, 12, 13, 14, len(value) // 2, len(value) - 17, len(value) - 16, len(value) - 1:
        changed = bytearray(value)
        changed[at] ^= 4
        wrongs.append(bytes(changed))
    for wrong in wrongs:
        stack.memcached.set(key, wrong)
        assert stack.client.chat(prompt).cache == "MISS"
    assert stack.client.chat(prompt).cache == "HIT"
    stack.memcached.set(key, value)
    assert stack.client.chat(prompt).cache == "HIT"


def test_different_seals_never_share(start, folder):
    first = start({"cache": {"seal": SEAL}})
    prompt = asked(first)
    [name] = heads(first)
    value = first.memcached.get(name)
    for seal, cache in (SEAL, "HIT"), ("another seventeen", "MISS"), (None, "MISS"):
        config = {"memcached": {"prefix": prefix(first)}, "cache": {"seal": seal}}
        with Stack(folder, config, memcached=first.memcached, provider_url=first.provider.url) as second:
            before = set(heads(first))
            assert second.client.chat(prompt).cache == cache
            assert second.client.chat(prompt).cache == "HIT"
            for other in set(heads(first)) - before:  # nor is one's value anything under the other's name
                first.memcached.set(name, first.memcached.get(other))
                assert first.client.chat(prompt).cache == "MISS"
                first.memcached.set(other, value)
                assert second.client.chat(prompt).cache == "MISS"
            first.memcached.set(name, value)
            assert first.client.chat(prompt).cache == "HIT"
    assert len(heads(first)) == 3


def test_a_seal_that_changes_takes_effect(start):
    stack = start({"cache": {"seal": SEAL}})
    prompt = asked(stack)
    stack.pavise.change({"cache": {"seal": "another seventeen"}})
    wait_until(lambda: stack.client.chat(prompt).cache == "MISS")  # the old workers are leaving
    assert stack.client.chat(prompt).cache == "HIT"


def test_a_seal_that_is_not_set_changes_nothing(start):
    stack = start({"cache": {"seal": SEAL}})
    prompt = asked(stack)
    stack.pavise.change({"cache": {"seal": "${NO_SUCH_VARIABLE}"}})
    line = stack.pavise.wait_event("config_rejected")
    assert "cache.seal: the environment variable NO_SUCH_VARIABLE is not set" in line["message"]
    assert stack.client.chat(prompt).cache == "HIT"


def test_sealed_embeddings(start):
    stack = start({"cache": {"seal": SEAL}})
    vectors = [{"object": "embedding", "index": i, "embedding": [0.5, i]} for i in range(3)]
    answer = {"object": "list", "model": "fake-1", "data": vectors, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    stack.provider.scripts[None] = lambda call: call.answer(answer)  # they have no prompt
    body = {"model": "demo", "input": [unique() for _ in vectors]}
    answers = [stack.client.post(body, path="/v1/embeddings") for _ in range(2)]
    assert [a.cache for a in answers] == ["MISS", "HIT"] and answers[1].json["data"] == vectors
    assert len(heads(stack)) == 3 and not any(b"embedding" in value for value in everything(stack).values())
