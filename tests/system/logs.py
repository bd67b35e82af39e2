"""Log lines, wherever they went: a web server's error log, or the program's own stderr."""

import json
import pathlib
import re

from process import PATIENCE, wait_until

# lighttpd: `…FastCGI-stderr:{…}`; mod_proxy_fcgi: `…Got error '{…}\n'`; mod_fcgid: `…stderr: {…}`; else the line itself
WRAPPED = re.compile(r"""FastCGI-stderr:\s*(?P<lighttpd>\{.*)|Got error '(?P<apache>\{.*)'|stderr: (?P<fcgid>\{.*)"""
                     r"""|^(?P<plain>\{.*)""")
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")


def unescaped(text):
    """What Apache's ap_escape_errorlog_item() made of a line, undone."""
    def one(match):
        code = match.group(1)
        return chr(int(code[1:], 16)) if len(code) == 3 else {"n": "\n", "r": "\r", "t": "\t"}.get(code, code)
    return ESCAPE.sub(one, text).encode("latin-1", "replace").decode("utf-8", "replace")


def parsed(line):
    """The JSON object that a line of any log carries; None if it carries none. An object that is torn is an error."""
    match = WRAPPED.search(line)
    if not match:
        return None
    text = next(group for group in match.groups() if group is not None)
    if text.endswith("\\n") or text.startswith('{\\"'):  # escaped by Apache, once more than JSON does
        text = unescaped(text)
    return json.loads(text)


class Log:
    """One log file, read on as it grows."""

    def __init__(self, path):
        self.path, self.at, self.lines = pathlib.Path(path), 0, []

    def read(self):
        """All lines so far, as dicts."""
        if self.path.exists():
            with open(self.path, "rb") as file:
                file.seek(self.at)
                fresh = file.read()
            whole = fresh.rfind(b"\n") + 1
            self.at += whole
            for line in fresh[:whole].decode("utf-8", "replace").splitlines():
                entry = parsed(line)
                if entry is not None:
                    self.lines.append(entry)
        return self.lines

    def text(self):
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    def find(self, predicate):
        return [line for line in self.read() if predicate(line)]

    def wait(self, predicate, timeout=PATIENCE):
        """The first line for which predicate is true, now or soon."""
        found = wait_until(lambda: self.find(predicate), timeout, f"a line in {self.path}:\n{self.text()[-2000:]}")
        return found[0]
