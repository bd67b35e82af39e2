"""A stream from the cache is the stream that was recorded, chunk by chunk, whatever the provider says beside the text."""

import pytest

from provider import USAGE, chunk, usage_chunk


def said(delta, finish=None, **fields):
    """A chunk as others than OpenAI send it: no null that is not asked for."""
    rest = {name: fields.pop(name) for name in ("stop_reason", "logprobs") if name in fields}
    return {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1700000000, "model": "fake-1",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **rest}], **fields}


def call_piece(index, arguments, **more):
    function = {"arguments": arguments, **({"name": "f"} if more else {})}
    return {"tool_calls": [{"index": index, **more, "function": function}]}


def no_delta(piece):
    return {**piece, "choices": [{"index": 0, "finish_reason": piece["choices"][0]["finish_reason"]}]}


ROLE = {"role": "assistant", "content": ""}
COUNT = [{**USAGE, "completion_tokens": n} for n in (1, 2)]
STREAMS = {
    "OpenAI": [chunk(delta=ROLE), chunk("Hel"), chunk("lo"), chunk(finish="stop"), usage_chunk()],
    "usage beside the finish_reason": [said(ROLE), said({"content": "Hello"}), said({}, "stop", usage=USAGE)],
    "usage beside the finish_reason and apart": [said(ROLE), said({"content": "Hello"}),
                                                 said({}, "stop", usage=USAGE), usage_chunk()],
    "usage in every chunk": [said(ROLE, usage=COUNT[0]), said({"content": "Hello"}, usage=COUNT[1]),
                             said({}, "stop", usage=USAGE)],
    "usage on the way only": [said(ROLE, usage=COUNT[0]), said({"content": "Hello"}, usage=USAGE), said({}, "stop")],
    "nulls here and there": [said(ROLE, logprobs=None), said({"content": "Hel"}, stop_reason=None),
                             said({"content": "lo"}), said({}, "stop", stop_reason=None, logprobs=None)],
    "late and changing": [said(ROLE, x_groq={"id": "r"}, system_fingerprint="a"),
                          said({"content": "Hello"}, system_fingerprint="b"),
                          said({}, "stop", system_fingerprint="b", service_tier="default",
                               x_groq={"id": "r", "usage": USAGE})],
    "a chunk without choices": [{**said({}), "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
                                said(ROLE), said({"content": "Hello"}), said({}, "stop")],
    "no delta": [said(ROLE), said({"content": "Hello"}), no_delta(said({}, "stop"))],
    "calls that begin at 1": [said(ROLE), said(call_piece(1, "", id="a", type="function")), said(call_piece(1, "{}")),
                              said(call_piece(2, "[]", id="b", type="function")), said({}, "tool_calls")],
}


def lasting(answer):
    """The chunks, less what is made anew; and the end."""
    return [{name: value for name, value in event.items() if name not in ("id", "created")}
            for event in answer.events[:-1]] + answer.events[-1:]


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_the_replay_is_the_recording(each, provider, name, asked):
    def script(call):
        call.stream_head()
        for event in STREAMS[name]:
            call.event(event)
        call.end_stream()
    prompt = provider.on(script)
    options = {"stream_options": {"include_usage": True}} if asked else {}
    live = each.chat(prompt, stream=True, **options)
    hit = each.chat(prompt, stream=True, **options)
    assert (live.cache, hit.cache) == ("MISS", "HIT")
    assert lasting(hit) == lasting(live)
    counts = [event["usage"] for event in live.events[:-1] if event.get("usage")]
    if asked:
        assert counts == [event["usage"] for event in STREAMS[name] if event.get("usage")][-1:]
    else:
        assert not any("usage" in event for event in live.events[:-1])
    others = each.chat(prompt, stream=True, **({} if asked else {"stream_options": {"include_usage": True}}))
    assert [e["choices"] for e in others.events[:-1] if e["choices"]] == \
        [e["choices"] for e in live.events[:-1] if e["choices"]]
    whole = each.chat(prompt)
    assert whole.cache == "HIT" and (not counts or whole.json["usage"] == counts[0])
    [choice] = whole.json["choices"]
    if choice["finish_reason"] == "tool_calls":
        assert choice["message"]["tool_calls"] == [
            {"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}}
            for name, arguments in (("a", "{}"), ("b", "[]"))]
    else:
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "stop")


def test_counts_on_the_way_for_those_who_want_them(each, provider):
    def script(call):
        call.stream_head()
        for event in STREAMS["usage in every chunk"]:
            call.event(event)
        call.end_stream()
    options = {"include_usage": True, "continuous_usage_stats": True}
    live = each.chat(provider.on(script), stream=True, stream_options=options)
    assert live.events[:-1] == STREAMS["usage in every chunk"]
