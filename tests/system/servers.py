"""
The real servers, each on a socket of its own in a temporary folder, each ended by whoever started it.

    with Stack(folder, config={"cache": {"ttl": "1s"}}) as s:      # fake provider, memcached, pavise, lighttpd
        answer = s.client.chat("hello")
        line = s.log_of(answer)

Parts can be had alone: Memcached, DemoLLM, Pavise, Web. `folder` is one of the fixtures `folder` (a test's own) or
`module_folder`, both reachable for www-data, which Debian's Apache becomes.
"""

import contextlib
import copy
import hashlib
import itertools
import json
import os
import pathlib
import secrets
import signal
import socket
import urllib.parse

import fastcgi
from client import Client
from logs import Log
from process import BUILD, PATIENCE, ROOT, Ends, Process, children, comm, free_port, listens, wait_until
from provider import FakeProvider

KEYS = {  # in clear text each key is its name, unless it says its own sha256
    "demo": {}, "alice": {"team": "red"}, "bob": {"team": "red"}, "carol": {"team": "blue"},
    "limited": {"models": ["demo-*"]}, "old": {"expires": "2020-01-01T00:00:00Z"}, "off": {"disabled": True},
    "root": {"admin": True},
}
counter = itertools.count(1)


def sha256(key):
    return hashlib.sha256(key.encode()).hexdigest()


def keys_file(keys):
    return {name: {"sha256": [sha256(name)], **fields} for name, fields in keys.items()}


def merged(base, over):
    """over's members in base's, objects merged, everything else replaced; a None takes a member away."""
    out = copy.deepcopy(base)
    for name, value in (over or {}).items():
        if value is None:
            out.pop(name, None)
        elif isinstance(value, dict) and isinstance(out.get(name), dict):
            out[name] = merged(out[name], value)
        else:
            out[name] = copy.deepcopy(value)
    return out


class Memcached(Ends):
    """
    memcached on a UNIX socket: .path. .name is what a configuration calls it. stop() and cont() are SIGSTOP and
    SIGCONT.
    """

    def __init__(self, folder, *options):
        self.path = pathlib.Path(folder) / f"memcached-{next(counter)}.sock"
        self.options = options
        self.process = None
        self.start()

    def start(self):
        self.path.unlink(missing_ok=True)
        self.process = Process(["memcached", "-u", "root", *self.listen(), "-m", "64", "-c", "4096", *self.options],
                               self.path.with_suffix(".log"))
        self.process.wait_ready(self.answers)

    @property
    def name(self):
        return str(self.path)

    def listen(self):
        return ["-s", self.path, "-a", "0777"]

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(self.path))
        return s

    def answers(self):
        with contextlib.suppress(OSError):
            return self.command(b"version").startswith(b"VERSION")
        return False

    def command(self, command, until=b"\r\n", timeout=PATIENCE):
        """Sends one line, returns the answer up to and with `until`."""
        with self.connect() as s:
            s.settimeout(timeout)
            s.sendall(command + b"\r\n")
            got = b""
            while not got.endswith(until):
                piece = s.recv(65536)
                if not piece:
                    break
                got += piece
            return got

    def keys(self, part=""):
        """The names of all items, or of those that contain part."""
        dump = self.command(b"lru_crawler metadump all", b"END\r\n").decode()
        names = [urllib.parse.unquote(line.split()[0][4:]) for line in dump.splitlines() if line.startswith("key=")]
        return [name for name in names if part in name]

    def get(self, key):
        """A value as bytes; None if there is none."""
        with self.connect() as s:
            s.settimeout(PATIENCE)
            s.sendall(f"mg {key} v\r\n".encode())
            reader = s.makefile("rb")
            head = reader.readline().split()
            return reader.read(int(head[1])) if head[0] == b"VA" else None

    def set(self, key, value, ttl=3600):
        assert self.command(f"ms {key} {len(value)} T{ttl}\r\n".encode() + value) == b"HD\r\n"

    def stats(self):
        """What it counts."""
        return {line.split()[1]: line.split()[2] for line in
                self.command(b"stats", b"END\r\n").decode().splitlines() if line.startswith("STAT")}

    def flush(self):
        self.command(b"flush_all")

    def stop(self):
        """Back when every thread of it stands still: the signal alone is on its way for a moment."""
        self.process.signal(signal.SIGSTOP)
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        wait_until(lambda: all(
            (task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()))

    def cont(self):
        self.process.signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()

    def restart(self):
        self.end()
        self.start()

    def end(self):
        self.process.kill()  # TERM takes it a second, and there is nothing that it could save


class TcpMemcached(Memcached):
    """The same on 127.0.0.1, on a port that stays its own over a restart."""

    def __init__(self, folder, *options):
        self.port = free_port()
        super().__init__(folder, *options)

    @property
    def name(self):
        return f"127.0.0.1:{self.port}"

    def listen(self):
        return ["-l", "127.0.0.1", "-p", self.port]

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


class DemoLLM(Ends):
    """build/demo-llm with these options; .port and .url."""

    def __init__(self, folder, *options):
        self.process = Process([BUILD / "demo-llm", "--port", "0", *options],
                               pathlib.Path(folder) / f"demo-llm-{next(counter)}.log")
        self.process.wait_ready(lambda: "listening on http" in self.process.said())
        self.url = self.process.said().split("listening on ")[1].split()[0]
        self.port = int(self.url.rsplit(":", 1)[1].split("/")[0])

    def end(self):
        self.process.end()


def default_config(folder, memcached, provider_url):
    """What tests change a little: generous times (machines are slow), a pool that starts fast."""
    store = [str(memcached)] if memcached else ["/nonexistent/memcached.sock"]
    return {
        "server": {"workers": {"min": 4, "max": 64, "spare": 4, "reserve": 1}, "shutdown_grace": "10s",
                   "run_dir": str(folder)},
        "memcached": {"servers": store, "timeout": "2s", "prefix": "t" + secrets.token_hex(6)},
        "providers": {"fake": {"dialect": "openai", "base_url": provider_url}},
        "models": {"demo": {"provider": "fake", "context": 128000, "max_output": 4096,
                            "price": {"input": "1.00", "cached_input": "0.50", "output": "2.00"}}},
        "cache": {"ttl": "1h", "scope": "key"},
        "keys_file": "keys.json",
        "log": {"to": "fastcgi", "level": "info"},
    }


class Pavise(Ends):
    """
    The supervisor under spawn-fcgi, as `make run` starts it. .socket, .pid, .config (the dict in force), .log (its
    stderr). config: a dict merged over default_config(); keys: name → fields, over KEYS; env: variables beside ours;
    config_file: a file to start with as it is, instead of config and keys.
    """

    def __init__(self, folder, memcached=None, provider_url="http://127.0.0.1:9/v1", config=None, keys=None, env=None,
                 options=(), config_file=None, wait=True):
        self.folder = pathlib.Path(folder) / f"pavise-{next(counter)}"
        self.folder.mkdir(mode=0o711)
        self.socket, self.config_path = self.folder / "pavise.sock", self.folder / "pavise.json"
        self.keys_path = self.folder / "keys.json"
        self.env, self.options = {"RUN_DIR": str(self.folder), **(env or {})}, options
        self.write_keys(KEYS if keys is None else {**KEYS, **keys})
        path = memcached.path if isinstance(memcached, Memcached) else memcached
        self.write_config(merged(default_config(self.folder, path, provider_url), config))
        if path and config_file:  # where the shipped ones look for it
            (self.folder / "memcached.sock").symlink_to(path)
        self.config_path = config_file or self.config_path
        self.process = self.log = None
        self.start(wait)

    def start(self, wait=True):
        # -b: FACTS.md's trap of short backlogs; -G: Apache's www-data
        group = ["-G", "www-data"] if os.geteuid() == 0 else []
        self.socket.unlink(missing_ok=True)
        self.process = Process(["spawn-fcgi", "-n", "-s", self.socket, "-b", "4096", "-M", "0660", *group, "--",
                                BUILD / "pavise", "--config", self.config_path, *self.options],
                               self.folder / "stderr.log", self.env)
        self.log = Log(self.folder / "stderr.log")
        if wait:
            self.process.wait_ready(self.ready)

    @property
    def pid(self):
        """Of the supervisor."""
        return self.process.pid

    def replace(self, path, value):
        """As an editor saves: a new file in the old one's place. value: text as it is, or what becomes JSON."""
        fresh = path.with_suffix(".new")
        fresh.write_text(value if isinstance(value, str) else json.dumps(value, indent=1))
        fresh.chmod(0o600)
        fresh.replace(path)

    def write_config(self, config):
        """A dict (the whole configuration), or text that may be wrong."""
        if isinstance(config, dict):
            self.config = config
        self.replace(self.config_path, config)

    def write_keys(self, keys):
        """name → fields; the secret of each is its name. Or text that may be wrong."""
        self.replace(self.keys_path, keys_file(keys) if isinstance(keys, dict) else keys)

    def change(self, over):
        """Writes the configuration anew with these changes (merged)."""
        self.write_config(merged(self.config, over))

    def hup(self):
        self.process.signal(signal.SIGHUP)

    def term(self):
        self.process.signal(signal.SIGTERM)

    def call(self, path, method="GET", body=b"", **params):
        """Past every web server: an Answer, or None if the connection ended without one."""
        return fastcgi.call(self.socket, fastcgi.params_of(path, method, body, **params), body)

    def ready(self):
        with contextlib.suppress(OSError):
            answer = self.call("/readyz")
            return answer is not None and answer.status == 200
        return False

    def workers(self):
        """The pids of its children, but for the one that keeps the ledger."""
        return [pid for pid in children(self.pid) if comm(pid) == "pavise"]

    def bookkeeper(self):
        """Its pid, or None."""
        return next((pid for pid in children(self.pid) if comm(pid) == "pavise-ledger"), None)

    def deaths(self):
        """Log lines of workers that crashed or were killed."""
        return self.log.find(lambda line: line["event"] == "worker_died")

    def wait_log(self, predicate, timeout=PATIENCE):
        """A line on its own stderr (the supervisor's, those of clients that have gone, or all with log.to stderr)."""
        return self.log.wait(predicate, timeout)

    def wait_event(self, event, timeout=PATIENCE):
        return self.wait_log(lambda line: line["event"] == event, timeout)

    def end(self):
        """TERM, soon a second one (which does not wait for requests in flight)."""
        if self.process.running():
            self.term()
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not self.process.running(), 0.5)
        self.process.end()


class Web(Ends):
    """
    kind: "lighttpd" or "apache", with the repository's own conf/ file (or `conf`, a file name in conf/), and the
    environment that app/run makes. .port, .client, .log (its error log, where request lines arrive), .access (what its
    access log says).
    """

    def __init__(self, folder, kind, pavise_socket, conf=None, env=None, wait=True):
        self.kind = kind
        self.folder = pathlib.Path(folder) / f"{kind}-{next(counter)}"
        (self.folder / "log").mkdir(parents=True)
        self.folder.chmod(0o755)
        if conf and kind == "apache" and os.geteuid() == 0:
            os.system(f"chown -R www-data '{self.folder}'")  # mod_fcgid's sockets are made by www-data
        self.conf, self.socket, self.env = ROOT / "conf" / (conf or f"{kind}.conf"), pavise_socket, env or {}
        self.log = Log(self.folder / "log" / "error.log")
        self.process = self.port = None
        self.start(wait)

    def start(self, wait=True):
        for attempt in range(5):  # a free port may be taken by somebody else before we are there
            self.port = free_port()
            self.process = Process(self.command(), self.folder / "log" / "stderr.log", {
                "PORT": str(self.port), "RUN_DIR": str(self.folder), "PAVISE_SOCKET": str(self.socket),
                "UPLOAD_DIR": "/dev/shm", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", **self.env})
            if not wait:
                return
            try:
                self.process.wait_ready(lambda: listens(self.port))
                return
            except AssertionError:
                self.process.end()
                if attempt == 4:
                    raise

    def command(self):
        if self.kind == "lighttpd":
            return ["/usr/sbin/lighttpd", "-D", "-f", self.conf]
        return ["/usr/sbin/apache2", "-f", self.conf, "-D", "FOREGROUND"]

    @property
    def client(self):
        return Client(self.port)

    @property
    def access(self):
        return (self.folder / "log" / "access.log").read_text()

    def end(self):
        self.process.end()


class Stack(Ends):
    """
    Everything at once. webs: which servers stand in front; memcached: one to share (default: its own), False for none;
    provider_url: instead of that of the FakeProvider (whose port a configuration can name as ${FAKE_PORT}).
    .provider .memcached .pavise .webs (by kind) .client (of the first web).
    """

    def __init__(self, folder, config=None, webs=("lighttpd",), memcached=None, provider_url=None, env=None,
                 **pavise_options):
        self.endings = contextlib.ExitStack()
        with contextlib.ExitStack() as endings:
            self.provider = endings.enter_context(FakeProvider())
            self.memcached = endings.enter_context(Memcached(folder)) if memcached is None else memcached or None
            env = {"FAKE_PORT": str(self.provider.port), **(env or {})}
            self.pavise = endings.enter_context(Pavise(folder, self.memcached, provider_url or self.provider.url,
                                                       config, env=env, **pavise_options))
            self.webs = {kind: endings.enter_context(Web(folder, kind, self.pavise.socket)) for kind in webs}
            self.endings = endings.pop_all()

    @property
    def client(self):
        return next(iter(self.webs.values())).client

    def logs(self):
        """Every log there is: the web servers' first, then the program's own stderr."""
        return [*(web.log for web in self.webs.values()), self.pavise.log]

    def lines(self, request_id):
        return [line for log in self.logs() for line in log.find(lambda line: line.get("request_id") == request_id)]

    def log_of(self, request, timeout=PATIENCE):
        """The one log line of a request: an Answer, a Stream or an id."""
        request_id = request if isinstance(request, str) else request.request_id
        lines = wait_until(lambda: self.lines(request_id), timeout, f"the log line of {request_id}")
        assert len(lines) == 1, lines
        return lines[0]

    def all_text(self):
        """Everything that any log file says, the access logs too."""
        files = [f for f in self.pavise.folder.parent.glob("*/**/*.log")]
        return "\n".join(f.read_text(errors="replace") for f in files)

    def end(self):
        self.endings.close()
