"""The one thread that engines run on."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InferenceThread(Executor):
    """Calls one function after the other, as a ``ThreadPoolExecutor`` of one thread does, with less on the way.

    The pool's way from an event loop to its thread and back takes 0.07 ms more right after an inference, for a future
    with its locks that nobody needs: `post` makes none.
    """

    def __init__(self, name: str = "leeway-inference") -> None:
        """Start no thread yet: the first call does.

        Args:
            name: of the thread.
        """
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = Lock()
        self._open = True
        self._thread = Thread(target=self._work, name=name, daemon=True)  # a process that ends calls `shutdown`

    def post(self, call: Callable[[], object]) -> None:
        """Have `call` called in its turn; it must not raise.

        Raises:
            RuntimeError: the thread was shut down.
        """
        with self._lock:
            if not self._open:
                raise RuntimeError("the inference thread was shut down")
            if self._thread.ident is None:
                self._thread.start()
                atexit.register(self.shutdown)
            self._calls.put(call)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called in its turn; its result.

        Raises:
            RuntimeError: the thread was shut down.
        """
        future: Future[T] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                    future.set_exception(error)

        self.post(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Take no more calls; those taken are made, in any case.  A second call does nothing but wait."""
        with self._lock:
            self._open = False
            self._calls.put(None)
        if wait:
            atexit.unregister(self.shutdown)
            if self._thread.ident is not None:
                self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # holds on to a request's windows and logits
