"""A reader of Structured Fields (RFC 8941), as far as Cache-Status needs them: strict, so that what it reads is one."""

import re

KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
NUMBER = re.compile(r"-?(\d{1,12}\.\d{1,3}|\d{1,15})(?![\d.])")


class Reader:
    def __init__(self, text):
        self.text, self.at = text, 0

    def take(self, pattern):
        match = pattern.match(self.text, self.at)
        if not match:
            raise ValueError(f"{pattern.pattern} is not at {self.at} of {self.text!r}")
        self.at = match.end()
        return match

    def skip(self, spaces=" "):
        while self.at < len(self.text) and self.text[self.at] in spaces:
            self.at += 1

    def next_is(self, char):
        if self.text[self.at:self.at + 1] != char:
            return False
        self.at += 1
        return True

    def bare_item(self):
        """A token or a string as str, an integer or a decimal, a boolean."""
        if self.text[self.at:self.at + 1] == '"':
            return re.sub(r'\\(["\\])', r"\1", self.take(STRING).group(1))
        if self.next_is("?"):
            return self.take(re.compile("[01]")).group() == "1"
        if self.text[self.at:self.at + 1] in list("-0123456789"):
            text = self.take(NUMBER).group()
            return float(text) if "." in text else int(text)
        return self.take(TOKEN).group()

    def parameters(self):
        out = {}
        while self.next_is(";"):
            self.skip()
            name = self.take(KEY).group()
            out[name] = self.bare_item() if self.next_is("=") else True
        return out

    def list(self):
        """[(item, parameters)]"""
        self.skip()
        out = []
        while self.at < len(self.text):
            item = self.bare_item()
            out.append((item, self.parameters()))
            self.skip(" \t")
            if self.at < len(self.text):
                self.take(re.compile(","))
                self.skip(" \t")
                if self.at == len(self.text):
                    raise ValueError(f"a comma at the end of {self.text!r}")
        return out


FWD = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}
TYPES = {"hit": bool, "fwd": str, "fwd-status": int, "ttl": int, "stored": bool, "collapsed": bool, "key": str,
         "detail": str}


def cache_status(answer):
    """The parameters of our member of Cache-Status (RFC 9211), or None without the header; what it may not say fails."""
    values = answer.headers.get_all("Cache-Status")
    if not values:
        return None
    [(name, said)] = Reader(", ".join(values)).list()
    assert name == "pavise"
    for parameter, value in said.items():
        assert type(value) is TYPES[parameter], said
    assert said.get("fwd") in FWD | {None}, said
    assert ("hit" in said) != ("fwd" in said), said  # 2.2: "MUST NOT" both; and ours is always one of the two
    if "fwd" not in said:
        assert not {"fwd-status", "stored", "collapsed"} & set(said), said  # each "only … when fwd"
    return said
