"""The servers that the bench measures, and what can be seen of processes from outside.

Everything runs on loopback or UNIX sockets in a temporary folder, and is ended by pid.
"""
import contextlib
import hashlib
import http.server
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

BUILD = Path(os.environ.get("B", "build")).resolve()
KEY = "pv-bench-this-key-lives-as-long-as-the-bench"
TICK = os.sysconf("SC_CLK_TCK")


def fail(text):
    raise SystemExit(f"bench: {text}")


def wait_for(what, test, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if test():
                return
        except OSError:
            pass
        time.sleep(0.02)
    fail(f"{what}: not there after {seconds} s")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(family, address):
    with socket.socket(family) as s:
        s.connect(address)
    return True


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid):
    """Its children, but for the one that keeps the ledger."""
    return [child for child in children(pid) if Path(f"/proc/{child}/comm").read_text() == "pavise\n"]


def pss_kb(pid):
    """0 for a process that has just ended."""
    try:
        for line in open(f"/proc/{pid}/smaps_rollup"):
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def cpu_s(pids):
    """Processor seconds of these processes and of their children that have ended."""
    total = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        total += sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return total / TICK


def ran_s(pids):
    """What these processes have run, without the ticks of cpu_s() that are coarser than a stream."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def machine_s():
    """Processor seconds of everything that runs here, noise and interrupts included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


class Writer(http.server.BaseHTTPRequestHandler):
    """A provider that answers a model's name, a number, with so many bytes. Its text packs as people's does: a third."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chance = random.Random(1)
        words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(4000)]
        ranks = [1 / (i + 1) for i in range(len(words))]
        text = " ".join(chance.choices(words, ranks, k=int(asked["model"])))[:int(asked["model"]) - 350]
        answer = json.dumps({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": asked["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Stage:
    """The servers. Each is started when all that it needs answers, and ended in the opposite order."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.processes = []
        self.floors = []
        self.store = self.folder / "memcached.sock"
        self.errors = self.folder / "lighttpd.log"
        self.pavise = None
        self.web_port = free_port()

    def start(self, name, argv, **options):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                                   **{"stdout": log, "stderr": log, **options})
        self.processes.append(process)
        return process

    def end(self):
        for pid in self.floors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for process in reversed(self.processes):
            self.end_one(process)

    @staticmethod
    def end_one(process):
        """TERM, which lets pavise drain; a second one ends it at once."""
        for sig in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(sig)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    continue

    def start_memcached(self):
        root = ["-u", "root"] if os.geteuid() == 0 else []
        self.memcached = self.start("memcached", ["memcached", "-s", self.store, "-m", "256", "-c", "8192", *root])
        wait_for("memcached", lambda: answers(socket.AF_UNIX, str(self.store)))

    def start_demo(self, *options):
        """Returns the process and its port, which it prints when it listens."""
        process = self.start("demo-llm", [BUILD / "demo-llm", "--port", "0", "--quiet", *options],
                             stdout=subprocess.PIPE)
        line = process.stdout.readline().decode()
        port = line.strip().rpartition(":")[2].split("/")[0]
        if not port.isdigit():
            fail(f"demo-llm says {line!r}")
        return process, int(port)

    @staticmethod
    def demo_calls(port):
        """How many chats it was asked for so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=15) as answer:
            return json.load(answer)["chat"]

    def start_writer(self):
        """Its port."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Writer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    def start_pavise(self, name, workers, ports, base_path="", **cache):
        run_dir = self.folder / name
        run_dir.mkdir(mode=0o700)
        config = {
            "server": {"workers": workers, "run_dir": str(run_dir), "base_path": base_path},
            "memcached": {"servers": [str(self.store)], "prefix": name},
            "providers": {m: {"dialect": "openai", "base_url": f"http://127.0.0.1:{p}/v1"} for m, p in ports.items()},
            "models": {m: {"provider": m, "context": 128000, "max_output": 4096,
                           "price": {"input": "0.15", "output": "0.60"}} for m in ports},
            "cache": {"ttl": "1h", "scope": "key", **cache},
            "limits": [{"name": "rpd", "count": "requests", "per": ["key"], "amount": 1000000000, "window": "1d"}],
            "keys_file": str(run_dir / "keys.json"),
            "log": {"to": "fastcgi", "level": "info"},
        }
        for file, value in (("keys.json", {"bench": {"sha256": [hashlib.sha256(KEY.encode()).hexdigest()]}}),
                            ("pavise.json", config)):
            (run_dir / file).write_text(json.dumps(value, indent=2))
            (run_dir / file).chmod(0o600)
        sock = self.folder / f"{name}.sock"
        process = self.start(name, ["spawn-fcgi", "-n", "-s", sock, "-b", "4096", "--",
                                    BUILD / "pavise", "--config", run_dir / "pavise.json"])
        wait_for(name, lambda: process.poll() is not None or sock.exists() and
                 len(workers_of(process.pid)) >= workers["min"])
        if process.poll() is not None:
            fail(f"pavise has ended:\n{(self.folder / f'{name}.log').read_text()}")
        return process

    def start_floor(self, workers, value):
        """As many as pavise has workers for the same connections; each answers `value`."""
        self.set_floor(value)
        pids = self.folder / "floor.pids"
        subprocess.run(["spawn-fcgi", "-F", str(workers), "-P", pids, "-s", self.folder / "floor.sock", "-b", "4096",
                        "--", BUILD / "bench/floor", self.store, "floor"], check=True, stdout=subprocess.DEVNULL)
        self.floors = [int(pid) for pid in pids.read_text().split()]

    def set_floor(self, value):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.store))
            s.sendall(b"ms floor %d\r\n%s\r\n" % (len(value), value))
            if s.recv(64) != b"HD\r\n":
                fail("memcached does not store the floor's answer")

    def start_web(self, *prefixes):
        """Each prefix has a socket of its name, and pavise all the rest."""
        sockets = [(f"/{name}", name) for name in prefixes] + [("/", "pavise")]
        routes = ",\n".join(f'  "{path}" => (("socket" => "{self.folder}/{name}.sock", "check-local" => "disable", '
                            f'"disable-time" => 0))' for path, name in sockets)
        config = self.folder / "lighttpd.conf"
        config.write_text(f'''
server.modules = ("mod_fastcgi")
server.bind = "127.0.0.1"
server.port = {self.web_port}
server.document-root = "{self.folder}"
server.errorlog = "{self.errors}"
server.upload-dirs = ("{self.folder}")
server.max-fds = 8192
server.max-connections = 4000
server.listen-backlog = 4096
server.max-keep-alive-requests = 100000000
server.stream-response-body = 1
fastcgi.server = (
{routes}
)
''')
        self.web = self.start("web", ["lighttpd", "-D", "-f", config])
        wait_for("lighttpd", lambda: answers(socket.AF_INET, ("127.0.0.1", self.web_port)))

    def url(self, path):
        return f"http://127.0.0.1:{self.web_port}{path}"

    def ask(self, url, body):
        """The answer's bytes."""
        request = urllib.request.Request(url, json.dumps(body).encode(),
                                         {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.read()
