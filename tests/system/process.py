"""Programs under test: started in a session of their own, ended by pid by whoever started them, whatever happens."""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("PAVISE_BUILD", "build")
PATIENCE = 15
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def wait_until(condition, timeout=PATIENCE, what=None):
    """Calls condition until it is true, and returns what it returned; fails when the time is over."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what or condition}; last: {value!r}")
        time.sleep(0.005)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def children(pid):
    """The processes that a process has started and not yet buried."""
    try:
        return [int(n) for n in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def comm(pid):
    """What ps calls it; None for one that is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def alive(pid):
    """Whether there is such a process (a zombie is none)."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Ends:
    """What end() ends, as a context manager."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Process(Ends):
    """A program with its stderr and stdout in a file. Context manager; end() may be called twice."""

    def __init__(self, command, log, env=None):
        self.command, self.log_path, self.env = [str(c) for c in command], pathlib.Path(log), env
        self.popen = None
        self.start()

    def start(self):
        parent = os.getpid()

        def before_exec():
            # when pytest itself is killed; TERM, since Apache's children outlive a killed Apache
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**os.environ, **(self.env or {})}, preexec_fn=before_exec,
                                          start_new_session=True, cwd=ROOT)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def said(self):
        return self.log_path.read_text(errors="replace")

    def wait(self, timeout=PATIENCE):
        """Until it has ended by itself; its exit status."""
        return self.popen.wait(timeout)

    def wait_ready(self, ready, timeout=PATIENCE):
        """Until ready() is true; fails with what the program said if it ends before."""
        def look():
            assert self.running(), f"{self.command} ended with {self.popen.returncode}:\n{self.said()[-3000:]}"
            return ready()
        wait_until(look, timeout, f"{self.command[0]} to be ready:\n{self.said()[-3000:]}")

    def kill(self):
        """SIGKILL to it and everything in its session, at once."""
        if self.popen.poll() is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.popen.wait(PATIENCE)

    def end(self, grace=5):
        """TERM; when the grace is over, KILL to its whole group. Its exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)  # what it left behind, or could not end
        except ProcessLookupError:
            pass
        return self.popen.wait(PATIENCE)
