"""The page of a run while it trains, served to this machine alone and made anew whenever an epoch has ended."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

from warploom.errors import ArgumentError, DataError
from warploom.report.evidence import Evidence
from warploom.report.page import render
from warploom.report.results import result_files

PORT = 8765  # tried first where none is asked for
_SECONDS = 1.0  # between looks at the folder
_WATCHED = ("config.json", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors")


class View:
    """What is served: a page, and a line on where the run stands."""

    def __init__(self, folder: Path, gather: Callable[[], Evidence]) -> None:
        self.folder, self._gather = folder, gather
        self.page, self.number, self.trouble = b"", 0, ""
        self._seen: Any = None
        self._last: Evidence | None = None

    def refresh(self) -> bool:
        """Makes the page anew if a file of the run has changed; whether it did. Where that fails the old one stays."""
        now = [_stamp(path) for path in (*(self.folder / name for name in _WATCHED), *result_files([self.folder]))]
        if now == self._seen:
            return False
        try:
            found = self._gather()
            page = render(found, live=self.text, quick=True).encode()
        except DataError as error:
            if self._last is None:
                raise
            self.trouble = str(error)
        else:
            self._last, self.page, self.trouble = found, page, ""
            self.number += 1
        self._seen = now
        return True

    @property
    def training(self) -> bool:
        return is_held(self.folder)

    @property
    def text(self) -> str:
        if self.trouble:
            return f"the page is older than the run: {self.trouble}"
        rows = self._last.rows if self._last is not None else []
        config = self._last.config if self._last is not None else None
        done = rows[-1]["epoch"] if rows else 0
        of = f" of {config.epochs}" if config is not None and config.epochs else ""
        if not self.training:
            return f"not training now, after epoch {done}{of}"
        if not rows:
            return "training, first epoch"
        return f"training, {done}{of} epochs done"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def is_held(folder: Path) -> bool:
    """Whether a process trains in the folder: it holds a lock on it. Only looked up (/proc/locks), never taken, which a
    training that begins at that moment would mistake for another one."""
    try:
        inode = os.stat(folder).st_ino
        with open("/proc/locks") as file:
            return any("FLOCK" in line and line.split()[5].endswith(f":{inode}") for line in file if "->" not in line)
    except (OSError, IndexError):
        return False


class _Handler(BaseHTTPRequestHandler):
    view: View

    def do_GET(self) -> None:
        # A page of another site must not read this one through a name that it lets point here.
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in ("127.0.0.1", "localhost"):
            self._send(403, "text/plain", b"this page is served to 127.0.0.1 and localhost only\n")
        elif self.path == "/":
            self._send(200, "text/html; charset=utf-8", self.view.page)
        elif self.path == "/state":
            told = {"stamp": self.view.number, "training": self.view.training, "text": self.view.text}
            self._send(200, "application/json", json.dumps(told).encode())
        elif self.path == "/favicon.ico":
            self._send(204, "image/x-icon", b"")
        else:
            self._send(404, "text/plain", b"there is / and /state\n")

    def _send(self, code: int, kind: str, content: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(code)
            for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store")):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _server(port: int | None, view: View) -> ThreadingHTTPServer:
    handler = type("_Bound", (_Handler,), {"view": view})
    for tried in (PORT, 0) if port is None else (port,):
        with contextlib.suppress(OSError):
            return ThreadingHTTPServer(("127.0.0.1", tried), handler)
    raise ArgumentError(f"port {port} of this machine cannot be used: choose another --port, or leave it out")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; the second of them ends the process at once."""
    ended = threading.Event()
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, end)
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(folder: Path, gather: Callable[[], Evidence], *, port: int | None, say: Callable[[str], None]) -> None:
    """Serves the page of a run's folder until Ctrl-C. say: is told the address."""
    view = View(folder, gather)
    with _ended_by_signals() as ended:
        view.refresh()
        server = _server(port, view)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        thread.start()
        try:
            say(f"http://127.0.0.1:{server.server_address[1]}/ shows the run; Ctrl-C ends this and writes the page to a file")
            while not ended.wait(_SECONDS):
                if not folder.is_dir():
                    raise DataError(f"the run folder {folder} was deleted or moved")
                view.refresh()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
