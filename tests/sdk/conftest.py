"""
What the tests with real clients stand on: the harness of the system tests (see tests/system/conftest.py), with both
pretend providers behind one gateway: the model `demo` is demo-llm, `fake` is the FakeProvider of the tests, `off` is
one that is not configured.
"""

import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))

from servers import DemoLLM, Memcached, Stack  # noqa: E402


class Site:
    """A gateway and all that is around it; start(config) makes another one behind it with other settings."""

    def __init__(self, folder):
        self.folder = folder
        self.demo = DemoLLM(folder, "--first-ms", "0", "--token-ms", "0", "--tokens", "20", "--quiet")
        self.memcached = Memcached(folder)
        self.stacks = []

    def config(self, over):
        price = {"input": "1.00", "output": "2.00"}
        off = {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "${NOT_SET_ANYWHERE}"}
        providers = {"demo": {"dialect": "openai", "base_url": self.demo.url}, "off": off}
        models = {name: {"provider": name, "context": 128000, "max_output": 4096, "price": price}
                  for name in ("demo", "fake", "off")}
        return {"providers": providers, "models": models, **over}

    def start(self, over=None, **options):
        stack = Stack(self.folder, self.config(over or {}), memcached=self.memcached, **options)
        self.stacks.append(stack)
        return stack

    def end(self):
        for part in [*reversed(self.stacks), self.memcached, self.demo]:
            part.end()


@pytest.fixture(scope="session")
def site():
    with tempfile.TemporaryDirectory(prefix="pv-", ignore_cleanup_errors=True) as folder:
        pathlib.Path(folder).chmod(0o711)
        site = Site(folder)
        yield site
        site.end()


def pytest_terminal_summary(terminalreporter):
    """Each reason once: what was not tested is said, also with -q."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason in dict.fromkeys(report.longrepr[2].removeprefix("Skipped: ") for report in skipped):
        terminalreporter.write_line(f"skipped: {reason}")
