"""Headers of the client that a configuration names reach the provider and are part of the question; no others do."""

import concurrent.futures
import json
import socket
import subprocess

import pytest

from client import unique
from process import BUILD, PATIENCE, wait_until
from provider import completion
from servers import default_config, keys_file

CONFIG = {
    "forward_headers": ["OpenAI-Beta", "OpenAI-Organization", "X-Tenant"],
    "providers": {"fake": {"api_key": "${FAKE_KEY}"}},
}
ONE = {"min": 1, "max": 1, "spare": 1, "reserve": 0}  # so that there is one connection
STACK = {"env": {"FAKE_KEY": "sk-secret-of-the-provider"}}


def seen_by(provider, prompt):
    """The headers of its calls, oldest first."""
    return [call.headers for call in provider.requests(prompt)]


def cache_of(client, prompt, **headers):
    return client.chat(prompt, {name.replace("_", "-"): value for name, value in headers.items()}).cache


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_named_headers_arrive(each, provider, stream):
    prompt = unique()
    each.chat(prompt, {"OpenAI-Beta": "assistants=v2", "openai-organization": "org-1", "X-TENANT": "a b; c=\"d\" ü"
                       .encode().decode("latin-1")}, stream=stream)
    [headers] = seen_by(provider, prompt)
    assert headers["openai-beta"] == "assistants=v2" and headers["openai-organization"] == "org-1"
    assert headers["x-tenant"].encode("latin-1").decode() == 'a b; c="d" ü'


def test_others_do_not(each, provider):
    prompt = unique()
    each.chat(prompt, {"OpenAI-Project": "p", "X-Tenants": "t", "X": "y", "Cookie": "c=1",
                       "X-Forwarded-For": "192.0.2.1", "Accept": "text/html", "User-Agent": "the-client",
                       "Idempotency-Key": "k", "X-Stainless-Lang": "js",
                       "Referer": "https://app.example/", "OpenAI-Betas": "b"})
    [headers] = seen_by(provider, prompt)
    assert set(headers) == {"host", "content-type", "accept", "user-agent", "traceparent", "authorization",
                            "content-length", "accept-encoding"}
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("pavise/") and headers["accept"] == "application/json"
    assert headers["authorization"] == "Bearer sk-secret-of-the-provider"


def test_the_clients_key_never_arrives(each, provider):
    for headers in {}, {"Authorization": None, "api-key": "demo"}, {"Authorization": None, "x-api-key": "demo"}:
        prompt = unique()
        each.chat(prompt, headers)
        [seen] = seen_by(provider, prompt)
        assert seen["authorization"] == "Bearer sk-secret-of-the-provider"
        assert "demo" not in seen.values() and not {"api-key", "x-api-key"} & set(seen)


def test_what_they_say_is_part_of_the_question(each, provider):
    prompt = unique()
    assert cache_of(each, prompt) == "MISS"
    for beta in "v1", "v2", "V2", "v1,v2":
        assert cache_of(each, prompt, OpenAI_Beta=beta) == "MISS"
        assert cache_of(each, prompt, openai_beta=beta) == "HIT"
    assert cache_of(each, prompt, X_Tenant="v1") == "MISS"
    assert cache_of(each, prompt, X_Tenant="v1", OpenAI_Beta="v1") == "MISS"
    assert cache_of(each, prompt, OpenAI_Organization="v1") == "MISS"
    assert cache_of(each, prompt) == "HIT"
    assert provider.calls(prompt) == 8


def test_no_value_looks_like_two(client):
    prompt = unique()
    for headers in ({"OpenAI_Beta": "a", "X_Tenant": "b"}, {"OpenAI_Beta": 'a" "b'}, {"OpenAI_Beta": "ab"},
                    {"OpenAI_Beta": 'a"\\n"X-Tenant"\\n"b'}, {"X_Tenant": "ab"}, {"OpenAI_Beta": "b", "X_Tenant": "a"}):
        assert cache_of(client, prompt, **headers) == "MISS"


def test_others_are_no_part_of_the_question(each):
    prompt = unique()
    cache_of(each, prompt, X_Other="1", User_Agent="a", Accept="*/*")
    assert cache_of(each, prompt, X_Other="2", User_Agent="b") == "HIT"


def test_an_empty_value_is_as_good_as_none(client):
    prompt = unique()
    assert [cache_of(client, prompt), cache_of(client, prompt, X_Tenant="")] == ["MISS", "HIT"]


def test_a_long_value(client, provider):
    prompt, value = unique(), "v" * 5000
    cache_of(client, prompt, X_Tenant=value)
    assert seen_by(provider, prompt)[0]["x-tenant"] == value
    assert cache_of(client, prompt, X_Tenant=value + "w") == "MISS"


def test_for_embeddings_and_completions_too(client, provider):
    provider.scripts[None] = lambda call: call.answer(
        {"data": [{"index": 0, "embedding": [1]}], "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]})
    for path, body in ("/v1/embeddings", {"input": unique()}), ("/v1/completions", {"prompt": unique()}):
        body["model"] = "demo"
        caches = [client.post(body, headers, path).cache
                  for headers in ({"X-Tenant": "a"}, {"X-Tenant": "b"}, {"X-Tenant": "a"}, {})]
        assert caches == ["MISS", "MISS", "HIT", "MISS"]
        assert [call.headers.get("x-tenant") for call in provider.seen[-3:]] == ["a", "b", None]


# ── Configuration ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_default_is_openai_beta(start):
    stack = start()
    prompt = unique()
    stack.client.chat(prompt, {"OpenAI-Beta": "b", "X-Tenant": "t", "OpenAI-Organization": "o"})
    [headers] = seen_by(stack.provider, prompt)
    assert headers["openai-beta"] == "b" and not {"x-tenant", "openai-organization"} & set(headers)


def test_none_at_all(start):
    stack = start({"forward_headers": []})
    prompt = unique()
    assert [cache_of(stack.client, prompt, OpenAI_Beta=beta) for beta in ("a", "b")] == ["MISS", "HIT"]
    assert "openai-beta" not in seen_by(stack.provider, prompt)[0]


@pytest.mark.parametrize("value", [
    ["Authorization"], ["api-key"], ["X-API-Key"], ["Content-Type"], ["Content-Length"], ["Host"],
    ["Transfer-Encoding"], ["Connection"], ["Cookie"], ["traceparent"], ["Accept"], ["Accept-Encoding"], ["User-Agent"],
    ["X-One", "Expect"], [""], ["X One"],
    ["X:One"], ["X-One\r\nX-Two"], ["X_One"], ["ü"], ["X" * 65], [7], {"X-One": 1}, ["X-One", "x-one"],
    [f"X-{i}" for i in range(1000)]], ids=lambda value: str(value)[:30])
def test_what_a_configuration_may_not_say(folder, value):
    path = folder / "pavise.json"
    path.write_text(json.dumps({**default_config(folder, None, "http://127.0.0.1:9/v1"), "forward_headers": value}))
    path.chmod(0o600)
    (folder / "keys.json").write_text(json.dumps(keys_file({"demo": {}})))
    done = subprocess.run([BUILD / "pavise", "--check", "--config", path], stdin=subprocess.DEVNULL, timeout=PATIENCE,
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "forward_headers" in done.stderr, done


def test_a_change_is_taken_up(start):
    stack = start({"forward_headers": ["X-One"]})
    prompt = unique()
    stack.client.chat(prompt, {"X-One": "1", "X-Two": "2"})
    assert seen_by(stack.provider, prompt)[0]["x-one"] == "1"
    stack.pavise.change({"forward_headers": ["X-Two"]})
    stack.pavise.hup()

    def taken_up():
        other = unique()
        stack.client.chat(other, {"X-One": "1", "X-Two": "2"})
        [headers] = seen_by(stack.provider, other)
        return "x-one" not in headers and headers.get("x-two") == "2"
    wait_until(taken_up)


def heads_of(listener, count):
    """Answers so many requests on one connection; their heads as they were sent."""
    listener.settimeout(PATIENCE)
    connection, _ = listener.accept()
    body, heads = json.dumps(completion()).encode(), []
    with connection, connection.makefile("rb") as reader:
        for _ in range(count):
            lines = list(iter(lambda: reader.readline().decode("latin-1").strip(), ""))
            reader.read(int(next(line.split(":")[1] for line in lines if line.lower().startswith("content-length"))))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                               % (len(body), body))
            heads.append(lines)
    return heads


def test_each_header_arrives_once(start):
    with socket.create_server(("127.0.0.1", 0)) as listener, concurrent.futures.ThreadPoolExecutor(1) as pool:
        heads = pool.submit(heads_of, listener, 2)
        stack = start({"forward_headers": ["OpenAI-Beta", "X-Tenant"], "server": {"workers": ONE}},
                      provider_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        for _ in range(2):
            stack.client.chat(unique(), {"User-Agent": "the-client", "X-Tenant": "t", "OpenAI-Beta": "b"})
        for head in heads.result():
            names = [line.split(":")[0].lower() for line in head[1:]]
            assert sorted(names) == sorted(set(names)) and {"x-tenant", "openai-beta", "user-agent"} <= set(names)
