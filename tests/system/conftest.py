"""
What the system tests stand on. Read servers.py (the real servers), provider.py (a provider whose every byte a test
decides), client.py (HTTP and streams as they arrive), fastcgi.py (what no web server would send), process.py and
logs.py; the fixtures here only choose how long each of them lives.
"""

import pathlib
import shutil
import signal
import tempfile

import pytest

from servers import Memcached, Stack

# Started in the background of a script, we were told to ignore Ctrl-C, and so would be whatever we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def new_folder():
    """A short name (sockets have at most 107 bytes), passable for www-data."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pv-"))
    folder.chmod(0o711)
    return folder


@pytest.fixture
def folder():
    """A temporary folder, this test's own."""
    path = new_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def module_folder():
    path = new_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def memcached():
    """One for all tests that do not hurt it: every Pavise has a prefix of its own."""
    path = new_folder()
    with Memcached(path) as m:
        yield m
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(folder, memcached):
    """start(config, …) → a Stack of this test's own (see servers.Stack), ended with the test."""
    stacks = []

    def start_stack(config=None, **options):
        stacks.append(Stack(folder, config, **{"memcached": memcached, **options}))
        return stacks[-1]
    yield start_stack
    for stack in reversed(stacks):
        stack.end()


@pytest.fixture(scope="module")
def stack(request, module_folder, memcached):
    """
    One Stack for a whole module, with both web servers. A module chooses its configuration with a variable CONFIG, and
    anything else of Stack's with STACK (a dict). No worker may crash in all that time.
    """
    options = {"webs": ("lighttpd", "apache"), "memcached": memcached, **getattr(request.module, "STACK", {})}
    with Stack(module_folder, getattr(request.module, "CONFIG", None), **options) as s:
        yield s
        assert not s.pavise.deaths()


@pytest.fixture
def provider(stack):
    return stack.provider


@pytest.fixture
def client(stack):
    """Through lighttpd."""
    return stack.client


@pytest.fixture(params=["lighttpd", "apache"])
def each(request, stack):
    """A Client through lighttpd, then through Apache."""
    return stack.webs[request.param].client
