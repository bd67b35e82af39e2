"""
The question that a cache key is the hash of, made a second time and from its description alone (lib/gate/cache.h,
lib/wire/canon.h, RFC 8785), so that the program is not compared with itself.
"""

import decimal
import hashlib
import json

EXCLUDED = {"model", "stream", "stream_options", "user", "metadata", "safety_identifier"}
WRAPPERS = {  # kind → member → its kind; all others keep their order
    "request": {"messages": "message", "tools": "tool", "tool_choice": "choice", "response_format": "format"},
    "message": {"content": "part", "tool_calls": "call", "function_call": "function"},
    "part": {"image_url": "inside", "input_audio": "inside", "file": "inside"},
    "call": {"function": "function"}, "tool": {"function": "function"}, "choice": {"function": "function"},
    "format": {"json_schema": "schema"}, "inside": {}, "function": {}, "schema": {},
}


class Members(list):
    """An object: its members in their order."""


def read(text):
    """JSON, with objects as Members, numbers as they would be spelled by us."""
    return json.loads(text, object_pairs_hook=Members, parse_int=lambda t: Number(integer(t)),
                      parse_float=lambda t: Number(double(float(t))))


class Number(str):
    pass


def integer(text):
    return str(int(text))


def double(d):
    """As ECMAScript's Number::toString (RFC 8785, 3.2.2.3), but what looks like an integer fits 64 bits."""
    if d == 0:
        return "0"
    sign, digits, exponent = decimal.Decimal(repr(d)).as_tuple()
    digits = "".join(map(str, digits)).rstrip("0")
    count, point = len(digits), len(decimal.Decimal(repr(d)).as_tuple().digits) + exponent
    if count <= point <= 21 and -2 ** 63 < d < 2 ** 64:
        text = digits + "0" * (point - count)
    elif 0 < point < count:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if count > 1 else "") + f"e{point - 1:+d}"
    return ("-" if sign else "") + text


def string(text):
    return json.dumps(text, ensure_ascii=False)


def spelled(value, kind=None):
    """In our spelling; with a kind, as it is hashed."""
    if isinstance(value, Members):
        members = list(value)
        if kind:
            members = sorted((n, v) for n, v in members if kind != "request" or n not in EXCLUDED)
        inside = WRAPPERS.get(kind, {})
        return "{" + ",".join(string(n) + ":" + spelled(v, inside.get(n)) for n, v in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(spelled(v, kind) for v in value) + "]"
    if isinstance(value, Number):
        return str(value)
    return string(value) if isinstance(value, str) else {None: "null", True: "true", False: "false"}[value]


def question(body, scope, operation, provider, base_url, model, headers=()):
    """What is hashed. headers: (name as configured, what the client says) of each of forward_headers."""
    parts = [scope, operation, provider, base_url, model, *(part for header in headers for part in header)]
    return "1\n" + "".join(string(p) + "\n" for p in parts) + spelled(read(body), "request")


def key(prefix, *args, **more):
    return f"{prefix}:a:{hashlib.sha256(question(*args, **more).encode()).hexdigest()}"


def tokens(value):
    """Every name and value in the order in which they stand."""
    if isinstance(value, Members):
        return ["{"] + [t for n, v in value for t in [n, *tokens(v)]] + ["}"]
    if isinstance(value, list):
        return ["["] + [t for v in value for t in tokens(v)] + ["]"]
    return [(type(value).__name__, value)]


def less_our_edits(sent, asked):
    """The provider's body with the named edits undone: the model's name, and include_usage."""
    out, mine = Members(), dict(asked)
    for name, value in sent:
        if name == "model":
            value = mine["model"]
        elif name == "stream_options" and mine.get("stream"):
            if not isinstance(mine.get(name), Members):
                assert value == Members([("include_usage", True)]), value
                if name in mine:
                    out.append((name, mine[name]))
                continue
            was = dict(mine[name])
            assert dict(value)["include_usage"] is True
            value = Members((n, was.get(n, v) if n == "include_usage" else v) for n, v in value
                            if n != "include_usage" or n in was)
        out.append((name, value))
    return out
