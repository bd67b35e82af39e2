"""
The official client in a browser: a page of one origin, the gateway on another. What CORS promises is kept by the
browser and not by us, so a real one is asked: headless Chromium, which tells the page's server how each check went.
"""

import http.server
import json
import pathlib
import queue
import secrets
import shutil
import threading

import pytest

import install
from process import Process

BROWSER_PATIENCE = 240
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage"]
CHECKS = ["chat, miss", "chat, hit", "stream, hit", "stream, miss", "headers", "options", "models", "embeddings",
          "error 401", "error 404", "error 400", "abort"]
PAGE = """<!doctype html><meta charset="utf-8"><title>pavise</title>
<script>globalThis.setup = SETUP</script><script type="module" src="/page.js"></script>"""


class Pages(http.server.ThreadingHTTPServer):
    """The server of the page, an origin of its own; .said is what the page tells it, in order."""

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.setup, self.said = script, {}, queue.Queue()
        self.origin = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def send(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):  # pylint: disable=invalid-name
        if self.path == "/page.js":
            self.send("text/javascript", self.server.script)
        else:
            self.send("text/html", PAGE.replace("SETUP", json.dumps(self.server.setup)).encode())

    def do_POST(self):  # pylint: disable=invalid-name
        self.server.said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send("text/plain", b"")

    def log_message(self, *_):
        """Nothing: pytest's output is for the tests."""


@pytest.fixture(scope="module")
def script(site):
    if not shutil.which(CHROMIUM[0]):
        pytest.skip("chromium is not installed")
    try:
        folder = install.npm()
    except install.Unreachable as e:
        pytest.skip(str(e))
    out = pathlib.Path(site.folder) / "page.js"
    good, said = install.run(["node", folder / "bundle.mjs", folder / "browser.mjs", out], cwd=folder)
    assert good, said
    return out.read_bytes()


def visit(site, pages, url):
    """What a page says from its beginning to its end: check → what it said."""
    pages.setup = {"url": url, "tag": secrets.token_hex(6)}
    profile, said = pathlib.Path(site.folder) / f"profile-{pages.server_port}", {}
    command = [*CHROMIUM, f"--user-data-dir={profile}", pages.origin]
    environment = {"HOME": str(profile), "TMPDIR": str(site.folder)}
    with Process(command, profile.with_suffix(".log"), environment) as browser:
        while "end" not in said:
            try:
                one = pages.said.get(timeout=BROWSER_PATIENCE)
            except queue.Empty:
                raise AssertionError(f"the page fell silent after {list(said)}:\n{browser.said()[-3000:]}") from None
            said[one["check"]] = one
    del said["end"]
    return said, pages.setup["tag"]


@pytest.fixture(scope="module")
def visits(site, script):
    """(from an origin that is allowed, from one that is not, the gateway)"""
    with Pages(script) as welcome, Pages(script) as stranger:
        stack = site.start({"server": {"cors": {"origins": ["https://app.example", welcome.origin]}},
                            "limits": [{"name": "rpm", "count": "requests", "per": ["key"], "amount": 9999,
                                        "window": "1d"}]})
        url = f"http://127.0.0.1:{stack.client.port}/v1"
        yield visit(site, welcome, url), visit(site, stranger, url), stack


@pytest.fixture
def said(visits):
    """check → its detail, from the allowed origin; a check that failed is its test's failure."""
    class Details(dict):
        def __missing__(self, name):
            one = visits[0][0][name]
            assert one["ok"], one["detail"]
            return one["detail"]
    return Details()


def test_page_ran_to_its_end(visits):
    assert list(visits[0][0]) == list(visits[1][0]) == CHECKS


def test_chat_and_stream(said):
    assert "pavise" in said["chat, miss"]["text"]
    assert said["chat, hit"]["text"] == said["stream, hit"]["text"] == said["chat, miss"]["text"]
    assert "mantlet" in said["stream, miss"]["text"]
    assert [said[check]["cache"] for check in CHECKS[:4]] == ["MISS", "HIT", "HIT", "MISS"]


def test_page_sees_our_headers(said):
    assert said["headers"]["x-cache"] == "HIT"
    assert said["headers"]["cache-status"].startswith("pavise; hit")
    assert set(said["headers"]) >= {
        "age", "content-type", "x-request-id", "x-pavise-cost-usd", "x-pavise-saved-usd", "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}


def test_page_may_send_what_the_sdk_can_send(said, visits):
    assert said["options"] == f"page-{visits[0][1]}"


def test_models_and_embeddings(said):
    assert said["models"] == ["demo", "fake"]
    assert said["embeddings"] == 1536


@pytest.mark.parametrize("status,name,code,param", [
    (401, "AuthenticationError", "invalid_api_key", None), (404, "NotFoundError", "model_not_found", "model"),
    (400, "BadRequestError", "invalid_type", "temperature")])
def test_errors_with_their_request_id(said, visits, status, name, code, param):
    error = said[f"error {status}"]
    request_id = error.pop("id")
    assert error == {"name": name, "status": status, "code": code, "param": param}
    assert visits[2].log_of(request_id)["http.response.status_code"] == status


def test_abort(said):
    assert said["abort"] is None


def test_an_origin_that_is_not_allowed_gets_nothing(visits):
    answers = visits[1][0]
    for check in CHECKS:
        if check.startswith("error "):  # the page cannot even tell which one it was
            assert answers[check]["detail"]["name"] == "APIConnectionError"
        else:
            assert not answers[check]["ok"] and "Connection error" in answers[check]["detail"], check
