"""pavisectl: keys are made and changed without hurting the file, and what it says is what pavise does."""

import concurrent.futures
import json
import os
import pty
import re
import shutil
import stat
import subprocess
import threading

import pytest

from client import ask, unique
from process import BUILD, PATIENCE, ROOT, wait_until
from servers import KEYS, default_config, keys_file, sha256

CTL = BUILD / "pavisectl"
HEADERS = {"bearer": lambda key: {"Authorization": f"Bearer {key}"},
           "api-key": lambda key: {"Authorization": None, "api-key": key},
           "x-api-key": lambda key: {"Authorization": None, "x-api-key": key}}


class Said:
    """What a run of pavisectl came to."""

    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self):
        return f"{self.status}\n{self.out}\n{self.err}"


def ctl(*arguments, stdin="", **environment):
    return Said(subprocess.run([CTL, *map(str, arguments)], input=stdin, capture_output=True, text=True,
                               timeout=PATIENCE, env={**os.environ, **environment}, check=False))


def without_comments(text):
    """The JSON in a text whose comments begin a line, or stand behind a blank."""
    return json.loads(re.sub(r"(^|\s)//.*$", "", text, flags=re.M))


class KeysFile:
    """A keys file, and `pavisectl key` on it."""

    def __init__(self, path, text):
        self.path = path
        path.write_bytes(text.encode())
        path.chmod(0o640)

    def __call__(self, *arguments, stdin=""):
        return ctl("key", *arguments, "--keys", self.path, stdin=stdin)

    def new(self, *arguments):
        """The key."""
        said = self("new", *arguments)
        assert said.status == 0, said
        return said.out.strip()

    def whose(self, key):
        """(status, what it says)"""
        said = self("check", stdin=key + "\n")
        assert said.err == ""
        return said.status, said.out.strip()

    @property
    def text(self):
        return self.path.read_bytes().decode()

    @property
    def entries(self):
        return without_comments(self.text)


@pytest.fixture
def keys(folder):
    return KeysFile(folder / "keys.json", "// ours\n{\n\t\"demo\": { \"sha256\": \"%s\" } // known to all\n}\n" %
                    sha256("demo"))


# ── Help ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_help_names_every_command():
    for arguments in ["help"], ["--help"], ["-h"]:
        said = ctl(*arguments)
        assert (said.status, said.err) == (0, "")
        for command in ("key new NAME", "key retire", "key disable", "key enable", "key list", "key check",
                        "config explain", "config check"):
            assert f"  pavisectl {command}" in said.out
    assert ctl("--version").out.startswith("pavisectl ")
    for arguments in ["key", "help"], ["help", "key"], ["key", "--help"]:
        said = ctl(*arguments)
        assert said.status == 0 and "pavisectl key list" in said.out and "config explain" not in said.out
    said = ctl("key", "new", "--help")
    assert said.status == 0 and "pavisectl key new NAME" in said.out and "key list" not in said.out


@pytest.mark.parametrize("arguments, says", [
    ([], "usage:"), (["key"], "pavisectl key new"), (["frob"], "no command 'frob'"), (["key", "frob"], "'frob'"),
    (["key", "new"], "NAME is missing"), (["key", "new", "a b"], "'a b' is no name"),
    (["key", "new", "a", "b"], "unexpected argument 'b'"), (["key", "new", "a", "--force"], "'--force'"),
    (["key", "new", "a", "--expires", "tomorrow"], "'tomorrow' is no time"),
    (["key", "new", "a", "--expires", "2020-01-01T00:00:00Z"], "over already"),
    (["key", "new", "a", "--models", ","], "not empty"), (["key", "new", "a", "--team", ""], "not empty"),
    (["key", "new", "demo", "--rotate", "--admin"], "--rotate changes the secret alone"),
    (["key", "check", "pv-secret"], "unexpected argument"), (["key", "list", "--team", "red"], "'--team'"),
    (["key", "list", "--config", "x"], "choose one"),
    (["config", "check", "x"], "unexpected argument 'x'"), (["config", "explain", "--all"], "'--all'")])
def test_what_is_not_understood_changes_nothing(keys, arguments, says):
    before = keys.text
    said = ctl(*arguments, *(["--keys", keys.path] if arguments[:1] == ["key"] and len(arguments) > 2 else []))
    assert (said.status, said.out) == (2, "")
    assert says in said.err
    assert keys.text == before


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_key_is_printed_once_and_only_its_hash_is_kept(keys, folder):
    said = keys("new", "alice", "--team", "red", "--models", "gpt-4o-*,demo", "--expires", "2099-01-01T00:00:00+02:00",
                "--admin")
    assert said.status == 0
    key = said.out.rstrip("\n")
    assert re.fullmatch("pv-[0-9A-Za-z]{43}", key)
    assert key not in said.err and key not in keys.text
    assert keys.entries["alice"] == {"sha256": sha256(key), "team": "red", "models": ["gpt-4o-*", "demo"],
                                     "expires": "2099-01-01T00:00:00+02:00", "admin": True}
    assert keys.text.startswith("// ours\n") and "// known to all\n" in keys.text
    assert keys.whose(key) == (0, "alice: active, expires 2099-01-01T00:00:00+02:00")
    assert os.listdir(folder) == ["keys.json"]
    assert keys.new("bob") != keys.new("carol")
    assert list(keys.entries) == ["demo", "alice", "bob", "carol"]


def test_a_key_that_nobody_could_read_is_said_to_be_lost(keys):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([CTL, "key", "new", "alice", "--keys", keys.path], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1 and "could not be printed" in done.stderr
    assert "alice" in keys.entries


def test_a_name_is_taken_once(keys):
    before = keys.text
    said = keys("new", "demo")
    assert said.status == 1 and said.out == ""
    assert f"{keys.path}: there is a key 'demo' already; --rotate" in said.err
    said = keys("new", "nobody", "--rotate")
    assert said.status == 1 and "there is no key 'nobody'" in said.err
    assert keys.text == before


def test_a_rotation(keys):
    first = keys.new("alice", "--team", "red")
    assert keys("retire", "alice").status == 1  # there is nothing to go back to
    second = keys.new("alice", "--rotate")
    assert keys.whose(first) == (0, "alice: active, the older of two")
    assert keys.whose(second) == (0, "alice: active, the newer of two")
    said = keys("new", "alice", "--rotate")
    assert said.status == 1 and "has two secrets already; `pavisectl key retire alice`" in said.err
    assert keys("retire", "alice").status == 0
    assert keys.whose(first) == (1, "nobody's")
    assert keys.whose(second) == (0, "alice: active")
    third = keys.new("alice", "--rotate")
    assert keys.entries["alice"] == {"sha256": [sha256(second), sha256(third)], "team": "red"}


def test_disabled_and_enabled(keys):
    said = keys("disable", "demo")
    assert (said.status, said.out, said.err) == (0, "demo is disabled\n", "")
    assert keys.whose("demo") == (1, "demo: disabled")
    inode = keys.path.stat().st_ino
    assert keys("disable", "demo").out == "demo is disabled already\n"
    assert keys.path.stat().st_ino == inode
    assert keys("enable", "demo").out == "demo is enabled\n"
    assert keys.whose("demo") == (0, "demo: active")
    for verb in "disable", "enable", "retire":
        said = keys(verb, "nobody")
        assert said.status == 1 and "there is no key 'nobody'" in said.err


def test_a_list(keys):
    keys.path.write_text(json.dumps({**keys_file(KEYS), "none": {"sha256": [sha256("1"), sha256("2")], "models": []}}))
    said = keys("list")
    assert (said.status, said.err) == (0, "")
    rows = {row.split()[0]: row.split()[1:] for row in said.out.splitlines()}
    assert rows["NAME"] == ["STATE", "ROLE", "TEAM", "EXPIRES", "SHA256", "MODELS"]
    assert set(rows) == {"NAME", *KEYS, "none"}
    assert rows["alice"] == ["active", "-", "red", "-", sha256("alice")[:8], "*"]
    assert rows["old"][0] == "expired" and rows["old"][3] == "2020-01-01T00:00:00Z"
    assert rows["off"][0] == "disabled" and rows["root"][1] == "admin" and rows["limited"][-1] == "demo-*"
    assert rows["none"][4:] == [f"{sha256('1')[:8]},{sha256('2')[:8]}", "-"]


def test_check_of_the_file_alone(keys):
    said = keys("check")
    assert (said.status, said.out, said.err) == (0, f"{keys.path}: good (1 keys)\n", "")
    assert keys.whose("demo\r") == (0, "demo: active")
    assert keys.whose("Demo") == (1, "nobody's")


def test_a_terminal_does_not_show_the_key(keys):
    ours, theirs = pty.openpty()
    with subprocess.Popen([CTL, "key", "check", "--keys", keys.path], stdin=theirs, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as asked:
        prompt = asked.stderr.read(5)
        os.write(ours, b"demo\n")
        out, _ = asked.communicate(timeout=PATIENCE)
        assert (prompt, asked.returncode, out) == ("key: ", 0, "demo: active\n")
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 100)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("text, says", [
    ("", "Invalid JSON"), ('{"a": {"sha256": "%s"},}' % sha256("a"), "line 1"), ("[]", "an object"),
    ('{"a": {"sha256": "feed"}}', 'a.sha256: found "feed", expected 64 hexadecimal digits'),
    ('{"a": {"sha256": "%s", "modles": []}}' % sha256("a"), "a.modles: there is no such setting"),
    ('{"a": {"sha256": "%s"}, "b": {"sha256": "%s"}}' % (sha256("a"), sha256("a")),
     'b.sha256: found a hash that stands in "a" too')])
def test_a_broken_file_is_refused_and_not_touched(keys, text, says):
    keys.path.write_text(text)
    before = keys.path.stat()
    for arguments in ["new", "c"], ["new", "a", "--rotate"], ["disable", "a"], ["list"], ["check"]:
        said = keys(*arguments)
        assert (said.status, said.out) == (1, "")
        assert said.err.startswith(f"pavisectl: {keys.path}: ") and says in said.err
    assert keys.text == text and keys.path.stat().st_ino == before.st_ino
    assert keys("check", stdin="a\n").status == 1


def test_no_file(folder):
    said = ctl("key", "new", "alice", "--keys", folder / "none.json")
    assert said.status == 1 and f"{folder / 'none.json'}: cannot be read: No such file" in said.err
    assert os.listdir(folder) == []


def test_what_is_not_content_stays(keys, folder):
    if os.geteuid() == 0:
        os.chown(keys.path, 33, 34)
    link = folder / "link.json"
    link.symlink_to("keys.json")
    before = keys.path.stat()
    assert ctl("key", "new", "alice", "--keys", link).status == 0
    after = keys.path.stat()
    assert link.is_symlink() and "alice" in keys.entries
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_dos_line_ends_stay(keys):
    keys.path.write_bytes(keys.text.replace("\n", "\r\n").encode())
    keys.new("alice")
    keys.new("bob")
    assert keys.text.count("\n") == keys.text.count("\r\n") == 6
    assert list(keys.entries) == ["demo", "alice", "bob"]


def test_the_file_that_a_configuration_names(folder):
    for sub in "conf", "secret":
        (folder / sub).mkdir()
    config = {**default_config(folder, None, "http://127.0.0.1:9/v1"), "keys_file": "../${WHERE}/k.json"}
    (folder / "conf" / "pavise.json").write_text("// ours\n" + json.dumps({**config, "cache": {"ttl": "soon"}}))
    at = KeysFile(folder / "secret" / "k.json", json.dumps(keys_file({"demo": {}})))
    said = ctl("key", "new", "alice", "--config", folder / "conf" / "pavise.json", WHERE="secret")
    assert said.status == 0, said  # whatever else is wrong in it
    assert "alice" in at.entries
    said = ctl("key", "list", "--config", folder / "conf" / "pavise.json", WHERE="")
    assert said.status == 1 and "keys_file: the environment variable WHERE is not set" in said.err
    (folder / "conf" / "pavise.json").write_text("{}")
    said = ctl("key", "list", "--config", folder / "conf" / "pavise.json")
    assert said.status == 1 and "pavise.json: keys_file: found nothing, expected" in said.err


def test_many_at_once_lose_nothing_and_nobody_reads_half_a_file(keys):
    over, seen = threading.Event(), []

    def read_on():
        while not over.is_set():
            seen.append(len(keys.entries))
    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(16) as many:
            made = list(many.map(lambda n: keys.new(f"k{n}"), range(60)))
            assert not [said for said in many.map(lambda n: keys("disable", f"k{n}").status, range(30)) if said]
    finally:
        over.set()
        reader.join()
    assert keys.entries == {"demo": {"sha256": sha256("demo")}, **{
        f"k{n}": {"sha256": sha256(key), **({"disabled": True} if n < 30 else {})} for n, key in enumerate(made)}}
    assert seen == sorted(seen) and seen[-1] <= 61


def test_the_shipped_file(folder):
    keys = KeysFile(folder / "keys.json", (ROOT / "conf" / "keys.json").read_text())
    before = keys.text
    keys.new("alice")
    assert keys.text.startswith(before[:before.rindex("\n}")])
    assert list(keys.entries) == ["demo", "alice"]


# ── In force ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def running(stack):
    """`pavisectl key` on the keys of a gateway that runs."""
    def run(*arguments):
        said = ctl("key", *arguments, "--config", stack.pavise.config_path)
        assert said.status == 0, said
        return said.out.strip()
    return run


def status_with(client, key, how="bearer"):
    return client.post(ask(unique()), HEADERS[how](key)).status


def test_a_keys_life(running, client, stack):
    key = running("new", "life", "--models", "demo")
    for how in HEADERS:
        wait_until(lambda how=how: status_with(client, key, how) == 200)
    assert stack.log_of(client.post(ask(unique()), HEADERS["bearer"](key)))["key_id"] == "life"
    running("disable", "life")
    wait_until(lambda: status_with(client, key) == 401)
    running("enable", "life")
    wait_until(lambda: status_with(client, key) == 200)
    second = running("new", "life", "--rotate")
    wait_until(lambda: status_with(client, second) == 200)
    assert status_with(client, key) == 200
    running("retire", "life")
    wait_until(lambda: status_with(client, key) == 401)
    assert status_with(client, second) == 200
    assert stack.pavise.log.find(lambda line: line["event"] == "config_rejected") == []


def test_an_expiry_ends_it(running, client):
    """Who asked after that second is refused, who was answered before it was not."""
    expires = int(subprocess.check_output(["date", "+%s"])) + 3
    key = running("new", "short", "--expires", subprocess.check_output(
        ["date", "-u", "-d", f"@{expires}", "+%Y-%m-%dT%H:%M:%SZ"], text=True).strip())

    def asked():
        begin, answer, end = now(), client.post(ask(unique()), HEADERS["bearer"](key)), now()
        if answer.status == 200:
            assert begin < expires
        elif answer.error["code"] == "api_key_expired":
            assert end >= expires
            return True
        return False
    wait_until(asked)


def now():
    return float(subprocess.check_output(["date", "+%s.%N"]))


# ── config ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def paths(value, path=""):
    """Of everything in a configuration, as explain writes them."""
    if not isinstance(value, dict):
        yield path
        for each in value if isinstance(value, list) else []:
            if isinstance(each, dict):
                yield from paths(each, path + "[]")
        return
    for name, inside in value.items():
        yield from paths(inside, f"{path}.NAME" if path in ("providers", "models") else f"{path}.{name}".lstrip("."))


def test_explain_knows_whatever_can_be_set():
    said = ctl("config", "explain")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    explained = {line.split(": ")[0]: line.split(": ", 1)[1] for line in lines if not line.startswith(" ")}
    assert len(lines) == 2 * len(explained)  # and a line says what each does
    shipped = without_comments((ROOT / "conf" / "pavise.json").read_text())
    assert {path for path in paths(shipped) if path not in explained} == set()
    assert explained["server.workers.max"] == "an integer, 1 to 4000, default 256"
    assert explained["memcached.timeout"] == 'a duration, 1ms to 10s, default "50ms"'
    assert explained["cache.scope"] == 'one of "key", "team", "everyone", default "key"'
    assert explained["providers.NAME.base_url"] == "a string, required"
    assert explained["limits[].amount"].startswith("a number") and explained["limits[].amount"].endswith("required")
    assert {"keys_file.NAME.sha256", "keys_file.NAME.limits[].amount"} < set(explained)


@pytest.mark.parametrize("asked, expected", [
    ("cache.ttl", {"cache.ttl"}), ("limits[2].window", {"limits[].window"}), ("models.gpt-4o.max_output",
                                                                             {"models.NAME.max_output"}),
    ("heartbeat", {"stream.heartbeat"}), ("log", {"log.to", "log.level", "log.client_address"}),
    ("ttl", {"cache.ttl", "models.NAME.cache.ttl"}), ("server.workers", {
        "server.workers.min", "server.workers.max", "server.workers.spare", "server.workers.reserve"})])
def test_explain_some(asked, expected):
    said = ctl("config", "explain", asked)
    assert (said.status, said.err) == (0, "")
    assert {line.split(": ")[0] for line in said.out.splitlines() if not line.startswith(" ")} == expected


def test_explain_nothing():
    said = ctl("config", "explain", "cache.ttl", "cache.tll")
    assert said.status == 1 and said.out.startswith("cache.ttl: ")
    assert said.err == "pavisectl: there is no setting 'cache.tll'\n"


def test_check_is_pavises_own(folder):
    shutil.copy(ROOT / "conf" / "keys.json", folder)
    config = folder / "pavise.json"
    for over in {}, {"cache": {"ttl": "soon"}}:
        config.write_text(json.dumps({**default_config(folder, None, "http://127.0.0.1:9/v1"), **over}))
        pavise = Said(subprocess.run([BUILD / "pavise", "--check", "--config", config], capture_output=True, text=True,
                                     timeout=PATIENCE, check=False))
        said = ctl("config", "check", "--config", config)
        assert (said.status, said.out, said.err) == (pavise.status, pavise.out, pavise.err)
    assert said.status == 1 and 'cache.ttl: found "soon"' in said.err
