"""What a browser asks before a page may speak to us, and what it then lets the page see. A real one: tests/sdk."""

import pytest

from client import CHAT, ask, unique
from process import wait_until

APP = "https://app.example"
CONFIG = {
    "server": {"cors": {"origins": [APP, "http://127.0.0.1:3000"]}},
    "forward_headers": ["OpenAI-Beta", "X-Tenant"],
    "limits": [{"name": "rpm", "count": "requests", "per": ["key"], "amount": 50000, "window": "1d"}],
}
# what openai-node sends from a page, as a browser asks for it
SDK_HEADERS = ("authorization,content-type,idempotency-key,openai-organization,openai-project,x-stainless-arch,"
               "x-stainless-helper-method,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
               "x-stainless-poll-helper,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,"
               "x-stainless-timeout")


def words(value):
    return [word.strip().lower() for word in (value or "").split(",") if word.strip()]


def preflight(client, origin=APP, method="POST", headers=SDK_HEADERS, path=CHAT):
    """As a browser sends it: no key, no body."""
    return client.call("OPTIONS", path, headers={
        "Authorization": None, "Origin": origin, "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers})


def cors_of(answer):
    return {name.lower() for name in answer.headers if name.lower().startswith("access-control-")}


# ── Preflights ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
def test_preflight_from_an_allowed_origin(each, path):
    answer = preflight(each, path=path)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers.get_all("Access-Control-Allow-Origin") == [APP]
    assert {"get", "post"} <= set(words(answer.headers["Access-Control-Allow-Methods"]))
    assert set(words(answer.headers["Access-Control-Allow-Headers"])) == set(words(SDK_HEADERS))
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "origin" in words(answer.headers["Vary"])
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_preflight_of_a_get(each):
    answer = preflight(each, method="GET", headers="authorization", path="/v1/models/demo")
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Headers"].lower() == "authorization"


def test_preflight_without_headers(each):
    answer = preflight(each, headers=None)
    assert answer.status == 204
    assert "Access-Control-Allow-Headers" not in answer.headers


def test_only_headers_that_are_known_are_allowed(each):
    answer = preflight(each, headers="authorization, x-evil, x-stainless-any-new-thing,cookie , Cache-Control,,"
                                     "x-pavise-cache-ttl")
    assert set(words(answer.headers["Access-Control-Allow-Headers"])) == {
        "authorization", "x-stainless-any-new-thing", "cache-control", "x-pavise-cache-ttl"}


def test_forwarded_headers_are_allowed(each):
    answer = preflight(each, headers="x-tenant,openai-beta,x-tenants")
    assert set(words(answer.headers["Access-Control-Allow-Headers"])) == {"x-tenant", "openai-beta"}


def test_very_many_headers_do_no_harm(each):
    answer = preflight(each, headers=",".join(f"x-stainless-{n}" for n in range(400)))
    assert answer.status in (204, 400, 431)
    assert each.chat(unique(), {"Origin": APP}).headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize("origin", [
    "https://evil.example", "https://app.example.evil.example", "https://app.example:444", "http://app.example",
    "https://sub.app.example", "null", "", "https://app.exampl"])
def test_preflight_from_another_origin(each, origin):
    answer = preflight(each, origin)
    assert answer.status != 204
    assert not cors_of(answer)
    assert "origin" in words(answer.headers["Vary"])  # or a cache would hand it to the ones that may


def test_options_that_is_no_preflight(each):
    for headers in ({"Origin": APP}, {"Access-Control-Request-Method": "POST"}):
        answer = each.call("OPTIONS", CHAT, headers=headers)
        assert answer.status == 405
        assert answer.error["code"] == "method_not_allowed"


def test_preflight_asks_nobody_and_is_logged(stack, each):
    answer = preflight(each)
    assert answer.headers["x-request-id"] == answer.request_id
    line = stack.log_of(answer)
    assert (line["http.request.method"], line["http.response.status_code"]) == ("OPTIONS", 204)
    assert "key_id" not in line and "error.type" not in line
    assert "x-ratelimit-limit-requests" not in answer.headers  # it is not counted


# ── Answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_every_kind(client, provider, headers):
    """name → answer"""
    prompt, refused = unique(), provider.on(lambda call: call.error(429, headers={"Retry-After": "7"}))
    post = lambda body, **more: client.post(body, {**headers, **more})  # noqa: E731
    answers = {
        "miss": post(ask(prompt)), "hit": post(ask(prompt)), "stream hit": post(ask(prompt, stream=True)),
        "stream miss": post(ask(unique(), stream=True)), "bypass": post(ask(prompt, store=True)),
        "401": client.with_key("nobody").post(ask(prompt), headers), "400": post("{"),
        "404": client.get("/nowhere", headers), "405": client.call("DELETE", CHAT, headers=headers),
        "415": post(ask(prompt), **{"Content-Type": "text/plain"}), "models": client.get("/v1/models", headers),
        "health": client.get("/healthz", headers), "429": post(ask(refused)),
    }
    assert answers["429"].status == 429 and answers["429"].headers["Retry-After"] == "7"
    return answers


def test_a_page_may_see_every_header_of_ours(each, provider):
    for kind, answer in of_every_kind(each, provider, {"Origin": APP}).items():
        assert answer.headers.get_all("Access-Control-Allow-Origin") == [APP], kind
        assert "origin" in words(answer.headers["Vary"]), kind
        exposed = set(words(answer.headers["Access-Control-Expose-Headers"]))
        ours = {name for name in map(str.lower, answer.headers) if name.startswith(("x-", "cache-s", "age", "retry-"))}
        assert ours - {"x-accel-buffering"} <= exposed, kind
        assert "x-request-id" in exposed, kind


def test_a_page_of_another_origin_sees_nothing(each, provider):
    for headers in {"Origin": "https://evil.example"}, {}:
        for kind, answer in of_every_kind(each, provider, headers).items():
            assert not cors_of(answer), kind
            assert "origin" in words(answer.headers["Vary"]), kind


def test_origin_is_no_part_of_the_cache_key(each):
    prompt = unique()
    one = each.chat(prompt, {"Origin": APP})
    two = each.chat(prompt, {"Origin": "http://127.0.0.1:3000"})
    assert (one.cache, two.cache) == ("MISS", "HIT")
    assert two.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1:3000"


def test_origin_and_cookies_do_not_reach_the_provider(stack, each):
    prompt = unique()
    each.chat(prompt, {"Origin": APP, "Cookie": "session=secret", "Referer": APP + "/page"})
    [call] = stack.provider.requests(prompt)
    assert not {"origin", "cookie", "referer"} & set(call.headers)


def test_error_in_mid_stream_is_readable(stack, each):
    """The head is gone by then, and it had to be right."""
    prompt = stack.provider.on(lambda call: (call.stream_head(), call.event("what?"), call.end_stream()))
    answer = each.post(ask(prompt, stream=True), {"Origin": APP})
    assert answer.headers["Access-Control-Allow-Origin"] == APP


# ── Configuration ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_off_by_default(start):
    client = start().client
    answer = preflight(client)
    assert answer.status == 405
    assert not cors_of(answer)
    answer = client.chat(unique(), {"Origin": APP})
    assert not cors_of(answer)
    assert "Vary" not in answer.headers


def test_star_is_for_everybody(start):
    client = start({"server": {"cors": {"origins": ["*"], "max_age": "7s"}}}).client
    for origin in APP, "null", "http://localhost:5173":
        answer = preflight(client, origin)
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] in (origin, "*")
        assert answer.headers["Access-Control-Max-Age"] == "7"
        assert client.chat(unique(), {"Origin": origin}).headers["Access-Control-Allow-Origin"] in (origin, "*")


def test_a_change_is_taken_up(start):
    stack = start()
    stack.pavise.change({"server": {"cors": {"origins": [APP]}}})
    stack.pavise.wait_event("config_loaded")
    stack.pavise.hup()
    wait_until(lambda: preflight(stack.client).status == 204)
