"""A guard for every worker: what sees that a worker has ended, tells the others, and ends them.

init() forks. The parent, which the launcher knows, becomes the guard; the child goes on as the worker. The guard of rank 0
listens on a TCP port, the others connect to it; only such news passes there, never a number of the training. A worker that is
killed, ends with an error or loses its host is named in one sentence on rank 0's stderr, and every guard then kills its worker,
so nobody waits for ever in a collective call. A connection that a dead host holds open is found out by TCP's own keep-alive in
9 seconds. A worker whose guard is killed ends itself.
"""

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

_COLLECT_SECONDS = 0.4  # after the first bad news: what ended because of it may be told first
_MEET_SECONDS = 300.0  # for all workers to come to init()
_STOP_SECONDS = 2.0  # for a guard to say that its worker has stopped
_PATIENCE = 5.0  # for rank 0's guard to say what happened
_AGAIN_SECONDS = 0.5  # within which a second Ctrl-C is the same one, come by terminal and launcher
LAUNCHER = "WARPLOOM_LAUNCHER"  # pid:file@host of the process that started mpirun, and where rank 0's guard writes the exit code
_CODE = 2  # of the command line's errors
_STOPPED = (130, 143)  # by Ctrl-C, by SIGTERM: all is written

News = dict[str, Any]


class Wire:
    """News in lines of JSON over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._rest = b""

    def send(self, **news: Any) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(news).encode() + b"\n")

    def read(self) -> list[News] | None:
        """What has arrived; None when the other end is gone."""
        try:
            block = self.connection.recv(65536)
        except OSError:
            return None
        if not block:
            return None
        *lines, self._rest = (self._rest + block).split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            return None


class Worker(Wire):
    """The worker's end: what it tells its guard."""

    def __init__(self, connection: socket.socket, port: int, life: int) -> None:
        """life: the end of a pipe whose other end closes when the guard is gone."""
        super().__init__(connection)
        self.port = port
        self._life = life
        threading.Thread(target=self._watch, name="warploom-guard", daemon=True).start()

    @contextlib.contextmanager
    def bound(self) -> Iterator[None]:
        """In here the kernel kills the worker when its guard is gone: for a call that lets no other thread run."""
        fcntl.fcntl(self._life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._life, fcntl.F_SETSIG, signal.SIGKILL)
        before = fcntl.fcntl(self._life, fcntl.F_GETFL)
        fcntl.fcntl(self._life, fcntl.F_SETFL, before | os.O_ASYNC)
        yield
        fcntl.fcntl(self._life, fcntl.F_SETFL, before)

    def _watch(self) -> None:
        self.read()  # nothing ever comes: this returns when the guard is gone
        with contextlib.suppress(OSError):
            os.write(
                2, f"warploom: error: the guard of a worker on {socket.gethostname()} was killed; the worker ends\n".encode()
            )
        os._exit(_CODE)


def stand(rank: int) -> Worker:
    """Forks; returns in the child. rank: as the launcher says it."""
    listener = socket.socket()
    listener.bind(("", 0))
    listener.listen(1024)
    ours, theirs = socket.socketpair()
    life, held = os.pipe()  # held by the guard until it ends
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the parent makes no use of what they hold
        child = os.fork()
    if child:
        theirs.close()
        os.close(life)
        code = _CODE
        try:
            guard = _Guard(child, rank, Wire(ours), listener)
            code = guard.run()
            guard.tell(code)
        except _Ended:
            pass
        except BaseException as error:
            os.write(2, f"warploom: error: the guard of rank {rank} failed ({type(error).__name__}: {error})\n".encode())
        finally:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
            os._exit(code)
    ours.close()
    os.close(held)
    port = int(listener.getsockname()[1])
    listener.close()
    os.setpgid(0, 0)  # Ctrl-C of a terminal comes through the guard alone
    return Worker(theirs, port, life)


def _kept_alive(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 9000)):
        with contextlib.suppress(OSError, AttributeError):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _named(report: News) -> str:
    return f"rank {report['rank']} on host {report['host']} {report['what']}"


class _Ended(Exception):
    """Another worker's guard has said why."""


class _Guard:
    """The parent after the fork. Never returns into the program that it was forked from."""

    def __init__(self, child: int, rank: int, worker: Wire, listener: socket.socket) -> None:
        self.child, self.rank, self.worker, self.listener = child, rank, worker, listener
        self.host, self.size, self.token, self.hint = socket.gethostname(), 0, "", ""
        self.hosts: list[str] = []
        self.peers: dict[Wire, int] = {}  # on rank 0: the others' ranks; -1 before they have said it
        self.root: Wire | None = None
        self.reports: list[News] = []
        self.finished: set[int] = set()
        self.own_end: News | None = None
        self.told = self.hint
        self.signalled = 0.0
        self.parent, self.began = os.getppid(), time.monotonic()
        place, _, host = os.environ.get(LAUNCHER, "").rpartition("@")
        pid, _, self.answer = place.partition(":")
        self.launcher = int(pid) if pid.isdigit() and host == self.host else 0
        self.selector = selectors.DefaultSelector()

    def run(self) -> int:
        wake, bell = socket.socketpair()
        for each in (wake, bell):
            each.setblocking(False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._forward)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
        self.selector.register(wake, selectors.EVENT_READ, None)
        self.selector.register(self.worker.connection, selectors.EVENT_READ, self.worker)
        self.selector.register(self.listener, selectors.EVENT_READ, self.listener)
        deadline = None
        while True:
            wait = 1.0 if deadline is None else max(0.0, deadline - time.monotonic())
            for key, _ in self.selector.select(wait):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        wake.recv(4096)
                elif key.data is self.listener:
                    self._welcome()
                else:
                    self._hear(key.data)
            self._reap()
            if not self.size and self.own_end is not None and self.own_end["code"] not in (0, *_STOPPED):
                return self._end_unmet(f"could not start: {self.told}" if self.told else f"{self.own_end['what']} at its start")
            if not self.size and time.monotonic() - self.began > _MEET_SECONDS:
                return self._end_unmet(f"waited {_MEET_SECONDS:.0f} seconds for the other workers")
            if self._launcher_is_gone():
                return self._end("what started the workers is gone") if self._is_root else _CODE
            if self._is_root and self.reports and deadline is None:
                deadline = time.monotonic() + _COLLECT_SECONDS
            if not self._is_root and self.own_end is not None and deadline is None:
                code = int(self.own_end["code"])
                if code == 0 or (code in _STOPPED and self.root is None):
                    return code
                if code not in _STOPPED:  # else rank 0 ends first: a launcher kills the others of one that ends with a code
                    deadline = time.monotonic() + _PATIENCE
            if deadline is not None and time.monotonic() >= deadline:
                return self._judge() if self._is_root else self._end(_named(self.own_end or {}))
            if self._is_root and not self.reports and len(self.finished) == max(self.size, 1):
                return int(self.own_end["code"]) if self.own_end else 0

    def tell(self, code: int) -> None:
        """Tells the exit code to the process that started mpirun, whose code may be that of a worker it killed itself."""
        if not self.launcher or not (self._is_root or not self.size):
            return
        with contextlib.suppress(OSError):
            answer = os.open(f"/proc/{self.launcher}/fd/{self.answer}", os.O_WRONLY)
            os.pwrite(answer, str(code).encode(), 0)

    def _launcher_is_gone(self) -> bool:
        if os.getppid() != self.parent:
            return True
        try:
            if self.launcher:
                os.kill(self.launcher, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False

    @property
    def _is_root(self) -> bool:
        return self.rank == 0

    def _forward(self, number: int, frame: object) -> None:
        if time.monotonic() - self.signalled > _AGAIN_SECONDS and self.own_end is None:
            self.signalled = time.monotonic()
            with contextlib.suppress(OSError):
                os.kill(self.child, number)

    def _reap(self) -> None:
        if self.own_end is not None:
            return
        pid, status = os.waitpid(self.child, os.WNOHANG)
        if not pid:
            return
        for news in self.worker.read() or [] if self._readable(self.worker) else []:
            self._from_worker(news)
        code = os.waitstatus_to_exitcode(status)
        what = f"ended with exit code {code}"
        if code < 0:
            what = (
                f"was killed by signal {-code} ({signal.Signals(-code).name})"
                if -code in signal.valid_signals()
                else "was killed"
            )
        self.own_end = {"rank": self.rank, "host": self.host, "what": what, "code": code, "killed": code < 0, "says": self.told}
        self._end_of(self.own_end)
        if self.root is not None:
            self.root.send(end=self.own_end)

    @staticmethod
    def _readable(wire: Wire) -> bool:
        with selectors.DefaultSelector() as one:
            one.register(wire.connection, selectors.EVENT_READ)
            return bool(one.select(0))

    def _end_of(self, end: News) -> None:
        """On rank 0: what has become of a worker."""
        self.finished.add(int(end["rank"]))
        if end["code"] not in (0, *_STOPPED):
            self.reports.append(end)

    def _welcome(self) -> None:
        connection, _ = self.listener.accept()
        wire = Wire(_kept_alive(connection))
        self.peers[wire] = -1
        self.selector.register(connection, selectors.EVENT_READ, wire)

    def _hear(self, wire: Wire) -> None:
        news = wire.read()
        if news is None:
            self.selector.unregister(wire.connection)
            rank = self.peers.pop(wire, -1)
            if wire is self.root and self.own_end is None:
                self._end(f"rank 0 on host {self.hosts[0]} is gone, or the network to it")
                raise _Ended
            if wire is self.root:
                self.root = None
            if rank >= 0 and rank not in self.finished:
                gone = {
                    "rank": rank,
                    "host": self.hosts[rank],
                    "what": "is gone, or the network to it",
                    "code": -9,
                    "killed": True,
                }
                self._end_of(gone)
            return
        for each in news:
            if wire is self.worker:
                self._from_worker(each)
            elif wire is self.root:
                if "stop" in each:
                    self._stop_worker()
                    wire.send(stopped=True)
                    wire.connection.settimeout(_STOP_SECONDS)
                    wire.read()  # rank 0 ends first: a launcher that sees one end kills the others, whose workers would speak
                    raise _Ended  # what for was said by rank 0
            elif self.peers[wire] < 0:
                if each.get("token") != self.token or not self.token:
                    self.selector.unregister(wire.connection)
                    wire.connection.close()
                    del self.peers[wire]
                    return
                self.peers[wire] = int(each["rank"])
            elif "end" in each:
                self._end_of(each["end"])

    def _from_worker(self, news: News) -> None:
        self.hint = news.get("hint", self.hint)
        self.told = news.get("says", self.told)
        self.token = news.get("token", self.token)
        if "group" not in news:
            return
        group = news["group"]
        self.rank, self.size, self.hosts, self.token = group["rank"], len(group["hosts"]), group["hosts"], group["token"]
        self.host = self.hosts[self.rank]
        if not self._is_root:
            self.selector.unregister(self.listener)
            self.listener.close()
            last: OSError | None = None
            for address in group["addresses"]:
                try:
                    connection = socket.create_connection((address, group["port"]), timeout=_PATIENCE)
                    break
                except OSError as error:
                    last = error
            else:
                raise last or OSError("rank 0 has no address")
            connection.settimeout(None)
            self.root = Wire(_kept_alive(connection))
            self.root.send(token=self.token, rank=self.rank)
            self.selector.register(connection, selectors.EVENT_READ, self.root)

    def _judge(self) -> int:
        """Who is to blame: a worker that was killed, else those that said why, else the first."""
        killed = [report for report in self.reports if report["killed"]]
        spoken = [report for report in self.reports if report.get("says")]
        if not killed and spoken:
            said = {report["says"] for report in spoken}
            if len(said) == 1 and len(spoken) == max(self.size, 1):
                return self._end(said.pop(), hint=False)
            first = spoken[0]
            return self._end(f"rank {first['rank']} on host {first['host']}: {first['says']}", hint=False)
        return self._end(_named((killed or self.reports)[0]))

    def _end_unmet(self, what: str) -> int:
        """Before the workers have met. By a signal: MPICH's mpirun takes any exit code before MPI's start for a good end."""
        self._end(f"rank {self.rank} on host {self.host} {what}")
        self.tell(_CODE)
        os.kill(os.getpid(), signal.SIGKILL)
        return _CODE

    def _stop_worker(self) -> None:
        if self.own_end is None:
            with contextlib.suppress(OSError):
                os.kill(self.child, signal.SIGKILL)
                os.waitpid(self.child, 0)

    def _end(self, sentence: str, hint: bool = True) -> int:
        others = "; all workers were stopped" if self.size > 1 and hint else ""
        text = f"warploom: error: {sentence}{others}{f'; {self.hint}' if hint and self.hint and others else ''}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
        for peer in self.peers:
            peer.send(stop=sentence)
        self._stop_worker()
        for peer in self.peers:
            peer.connection.settimeout(_STOP_SECONDS)
            peer.read()  # that it has stopped its worker, or is gone
        return _CODE
