"""A memcached that keeps a diary: a socket in front of one, which counts round trips and notes what was asked."""

import contextlib
import itertools
import pathlib
import selectors
import socket
import threading

counter = itertools.count(1)


class Recorder:
    """
    Listens on .path (a UNIX socket), passes everything to the memcached at `target` and back. .trips is a list of what
    went out at once, each a list of commands (lists of words; values are left out). Context manager.
    """

    def __init__(self, folder, target):
        self.path, self.target = pathlib.Path(folder) / f"recorder-{next(counter)}.sock", target
        self.trips, self.lock, self.ended = [], threading.Lock(), threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.path.chmod(0o777)
        self.listener.listen(256)
        self.listener.settimeout(0.2)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, client):
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self.target))
        with client, server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            asked = b""
            while not self.ended.is_set():
                for key, _ in ready.select(0.2):
                    data = key.fileobj.recv(1 << 20)
                    if key.fileobj is client:
                        asked += data
                    elif asked:  # the answer begins: what was asked for is one trip
                        self.note(asked)
                        asked = b""
                    if not data:
                        return
                    key.data.sendall(data)

    def note(self, asked):
        commands = []
        while asked:
            line, _, asked = asked.partition(b"\r\n")
            words = line.decode().split()
            commands.append(words)
            if words[0] == "ms":
                asked = asked[int(words[2]) + 2:]
        with self.lock:
            self.trips.append(commands)

    def taken(self):
        """The trips since the last time."""
        with self.lock:
            trips, self.trips = self.trips, []
        return trips

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.listener.close()
