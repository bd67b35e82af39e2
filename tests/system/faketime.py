"""A clock that the test moves (libfaketime): for programs under test, while time that is measured goes on as it is."""

import calendar
import pathlib
import time

LIBRARY = next(iter(sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class Clock:
    """Stands still until it is set. .env is what a program needs to look at it."""

    def __init__(self, folder, text):
        assert LIBRARY, "Debian's faketime is missing: app/deps test"
        self.path = pathlib.Path(folder) / "clock"
        self.env = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(self.path), "FAKETIME_FMT": "%s",
                    "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        self.set(text)

    def set(self, text):
        """To "2036-02-29 23:59:59", UTC."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(str(calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S"))))
        fresh.chmod(0o644)
        fresh.replace(self.path)
