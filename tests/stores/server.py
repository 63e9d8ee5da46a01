"""An object store to test against: moto's server in a process of its own, behind a door that can misbehave.

Moto looks whether an object is there and then puts it, in two steps, so two puts at the same moment may both be
accepted. The door lets one conditional put through at a time, which makes a safe store of it. Told to, it strips the
condition, or loses answers, or fails: what happens to a request is drawn from a seed and counted.
"""

import contextlib
import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lake import bucket as buckets

BUCKET = "lakes"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "quite-secret", "AWS_REGION": "us-east-1"}

# What the door may do to a request: some do the work and lose the answer, others answer without doing the work.
LOST = ("close after", "500 after", "silence after")
KILLS = ("kill before", "kill after")
REFUSED = {
    "401": (401, "Unauthorized"),
    "403": (403, "AccessDenied"),
    "403 key": (403, "InvalidAccessKeyId"),
    "301": (301, "PermanentRedirect"),
    "409": (409, "ConditionalRequestConflict"),
    "412": (412, "PreconditionFailed"),
    "500": (500, "InternalError"),
    "501": (501, "NotImplemented"),
    "503": (503, "SlowDown"),
}


@dataclass
class Faults:
    """What happens to requests of some methods: each fault with its probability, and how often it happened.

    At most `most` faults happen, in requests whose path holds `within`. `strip` takes the condition off each put, and
    a `racy` door lets several conditional puts through at a time. `silence` is for how many seconds the door says
    nothing before it hangs up. `victim` is the process that is killed before or after the work is done. `log` has every
    request.
    """

    seed: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    methods: tuple[str, ...] = ("PUT",)
    within: str = ""
    most: int = 1 << 30
    strip: bool = False
    racy: bool = False
    silence: float = 1.0
    victim: int | None = None
    seen: Counter[str] = field(default_factory=Counter)
    log: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def draw(self, method: str, path: str) -> str | None:
        """The fault of the next request, if any."""
        with self._lock:
            self.log.append((method, path))
            self.seen["requests"] += 1
            if method not in self.methods or self.within not in path or self.most == 0:
                return None
            drawn = self._random.random()
            for fault, rate in self.rates.items():
                drawn -= rate
                if drawn < 0:
                    self.seen[fault] += 1
                    self.most -= 1
                    return fault
            return None


class Door(ThreadingHTTPServer):
    """A server that passes on what it is asked, but for its faults. `faults` may be replaced at any time."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.behind = behind
        self.faults = Faults()
        self.one_at_a_time = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def options(self) -> dict[str, str]:
        """The storage options that lead through this door."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no fault of the test's."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer goes out in one piece: in two, the second would wait for the first to be acknowledged.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: Door

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults = self.server.faults
        fault = faults.draw(self.command, self.path)
        if fault in REFUSED:
            status, code = REFUSED[fault]
            self._answer(status, [], f"<Error><Code>{code}</Code><Message>drawn</Message></Error>".encode())
            return
        if fault == "kill before":
            self._kill(faults)
            return
        status, headers, data = self._passed_on(body)
        if fault == "kill after":
            self._kill(faults)
        elif fault == "close after":
            self._hang_up()
        elif fault == "500 after":
            self._answer(500, [], b"<Error><Code>InternalError</Code><Message>drawn</Message></Error>")
        elif fault == "silence after":
            time.sleep(faults.silence)
            self._hang_up()
        else:
            self._answer(status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 -- by these names they are called

    def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        strip = self.server.faults.strip
        headers = {
            name: value for name, value in self.headers.items() if not (strip and name.lower() == "if-none-match")
        }
        alone = "if-none-match" in map(str.lower, headers) and not self.server.faults.racy
        with self.server.one_at_a_time if alone else contextlib.nullcontext():
            behind = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
            try:
                behind.request(self.command, self.path, body, headers)
                found = behind.getresponse()
                return found.status, found.getheaders(), found.read()
            finally:
                behind.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection", "content-length"} or (
                name.lower() == "content-length" and self.command == "HEAD"
            ):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _kill(self, faults: Faults) -> None:
        """Kill the client; it may be so quick that nobody has said yet which process it is."""
        while faults.victim is None:
            time.sleep(0.01)
        os.kill(faults.victim, signal.SIGKILL)
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """The port of a moto server, which ends with the tests."""
    pytest.importorskip("moto.server", reason="the package moto is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "1000"}
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as server:
        try:
            _wait_for(port)
            _put(port, f"/{BUCKET}")
            yield port
        finally:
            server.kill()


@pytest.fixture
def door(moto: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Door]:
    """A door to the object store, and a cache of the test's own."""
    monkeypatch.setenv("LAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(buckets._process, "proved", set())
    with _open_door(moto) as opened:
        yield opened


@pytest.fixture
def s3(door: Door, monkeypatch: pytest.MonkeyPatch) -> Door:
    """The same, with the environment variables that lead there."""
    for name, value in door.options.items():
        monkeypatch.setenv(name, value)
    return door


_numbers = itertools.count()


@pytest.fixture
def s3_uri(moto: int) -> str:
    """An address in the object store where there is nothing yet."""
    return f"s3://{BUCKET}/{os.getpid()}/lake-{next(_numbers)}"


@contextlib.contextmanager
def _open_door(behind: int) -> Iterator[Door]:
    with Door(behind) as door:
        thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield door
        finally:
            door.shutdown()
            thread.join()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _put(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", path)
    assert connection.getresponse().status == 200
    connection.close()
