"""Several processes that serve one socket: they are replaced when they end, one by one on SIGHUP, and leave in time."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import wait
from types import FrameType

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Process

from api_server.draining import STUCK
from api_server.exceptions import StartError

_LOOK_S = 0.5
# What a worker may take to be ready before it replaces another.
_START_WITHIN_S = 60.0
# Between starts that fail one after the other, each time twice as long.
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# How often a service is started that has never served.
_FIRST_STARTS = 5
_LEAVE = (signal.SIGINT, signal.SIGTERM)
_HANDLED = (*_LEAVE, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
# A worker that gets it closes its listener and serves on. Nobody but its supervisor sends it: a terminal does not.
_ACCEPT_NO_MORE = signal.SIGUSR1
_NOT_MEANT_TO_END = (signal.SIGHUP, _ACCEPT_NO_MORE)
# What whoever has just connected may take to ask.
_LINGER_S = 0.2
_NO_GOOD_ORDER = (STUCK, -signal.SIGKILL)

log = structlog.get_logger("api_server.supervisor")


class Supervisor:
    """Keeps `config.workers` processes serving until SIGINT or SIGTERM, and is gone `within` seconds after it.

    On SIGHUP each is replaced, the next when the one before has left; on SIGTTIN and SIGTTOU there is one more or less.
    One that ends is replaced at once; one that ended before it served, after a pause that grows up to half a minute.
    `prepare` is called first in each worker; `lingers` is as `LingeringServer` has it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        *,
        within: float,
        lingers: bool,
        prepare: Callable[[], None],
    ) -> None:
        self._config = config
        self._listener = listener
        self._within = within
        self._lingers = lingers
        self._prepare = prepare
        self._workers: list[Worker] = []
        self._retired: list[Worker] = []
        self._bell, self._ringing = socket.socketpair()
        self._asked_at: float | None = None
        self._unheard: list[int] = []
        self._has_served = False
        self._failed_starts = 0
        self._pause = _FIRST_PAUSE_S
        self._start_again_at = 0.0
        self._looked_at = 0.0
        self._failure: Worker | None = None

    def run(self) -> int:
        """Return the exit status: 0 after good order, 3 where the app never started, 70 if somebody was stuck.

        Raises StartError, with what the first worker has said of it, where the app cannot be made.
        """
        with self._bell, self._ringing, self._signals_ring():
            self._workers = [self._started() for _ in range(self._config.workers)]
            while not self._is_over:
                self._listen(_LOOK_S)
                self._obey()
                self._look_after_workers()
            status = self._leave()
        if self._failure is not None and self._failure.reason is not None:
            raise StartError(self._failure.reason)
        return status

    @property
    def _is_over(self) -> bool:
        return self._asked_at is not None or self._failure is not None

    @contextmanager
    def _signals_ring(self) -> Iterator[None]:
        """Have a signal end every wait at once; the bell says which it was."""
        self._bell.settimeout(0)
        self._ringing.settimeout(0)
        handlers = {number: signal.signal(number, self._note) for number in _HANDLED}
        former = signal.set_wakeup_fd(self._ringing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if number in _LEAVE and self._asked_at is None:
            self._asked_at = time.monotonic()

    def _listen(self, seconds: float) -> None:
        """Wait for a signal, or for a worker to end."""
        running = [worker.process.sentinel for worker in self._workers if worker.process.is_alive()]
        if self._bell in wait([self._bell, *running], max(seconds, 0)):
            self._unheard += self._bell.recv(64)

    def _obey(self) -> None:
        """Do what signals say, but for those that say to leave."""
        numbers, self._unheard = self._unheard, []
        for number in numbers:
            match number:
                case signal.SIGHUP:
                    self._replace_all()
                case signal.SIGTTIN:
                    self._workers.append(self._started())
                case signal.SIGTTOU if len(self._workers) > 1:
                    self._retire(self._workers.pop())

    def _started(self) -> "Worker":
        worker = Worker(self._config, self._listener, self._prepare, lingers=self._lingers)
        worker.start()
        return worker

    def _look_after_workers(self) -> None:
        self._looked_at = time.monotonic()
        for index, worker in enumerate(self._workers):
            if self._is_over:
                return
            if not worker.is_buried:
                if worker.is_well(self._config.timeout_worker_healthcheck):
                    self._note_service(worker)
                    continue
                # One that does not answer any more.
                worker.bury()
                self._note_end(worker)
            if not self._is_over and time.monotonic() >= self._start_again_at:
                self._workers[index] = self._started()

    def _note_service(self, worker: "Worker") -> None:
        if worker.has_served:
            self._has_served = True
        # What once served may have failed since, and some may serve while others cannot start.
        if self._failed_starts and all(one.has_served and not one.is_buried for one in self._workers):
            self._failed_starts, self._pause = 0, _FIRST_PAUSE_S

    def _note_end(self, worker: "Worker") -> None:
        """Say that a worker has ended, and settle when the next one is started, or that none is."""
        facts = {"pid": worker.pid, "status": worker.exitcode}
        if worker.has_served:
            log.warning("worker ended and is replaced", **facts)
            return
        # Those that end together have failed for one reason, once.
        if time.monotonic() >= self._start_again_at:
            self._failed_starts += 1
            self._start_again_at = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)
        is_hopeless = worker.cannot_start or self._failed_starts >= _FIRST_STARTS
        if is_hopeless and not self._has_served:
            self._failure = worker
            if worker.reason is None:
                log.error("no worker has ever started, and none is tried again", **facts, starts=self._failed_starts)
            return
        left = round(max(self._start_again_at - time.monotonic(), 0.0), 1)
        log.error("worker did not start and is tried again", **facts, reason=worker.reason, in_seconds=left)

    def _wait(self, seconds: float) -> None:
        """Wait for a signal, for a worker to end, or so long, and look after those that serve meanwhile."""
        self._listen(seconds)
        if time.monotonic() - self._looked_at >= _LOOK_S:
            self._look_after_workers()

    def _replace_all(self) -> None:
        log.info("replacing workers", workers=len(self._workers))
        for index in range(len(self._workers)):
            new = self._started()
            if not self._is_ready(new):
                new.bury()
                if not self._is_over:
                    facts = {"pid": new.pid, "status": new.exitcode, "reason": new.reason}
                    log.error("new worker is not ready, the old ones stay", **facts)
                return
            old, self._workers[index] = self._workers[index], new
            self._retire(old)
            log.info("worker replaced", pid=new.pid, former=old.pid, status=old.exitcode)

    def _is_ready(self, worker: "Worker") -> bool:
        deadline = time.monotonic() + _START_WITHIN_S
        while not self._is_over and time.monotonic() < deadline and worker.process.is_alive():
            if worker.serves():
                self._has_served = True
                return True
            self._wait(0.1)
        return False

    def _retire(self, worker: "Worker") -> None:
        """Have one leave while the others serve on, and wait for that; it takes no new connections from now on."""
        self._retired = [one for one in self._retired if one.process.is_alive()]
        if worker.process.is_alive():
            # First it closes its listener, and only then says that it leaves: no probe of the service meets it.
            os.kill(worker.process.pid or 0, _ACCEPT_NO_MORE)
            time.sleep(_LINGER_S)
            worker.terminate()
            self._retired.append(worker)
        deadline = time.monotonic() + self._within
        while not self._is_over and worker.process.is_alive():
            self._wait(0.05)
            if time.monotonic() > deadline:
                worker.process.kill()
                worker.process.join()

    def _leave(self) -> int:
        # What connects now is for the workers, which listen on for as long as they like. With this copy of the socket
        # open, the system would take connections after that too, and nobody would ever answer them.
        self._listener.close()
        leaving = [one for one in (*self._workers, *self._retired) if one.process.is_alive()]
        for worker in leaving:
            if worker not in self._retired:
                worker.terminate()
        self._unheard.clear()
        self._see_off(leaving, (self._asked_at or time.monotonic()) + self._within)
        if self._failure is not None:
            return STARTUP_FAILURE
        if stuck := [worker.pid for worker in leaving if worker.exitcode in _NO_GOOD_ORDER]:
            log.error("workers did not leave by themselves", pids=stuck)
            return STUCK
        return 0

    def _see_off(self, workers: Sequence["Worker"], deadline: float) -> None:
        """Wait for workers that were told to leave, pass on what else is said meanwhile, and kill whoever is late."""
        while staying := [worker for worker in workers if worker.process.is_alive()]:
            self._listen(0.05)
            numbers, self._unheard = self._unheard, []
            for worker in staying:
                for number in numbers:
                    if number in _LEAVE and worker.process.is_alive():
                        os.kill(worker.process.pid or 0, number)
                if time.monotonic() > deadline:
                    worker.process.kill()
                    worker.process.join()


class Worker(Process):
    """One of uvicorn's processes."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, prepare: Callable[[], None], *, lingers: bool
    ) -> None:
        super().__init__(config, [listener])
        self._lingers = lingers
        self._prepare = prepare
        self._has_answered = False
        self._told, self._telling = Pipe(duplex=False)
        self.has_served = False
        self.is_buried = False
        self.reason: str | None = None

    @property
    def server(self) -> uvicorn.Server:
        """What serves, in the process itself."""
        if self._server is None:
            self._server = LingeringServer(self.config, lingers=self._lingers)
        return self._server

    @property
    def cannot_start(self) -> bool:
        """Whether it has ended in a way in which it would end again."""
        return self.exitcode == STARTUP_FAILURE

    def start(self) -> None:
        """Start it, and ask for its first answer."""
        # It inherits that: until it knows what to do with them, they wait instead of ending it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_MEANT_TO_END)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.parent_conn.send(b"ping")

    def is_well(self, patience: float) -> bool:
        """Whether it runs, and answers; while it imports what it serves, it cannot."""
        if not self.process.is_alive():
            return False
        if not self._answers():
            return True
        has_started = self._healthcheck(patience)
        self.has_served = self.has_served or has_started is True
        return has_started is not None

    def serves(self) -> bool:
        """Whether it has started."""
        if self._answers() and self.is_ready(timeout=1):
            self.has_served = True
            return True
        return False

    def bury(self) -> None:
        """End what is left of it, and read what it has said of its end."""
        self.is_buried = True
        self.kill()
        self.process.join()
        if self._told.poll(0):
            self.reason = self._told.recv()
        self._told.close()
        self._telling.close()

    def _answers(self) -> bool:
        if not self._has_answered and self.parent_conn.poll(0):
            try:
                self.parent_conn.recv()
            except EOFError:
                return False
            self._has_answered = True
        return self._has_answered

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, in the process itself."""
        self._prepare()
        # A terminal sends it to all processes; replacing workers is for the supervisor.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(_ACCEPT_NO_MORE, self._accept_no_more)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_MEANT_TO_END)
        try:
            super().target(sockets)
        except StartError as error:
            # By the supervisor it is said once, as where there is one process.
            self._telling.send(str(error))
            raise SystemExit(STARTUP_FAILURE) from error

    def _accept_no_more(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        """Leave new connections, and those that wait, to the other workers."""
        if isinstance(self.server, LingeringServer):
            self.server.accept_no_more()


class LingeringServer(uvicorn.Server):
    """A server that, where it `lingers`, answers whoever connected before its listener was closed, and asks after it.

    uvicorn closes connections that have not asked yet together with the listener.
    """

    def __init__(self, config: uvicorn.Config, *, lingers: bool) -> None:
        super().__init__(config)
        self._lingers = lingers

    def accept_no_more(self) -> None:
        """Close the listener of a server that goes on; what its socket has not given out yet is for others."""
        self._lingers = True
        for server in getattr(self, "servers", ()):
            # Called by a handler of signals, which may interrupt the loop anywhere.
            server.get_loop().call_soon_threadsafe(server.close)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, in this order: listen, linger, and what uvicorn does."""
        if self._lingers:
            for server in self.servers:
                server.close()
            await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)
        if not self.lifespan.shutdown_event.is_set():
            # uvicorn leaves the lifespan out where it was told once more not to wait; requests are what is not waited
            # for.
            await self._cut_off()
            await self.lifespan.shutdown()

    async def _cut_off(self) -> None:
        tasks = set(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LINGER_S)
