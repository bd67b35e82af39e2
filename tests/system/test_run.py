"""`make run`, as somebody meets it who has just cloned this: it says what to try, and Ctrl-C leaves nothing behind."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile

import pytest

import procs
from process import BUILD, PATIENCE, ROOT, alive, children, free_port, listens, wait_until

RUN = ROOT / "app" / "run"
PARTS = ["memcached", "demo-llm", "pavise", "lighttpd"]


class Running:
    """app/run in the foreground of a session of its own, as in a terminal."""

    def __init__(self, folder, command=(RUN,), **settings):
        self.dir = pathlib.Path(folder) / "run"
        self.port, self.demo_port = free_port(), free_port()
        settings = {"PORT": self.port, "DEMO_PORT": self.demo_port, "RUN_DIR": self.dir, "B": BUILD, **settings}
        self.port = settings["PORT"]
        self.settings = {name: str(value) for name, value in settings.items()}
        self.out = pathlib.Path(folder) / f"out.{self.port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(command, env={**environment, **self.settings}, stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=subprocess.STDOUT, start_new_session=True)

    def said(self):
        return self.out.read_text()

    def wait(self):
        """Its exit status."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self.said()}") from None

    def ready(self):
        wait_until(lambda: self.process.poll() is not None or "Everything else" in self.said(), 25)
        assert self.process.poll() is None, self.said()
        self.everybody = procs.family(self.process.pid)
        return self

    def part(self, name):
        return next(pid for pid in procs.family(self.process.pid)
                    if procs.command(pid) == name and procs.command(procs.parent(pid)) != name)

    def interrupt(self, how=signal.SIGINT):
        self.process.send_signal(how)

    def curls(self):
        return [line for line in self.said().splitlines() if line.startswith("curl ")]

    def status(self, path="/healthz"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def nothing_left(self):
        """Neither a process that it started, nor a socket, nor a pid file, nor a port."""
        procs.gone(self.everybody)
        assert procs.users_of(self.dir) == []
        left = [p.name for p in self.dir.rglob("*") if p.is_socket() or p.suffix == ".pid"]
        assert left == []
        assert not listens(self.port) and not listens(self.demo_port)


@contextlib.contextmanager
def running(*command, folder=None, **settings):
    with contextlib.ExitStack() as stack:
        # short: the name of a UNIX socket ends at 107 bytes
        folder = folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="pv-"))
        r = Running(folder, command or (RUN,), **settings)
        try:
            yield r
        finally:
            if r.process.poll() is None:
                r.interrupt()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    r.process.wait(PATIENCE)
            for pid in procs.family(r.process.pid) if r.process.poll() is None else []:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if r.process.poll() is None:
                r.process.kill()
            r.process.wait(PATIENCE)


def bash(line):
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=False)


def start_stream(r, tokens=400):
    """A stream that takes its time (30 ms a token), begun."""
    connection = http.client.HTTPConnection("127.0.0.1", r.port, timeout=PATIENCE)
    connection.request("POST", "/v1/chat/completions",
                       json.dumps({"model": "demo", "stream": True, "max_completion_tokens": tokens,
                                   "messages": [{"role": "user", "content": "a long one"}]}),
                       {"Authorization": "Bearer demo", "Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    response.readline()
    return connection, response


@pytest.fixture(scope="module")
def up():
    with running() as r:
        yield r.ready()


def test_it_says_where_it_is_and_where_its_log_is(up):
    assert f"http://127.0.0.1:{up.port}/v1" in up.said()
    log = re.search(r"tail -F '(.+)'", up.said())[1]
    assert os.path.exists(log)
    assert "for this machine only" in up.said()
    assert up.status("/readyz") == 200


def test_the_two_curl_lines_work_as_printed(up):
    plain, stream = up.curls()
    done = bash(plain)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]
    done = bash(stream)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("data: {")
    assert done.stdout.endswith("data: [DONE]\n\n")


def test_one_line_a_request_is_where_it_says(up):
    bash(up.curls()[0])
    log = pathlib.Path(re.search(r"tail -F '(.+)'", up.said())[1])
    wait_until(lambda: '"url.path":"/v1/chat/completions"' in log.read_text(), what="a line for a chat")


def test_a_second_start_says_so_and_the_first_goes_on(up):
    parts = [pid for pid in up.everybody if pid in children(up.process.pid)]  # workers come and go
    with running(folder=up.dir.parent) as second:
        assert second.wait() == 1
        assert f"already runs here (pid {up.process.pid}, http://127.0.0.1:{up.port})" in second.said()
    assert up.process.poll() is None
    assert up.status("/readyz") == 200
    assert len(parts) >= 4 and all(alive(pid) for pid in parts)


@pytest.mark.parametrize("which", ["PORT", "DEMO_PORT"])
def test_a_port_that_is_taken(up, which):
    with running(**{which: up.port}) as second:
        assert second.wait() == 1
        assert second.said() == f"pavise: port {up.port} is taken by another program: choose another {which}\n"
        assert procs.users_of(second.dir) == []


def test_two_run_side_by_side(up):
    with running() as second:
        second.ready()
        assert second.status("/readyz") == up.status("/readyz") == 200
        second.interrupt(signal.SIGTERM)
        assert second.wait() == 0
        second.nothing_left()
    assert up.status("/readyz") == 200


@pytest.mark.parametrize("settings, says", [
    ({"PORT": "http"}, "'http' is not a port: PORT and DEMO_PORT are 1 to 65535"),
    ({"PORT": 8080, "DEMO_PORT": 8080}, "PORT and DEMO_PORT are both 8080: choose two"),
    ({"WEB": "nginx"}, "WEB is lighttpd or apache, not 'nginx'"),
    ({"CONFIG": "/nonexistent.json"}, "cannot read CONFIG /nonexistent.json"),
    ({"RUN_DIR": "/tmp/" + 100 * "x"}, "RUN_DIR is too long"),
    ({"B": "/nonexistent"}, "/nonexistent/pavise is not there yet: run make"),
])
def test_a_setting_that_cannot_work(settings, says):
    with running(**settings) as r:
        assert r.wait() == 1
        assert says in r.said()
        assert r.said().count("\n") == 1


def test_a_configuration_that_is_wrong(tmp_path):
    config = tmp_path / "pavise.json"
    config.write_text('{"servre": {}}')
    with running(CONFIG=config) as r:
        assert r.wait() == 1
        assert f"{config}: servre: there is no such setting, expected one of: server" in r.said()
        assert not r.dir.exists()


def test_ctrl_c_lets_a_stream_finish_and_leaves_nothing():
    with running() as r:
        r.ready()
        connection, response = start_stream(r, tokens=20)
        r.interrupt()
        assert response.read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert r.wait() == 0
        assert "requests in flight may finish" in r.said()
        r.nothing_left()


def test_ctrl_c_twice_ends_at_once():
    with running(CONFIG=ROOT / "conf" / "pavise.json") as r:
        r.ready()
        connection, response = start_stream(r, tokens=4000)
        r.interrupt()
        # one Ctrl-C can arrive twice within a second, so the second must come later: when the drain is under way
        wait_until(lambda: '"event":"drain"' in (r.dir / "log" / "pavise.log").read_text(), what="the drain")

        def again():
            r.interrupt()
            return not alive(r.process.pid)

        wait_until(again)
        assert r.wait() == 0
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        connection.close()
        r.nothing_left()


def test_make_run_and_ctrl_c_of_a_terminal():
    """Both make and what it runs get the signal."""
    with tempfile.TemporaryDirectory(prefix="pv-") as folder:
        port, demo_port = free_port(), free_port()
        with running("make", "-C", ROOT, "run", f"PORT={port}", f"DEMO_PORT={demo_port}",
                     f"B={BUILD}", f"RUN_DIR={folder}/run", folder=folder, PORT=port, DEMO_PORT=demo_port) as r:
            r.ready()
            assert r.status("/readyz") == 200
            os.killpg(r.process.pid, signal.SIGINT)
            r.wait()
            r.nothing_left()


def test_behind_apache():
    with running(WEB="apache") as r:
        r.ready()
        assert "behind apache" in r.said()
        plain, stream = r.curls()
        assert json.loads(bash(plain).stdout)["object"] == "chat.completion"
        assert bash(stream).stdout.endswith("data: [DONE]\n\n")
        r.interrupt()
        assert r.wait() == 0
        r.nothing_left()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_dies_ends_the_rest(part):
    with running() as r:
        r.ready()
        os.kill(r.part(part), signal.SIGKILL)
        assert r.wait() == 1
        assert f"pavise: {part} ended by itself" in r.said() and "so the rest ends too" in r.said()
        r.nothing_left()


def test_killed_it_takes_everybody_along():
    folder = tempfile.TemporaryDirectory(prefix="pv-")
    with running(folder=folder.name) as r:
        r.ready()
        r.process.kill()
        r.wait()
        procs.gone(r.everybody)
        assert not listens(r.port)
    # and what it could not clear away is not in the next one's way
    with folder, running(folder=folder.name) as again:
        again.ready()
        assert again.status("/readyz") == 200
