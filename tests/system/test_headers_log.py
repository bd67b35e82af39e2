"""What an answer's headers say, and the one line that explains it in the log."""

import concurrent.futures
import json
import os
import re
import time

import pytest

from client import CHAT, ask, unique
from fastcgi import call, params_of
from process import wait_until
from servers import sha256

CONFIG = {
    "limits": [{"name": "rpm", "count": "requests", "per": ["key"], "amount": 50000, "window": "1d"}],
    "providers": {"fake": {"api_key": "${FAKE_KEY}"}},
    "server": {"max_body": "1MiB"},
}
STACK = {"env": {"FAKE_KEY": "sk-secret-of-the-provider"}}
COST = (8 * 1.00 + 3 * 0.50 + 7 * 2.00) / 1e6  # of provider.USAGE at the prices of default_config()

WHO = {"time", "level", "event", "request_id", "trace_id", "host.name", "client.address", "http.request.method",
       "url.path", "http.response.status_code", "http.response.body.size", "duration", "worker"}
MODEL = {"key_id", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "stream", "cache"}
RESULT = {"gen_ai.response.model", "gen_ai.response.id", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
          "gen_ai.usage.cache_read.input_tokens", "gen_ai.response.finish_reasons", "cost_usd"}


def everywhere(client, path_of_failure="/nowhere"):
    """An answer of every kind, by name."""
    prompt = unique()
    return {
        "miss": client.chat(prompt), "hit": client.chat(prompt), "stream hit": client.chat(prompt, stream=True),
        "stream miss": client.chat(unique(), stream=True), "bypass": client.chat(prompt, store=True),
        "401": client.with_key("nobody").post(ask(prompt)), "404": client.get(path_of_failure), "400": client.post("{"),
        "413": client.post(ask("x" * (1 << 20))), "415": client.post(ask(prompt), {"Content-Type": "text/plain"}),
        "models": client.get("/v1/models"), "health": client.get("/healthz"), "405": client.call("DELETE", CHAT),
    }


# ── Headers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_headers_on_every_answer(each):
    for kind, answer in everywhere(each).items():
        assert answer.headers["x-request-id"] == answer.request_id, kind
        assert answer.headers["X-Cache"] in ("HIT", "MISS", "BYPASS"), kind
        cached, forwarded = "hit" in kind, "miss" in kind or kind == "bypass"
        # RFC 9211, 2: "SHOULD NOT append … to responses that it generates"; RFC 9111, 5.1
        assert (answer.headers.get("Cache-Status") or "").startswith("pavise; ") == (cached or forwarded), kind
        assert ("Age" in answer.headers) == cached, kind
        assert len(answer.headers.get_all("Content-Type")) == 1, kind


def test_rate_limit_headers_where_it_was_counted(each):
    answers = everywhere(each.with_key("carol"))
    before = None
    for kind in "miss", "hit", "stream hit", "stream miss", "bypass":
        headers = answers[kind].headers
        assert headers["x-ratelimit-limit-requests"] == "50000"
        remaining = int(headers["x-ratelimit-remaining-requests"])
        assert before is None or remaining == before - 1, kind
        before = remaining
        assert re.fullmatch(r"(\d+h\d+m\d+s|\d+m\d+s|\d+s|\d+ms)", headers["x-ratelimit-reset-requests"])


def test_cache_headers(each):
    prompt = unique()
    miss = each.chat(prompt)
    assert miss.headers["Cache-Status"] == "pavise; fwd=uri-miss; stored"
    assert miss.cache == "MISS"
    hit = wait_until(lambda: (a := each.chat(prompt)).headers["Age"] != "0" and a)
    assert hit.cache == "HIT"
    ttl = int(re.fullmatch(r"pavise; hit; ttl=(\d+)", hit.headers["Cache-Status"])[1])
    assert 3590 <= ttl + int(hit.headers["Age"]) <= 3600
    assert float(hit.headers["x-pavise-cost-usd"]) == 0 and float(hit.headers["x-pavise-saved-usd"]) == COST
    assert float(miss.headers["x-pavise-cost-usd"]) == COST and "x-pavise-saved-usd" not in miss.headers


@pytest.mark.parametrize("given", ["a", "x" * 128, "req_A-1.2:3/4+5=6@7"])
def test_a_well_formed_request_id_is_taken_over(each, stack, given):
    given = (unique("").replace(" ", "-") + given)[:128]
    answer = each.get("/v1/models", {"x-request-id": given})
    assert answer.headers["x-request-id"] == given == stack.log_of(answer)["request_id"]


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", 'a"b', "é", "a;b", "<script>", "a,b", None], ids=repr)
def test_any_other_request_id_is_replaced(each, stack, given):
    answer = each.get("/v1/models", {"x-request-id": given})
    assert answer.status == 200
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    stack.log_of(answer.headers["x-request-id"])


def test_traceparent_is_taken_up_and_passed_on(each, provider, stack):
    prompt, trace, parent = unique(), os.urandom(16).hex(), os.urandom(8).hex()
    answer = each.chat(prompt, headers={"traceparent": f"00-{trace}-{parent}-00"})
    sent = provider.requests(prompt)[0].headers["traceparent"]
    version, sent_trace, span, flags = sent.split("-")
    assert (version, sent_trace, flags) == ("00", trace, "00") and span != parent
    assert stack.log_of(answer)["trace_id"] == trace


TRACE, SPAN = "1" * 32, "1" * 16


@pytest.mark.parametrize("given", [
    None, "", "x" * 55, f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01",
    f"00-{'G' * 32}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-x", f"00-{TRACE}-{SPAN}"])
def test_a_trace_is_begun_where_there_is_none(client, provider, stack, given):
    prompt = unique()
    answer = client.chat(prompt, headers={"traceparent": given})
    sent = provider.requests(prompt)[0].headers["traceparent"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", sent)
    assert sent.split("-")[1] == stack.log_of(answer)["trace_id"] != TRACE


# ── The log line ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_line_of_a_miss(each, stack):
    started = time.time()
    answer = each.chat(unique(), user="end-user", headers={"User-Agent": "agent/1.0 (x)"})
    line = stack.log_of(answer)
    assert set(line) == WHO | MODEL | RESULT | {"stored", "upstream_duration", "upstream_request_id", "user",
                                                "user_agent.original"}
    assert line["event"] == "request" and line["level"] == "info"
    assert line["time"][:17] in {time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(t)) for t in (started, time.time())}
    assert (line["http.request.method"], line["url.path"], line["http.response.status_code"]) == ("POST", CHAT, 200)
    assert line["http.response.body.size"] == len(answer.body)
    assert line["client.address"] == "127.0.0.1" and line["user_agent.original"] == "agent/1.0 (x)"
    assert (line["key_id"], line["user"]) == ("demo", "end-user")
    assert line["gen_ai.operation.name"] == "chat" and line["gen_ai.provider.name"] == "fake"
    assert (line["gen_ai.request.model"], line["gen_ai.response.model"]) == ("demo", "fake-1")
    assert line["gen_ai.response.id"] == "chatcmpl-upstream" and line["gen_ai.response.finish_reasons"] == "stop"
    assert (line["gen_ai.usage.input_tokens"], line["gen_ai.usage.output_tokens"]) == (11, 7)
    assert line["gen_ai.usage.cache_read.input_tokens"] == 3
    assert (line["stream"], line["cache"], line["stored"]) == (False, "miss", True)
    assert line["upstream_request_id"] == "req_fake" == answer.headers["x-pavise-upstream-request-id"]
    assert line["cost_usd"] == COST
    assert 0 < line["upstream_duration"] <= line["duration"] < 30
    assert line["worker"] in stack.pavise.workers()


def test_the_line_of_a_hit(each, stack):
    prompt = unique()
    each.chat(prompt)
    answer = each.with_key("demo").chat(prompt, stream=True)
    line = stack.log_of(answer)
    assert set(line) == WHO | MODEL | RESULT | {"cache_age", "saved_usd"}
    assert (line["cache"], line["cache_age"], line["stream"]) == ("hit", 0, True)
    assert (line["cost_usd"], line["saved_usd"]) == (0, COST)
    assert line["gen_ai.response.id"] == answer.events[0]["id"]
    assert line["http.response.body.size"] == len(answer.body)


def test_the_line_of_a_stream(each, stack):
    answer = each.with_key("alice").chat(unique(), stream=True)
    line = stack.log_of(answer)
    assert set(line) == WHO | MODEL | RESULT | {"stored", "upstream_duration", "upstream_request_id", "team",
                                                "gen_ai.response.time_to_first_chunk"}
    assert 0 < line["gen_ai.response.time_to_first_chunk"] <= line["duration"]
    assert (line["team"], line["stream"], line["stored"], line["cost_usd"]) == ("red", True, True, COST)


def test_the_lines_of_refusals(each, stack):
    answers = everywhere(each)
    for kind, error in {"401": "caller_invalid_api_key", "400": "caller_invalid_json", "404": "caller_unknown_url",
                        "413": "caller_body_too_large", "415": "caller_unsupported_media_type",
                        "405": "caller_method_not_allowed"}.items():
        line = stack.log_of(answers[kind])
        assert line["error.type"] == error and line["level"] == "warn"
        assert line["http.response.status_code"] == int(kind)
        assert ("key_id" in line) == (kind not in ("401", "404", "405"))
    assert stack.log_of(answers["models"])["url.path"] == "/v1/models"


def test_health_checks_are_not_logged(client, stack):
    quiet = [client.get("/healthz"), client.get("/readyz")]
    stack.log_of(client.get("/v1/models"))  # which came after them
    assert not any(stack.lines(answer.request_id) for answer in quiet)


def test_one_line_a_request_under_load(each, stack):
    prompt = unique()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: each.chat(prompt if i % 2 else unique(), stream=i % 3 == 0), range(120)))
    for answer in answers:
        assert stack.log_of(answer)["http.response.status_code"] == 200


def test_hostile_header_values_make_one_whole_line(each, stack):
    agent = "a'b\"c\\d\\x0a}{" + "ü" * 20 + "\t" + "y" * 3000
    answer = each.get("/v1/models", {"User-Agent": agent.encode()})
    assert answer.status == 200
    line = stack.log_of(answer)
    assert line["user_agent.original"].startswith("a'b\"c\\d\\x0a}{" + "ü" * 20)
    assert "worker" in line


def test_the_longest_line_stays_whole(stack):
    """Straight to the socket: a web server would not let as much through."""
    params = params_of("/v1/models", "GET", HTTP_USER_AGENT="\x01" * 30000, REMOTE_ADDR="9" * 5000,
                       REQUEST_URI="/v1/models?" + "q" * 30000)
    answer = call(stack.pavise.socket, params)
    [line] = answer.err
    assert answer.status == 200 and line.endswith("\n") and len(line) <= 7900
    assert json.loads(line)["worker"] in stack.pavise.workers()


def test_no_key_no_prompt_no_answer_in_any_log(start):
    stack = start({"providers": {"fake": {"api_key": "${FAKE_KEY}"}}}, webs=("lighttpd", "apache"),
                  env={"FAKE_KEY": "sk-secret-of-the-provider"}, keys={"somebody": {"sha256": [sha256("SECRETKEY")]}})
    for web in stack.webs.values():
        client = web.client.with_key("SECRETKEY")
        prompt = stack.provider.on(lambda call: call.plain(["SECRETANSWER"]), unique("SECRETPROMPT"))
        failing = stack.provider.on(lambda call: call.error(400, "SECRETPROMPT is no good"), unique("SECRETPROMPT"))
        broken = stack.provider.on(lambda call: call.answer(b"SECRETANSWER"), unique("SECRETPROMPT"))
        answers = [client.chat(prompt), client.chat(prompt, stream=True), client.post(ask(failing)),
                   client.post(ask(broken)), client.post('{"x": "SECRETPROMPT", nul'),
                   client.post(ask([{"type": "SECRETPROMPT"}])),
                   client.post(ask("x", temperature="SECRETPROMPT")), client.post(ask("SECRETPROMPT", seed=1e999)),
                   client.with_key("SECRETKEY2").post(ask("x")), client.post(ask("x"), {"x-api-key": "SECRETKEY"}),
                   client.post('{"x":"SECRETPROMPT","x":"SECRETPROMPT"}'), client.post('"SECRETPROMPT"'),
                   client.post(ask("x", role="SECRETPROMPT", model="demo", messages=[{"role": "SECRETPROMPT"}]))]
        cut = stack.provider.on(lambda call: (call.head(200, {"Content-Length": 99}), call.close()),
                                unique("SECRETPROMPT"))
        answers += [client.post(ask(cut)), client.post(ask(cut, stream=True))]
        for answer in answers:
            stack.log_of(answer)
    text = stack.all_text()
    assert "somebody" in text
    assert not re.findall(r"SECRET\w+|sk-secret.{10}", text)
