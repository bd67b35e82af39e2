"""Web servers that start pavise themselves: mod_fcgid and lighttpd's bin-path, by the conf/ files that we ship."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import time

import pytest

import procs
from client import ask, unique
from conftest import new_folder
from logs import Log
from process import BUILD, alive, wait_until
from provider import FakeProvider, chunk
from servers import KEYS, Web, default_config, keys_file, merged

CONF = {"lighttpd": "lighttpd-bin-path.conf", "apache": "apache-fcgid.conf"}


class Launched:
    """A web server, the workers that it starts, and their files, which www-data can read."""

    def __init__(self, folder, kind, memcached, provider):
        self.kind, self.provider, self.memcached = kind, provider, memcached
        # the build may stand where www-data cannot go
        self.pavise = shutil.copy(BUILD / "pavise", folder / "pavise")
        self.config_path, self.keys_path = folder / "pavise.json", folder / "keys.json"
        (folder / "shared").mkdir()
        (folder / "shared").chmod(0o777)
        self.original = default_config(folder / "shared", memcached.path, provider.url)
        self.write(self.config_path, self.original)
        self.write(self.keys_path, keys_file(KEYS))
        self.web = Web(folder, kind, folder / "pavise.sock", CONF[kind],
                       {"PAVISE": str(self.pavise), "CONFIG": str(self.config_path)})
        self.client = self.web.client
        wait_until(lambda: self.client.get("/readyz").status == 200, what=lambda: self.web.log.text())

    def write(self, path, value):
        fresh = path.with_suffix(".new")
        fresh.write_text(value if isinstance(value, str) else json.dumps(value))
        fresh.chmod(0o644)
        fresh.replace(path)

    def change(self, over):
        self.write(self.config_path, merged(self.original, over))

    def workers(self):
        return [pid for pid in procs.family(self.web.process.pid) if procs.command(pid) == "pavise" and alive(pid)]

    def line(self, answer):
        return self.web.log.wait(lambda line: line.get("request_id") == answer.request_id)

    def events(self, name):
        """What a worker says on its own stderr: in Apache's error log, and in a file of its own with lighttpd."""
        own = Log(self.web.folder / "log" / "pavise.log")
        return [line for log in (self.web.log, own) for line in log.find(lambda line: line["event"] == name)]


@pytest.fixture(scope="module", params=["lighttpd", "apache"])
def launched(request, memcached):
    folder = new_folder()
    with FakeProvider() as provider:
        it = Launched(folder, request.param, memcached, provider)
        yield it
        workers = it.workers()
        it.web.end()
        procs.gone(workers)
    shutil.rmtree(folder, ignore_errors=True)


def test_chat_and_its_line(launched):
    prompt = unique()
    answer = launched.client.chat(prompt)
    assert answer.json["choices"][0]["message"]["content"] == "It is fine."
    assert answer.cache == "MISS" and answer.headers["x-request-id"] == answer.request_id
    assert launched.client.chat(prompt, stream=True).cache == "HIT"
    assert launched.line(answer)["http.response.status_code"] == 200
    assert launched.line(answer)["worker"] in launched.workers()


def test_events_arrive_as_they_are_made(launched):
    prompt = launched.provider.manual()
    with launched.client.stream(ask(prompt, stream=True)) as stream:
        call = launched.provider.take(prompt)
        call.stream_head()
        for word in ("a", "b", "c"):  # the next is not made before this one is here
            call.event(chunk(word))
            assert stream.next_data().content == word
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert stream.rest()[-1] == "[DONE]"


def test_errors_keep_their_shape(launched):
    assert launched.client.with_key("nobody").post(ask()).error["code"] == "invalid_api_key"
    assert launched.client.post("{").status == 400
    assert launched.client.get("/v1/nothing").error["code"] == "unknown_url"
    assert launched.client.post(ask("x" * 300000)).status == 200


def crowd(launched, n):
    """n streams at once, so that n workers have served; the workers."""
    prompts = [launched.provider.manual() for _ in range(n)]
    streams = [launched.client.stream(ask(prompt, stream=True)) for prompt in prompts]
    calls = [launched.provider.take(prompt) for prompt in prompts]
    for call in calls:
        call.stream(["together"])
    for stream in streams:
        assert stream.rest()[-1] == "[DONE]"
        stream.close()
    return {launched.line(stream)["worker"] for stream in streams}


def test_each_request_in_flight_has_a_worker(launched):
    assert len(crowd(launched, 6)) == 6


def test_a_killed_worker_is_replaced(launched):
    prompt = launched.provider.manual()
    with launched.client.stream(ask(prompt, stream=True)) as stream:
        call = launched.provider.take(prompt)
        call.stream_head()
        call.event(chunk("a"))
        assert stream.next_data().content == "a"
        os.kill(procs.owner_of(call.socket, launched.workers()), signal.SIGKILL)
        with contextlib.suppress(ConnectionError, AssertionError):  # Apache puts an error page behind what there is
            assert "[DONE]" not in stream.rest()
        procs.let_go(call)
    wait_until(lambda: launched.client.post(ask(unique())).status == 200, 5)


def test_a_changed_configuration_is_taken_up_between_requests(launched):
    assert launched.client.post(ask(model="new")).status == 404
    launched.change({"models": {"new": {"provider": "fake"}}})
    wait_until(lambda: launched.client.post(ask(unique(), model="new")).status == 200, 5)
    launched.change({})


def test_a_broken_configuration_is_not(launched):
    launched.write(launched.config_path, '{"cache": {"ttl": "soon"}}')
    wait_until(lambda: launched.client.chat(unique()) and launched.events("config_rejected"), 5)
    message = launched.events("config_rejected")[0]["message"]
    assert message.startswith(f"{launched.config_path}: ")
    begin = time.monotonic()
    while time.monotonic() - begin < 1.2:  # more than one look
        assert launched.client.chat(unique()).status == 200
    pids = [line["process.pid"] for line in launched.events("config_rejected")]
    assert len(pids) == len(set(pids))  # each process says it once
    launched.change({"models": {"fixed": {"provider": "fake"}}})
    wait_until(lambda: launched.client.post(ask(unique(), model="fixed")).status == 200, 5)
    launched.change({})


def test_a_key_that_was_taken_away_a_while_ago_opens_nothing(launched):
    """Not even at a worker that nobody has asked anything since."""
    alice = launched.client.with_key("alice")
    assert alice.chat(unique()).status == 200
    crowd(launched, 6)
    launched.write(launched.keys_path, keys_file({**KEYS, "alice": {"disabled": True}}))
    time.sleep(1)  # nobody asks, so there is nothing to wait for
    with concurrent.futures.ThreadPoolExecutor(12) as many:
        answers = [task.result() for task in [many.submit(alice.post, ask(unique())) for _ in range(12)]]
    assert {answer.status for answer in answers} == {401}
    launched.write(launched.keys_path, keys_file(KEYS))


def test_a_key_that_was_taken_away_opens_nothing_a_second_later(launched):
    """However often the workers have looked meanwhile."""
    alice = launched.client.with_key("alice")
    wait_until(lambda: alice.post(ask(unique())).status == 200)
    with concurrent.futures.ThreadPoolExecutor(8) as many:
        launched.write(launched.keys_path, keys_file({**KEYS, "alice": {"disabled": True}}))
        end = time.monotonic() + 1
        asking = [many.submit(ask_until, alice, end) for _ in range(8)]
        assert [task.result().status for task in asking] == 8 * [401]
    launched.write(launched.keys_path, keys_file(KEYS))


def ask_until(client, end):
    """The answer to the first question behind that time."""
    while time.monotonic() < end:
        client.post(ask(unique()))
    return client.post(ask(unique()))


def test_a_worker_told_to_stop_finishes_what_it_holds(launched):
    prompt = launched.provider.manual()
    with launched.client.stream(ask(prompt, stream=True)) as stream:
        call = launched.provider.take(prompt)
        call.stream_head()
        call.event(chunk("a"))
        assert stream.next_data().content == "a"
        pid = procs.owner_of(call.socket, launched.workers())
        os.kill(pid, signal.SIGTERM)
        call.event(chunk("b"))
        assert stream.next_data().content == "b"
        call.event(chunk(finish="stop"))
        call.end_stream()
        assert stream.rest()[-1] == "[DONE]"
    procs.gone([pid])
    wait_until(lambda: launched.client.post(ask(unique())).status == 200, 5)
