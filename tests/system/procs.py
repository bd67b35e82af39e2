"""Processes as the kernel shows them: in what state, whose child, whose connection. For tests that are about them."""

import contextlib
import os
import pathlib

from client import ask
from process import alive, wait_until
from provider import chunk


def _stat(pid):
    """(parent, state, start in clock ticks since boot) or None."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), fields[0], int(fields[19])


def state(pid):
    """R, S, D, T, Z …; None when there is no such process."""
    found = _stat(pid)
    return found and found[1]


def age(pid):
    """Seconds since it was started."""
    found = _stat(pid)
    up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    return up - found[2] / os.sysconf("SC_CLK_TCK") if found else 0


def everybody():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent(pid):
    found = _stat(pid)
    return found and found[0]


def family(pid):
    """All that descend from it, itself left out."""
    young = {}
    for child in everybody():
        young.setdefault(parent(child), []).append(child)
    found, queue = [], [pid]
    while queue:
        more = young.get(queue.pop(), [])
        found += more
        queue += more
    return found


def zombies(pid):
    return [child for child in family(pid) if state(child) == "Z"]


def gone(pids, timeout=15):
    """Waits until none of them lives."""
    wait_until(lambda: not [pid for pid in pids if alive(pid)], timeout,
               f"the end of {[(pid, command(pid)) for pid in pids if alive(pid)]}")


def command(pid):
    """The name of its program."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().rpartition("/")[2]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def users_of(path):
    """Living processes whose command line or environment names it: whoever was forgotten."""
    needle, found = str(path).encode(), []
    for pid in everybody():
        folder = pathlib.Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            if needle in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes() and alive(pid):
                found.append(pid)
    return [pid for pid in found if pid != os.getpid()]


def owner_of(connection, among):
    """
    Which of these processes holds the other end of this TCP connection over 127.0.0.1. Its port alone does not say: the
    kernel gives the same one to connections that lead elsewhere, those of tests beside this one too.
    """
    ends = tuple(f"0100007F:{end[1]:04X}" for end in (connection.getpeername(), connection.getsockname()))
    inodes = {f"socket:[{fields[9]}]" for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
              if (fields := line.split())[1:3] == [*ends]}
    for pid in among:
        with contextlib.suppress(OSError):
            if any(os.readlink(fd) in inodes for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()):
                return pid
    return None


def let_go(call):
    """The provider's end of a call whose other end may be gone already."""
    with contextlib.suppress(OSError):
        call.close()


class Held:
    """A stream that has begun and goes on when the test says so. .worker is the process that holds it."""

    def __init__(self, stack, client=None):
        self.provider, self.prompt = stack.provider, stack.provider.manual()
        self.stream = (client or stack.client).stream(ask(self.prompt, stream=True))
        self.call = self.provider.take(self.prompt)
        self.call.stream_head()
        self.call.event(chunk("one"))
        assert self.stream.next_data().content == "one"
        self.worker = owner_of(self.call.socket, everybody())
        assert self.worker

    def finish(self):
        """It goes on and ends, and the client has all of it."""
        self.call.event(chunk("two"))
        self.call.event(chunk(finish="stop"))
        self.call.end_stream()
        rest = self.stream.rest()
        assert len(rest) == 3 and '"two"' in rest[0] and rest[2] == "[DONE]", rest
        self.stream.close()

    def cut(self):
        """What the client still got of it, once its connection has ended; the provider sees it too."""
        got = []
        with contextlib.suppress(ConnectionError):
            got = self.stream.rest()
        self.stream.close()
        let_go(self.call)
        return got
