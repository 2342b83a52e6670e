"""The bounded queue, earliest deadline first, kept as sorted arrays so that looking ahead is a few array operations."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.routing.ticket import Ticket

FloatArray = NDArray[np.float64]


class QueueRows(NamedTuple):
    """Those who wait, earliest deadline first.

    Attributes:
        times_ns: times of the profile, ``[K, rungs]``.
        excess: upper quantile over expectation, minus one, ``[K]``.
        finish_by_ns: when inference should have ended, ``[K]``.
        promised_ns: `finish_by_ns`, ``[K]``, but infinite for those without a budget that must be kept.
    """

    times_ns: FloatArray
    excess: FloatArray
    finish_by_ns: FloatArray
    promised_ns: FloatArray


class DeadlineQueue:
    """Tickets by (deadline, arrival order); at most `capacity` plus those put back.

    The arrays hold a row per ticket, in the same order as `tickets`: times of the profile at each rung of the
    policy's ladder, neither trimmed nor scaled.
    """

    def __init__(self, capacity: int, rungs: int) -> None:
        self._capacity = capacity
        self._most = capacity + 2
        rows = 2 * self._most  # the head is taken by moving `_first`; the rows move back when they reach the end
        self._first = 0
        self._keys: list[tuple[int, int]] = []
        self._tickets: list[Ticket] = []
        self._times = np.zeros((rows, rungs))
        self._rest = np.zeros((3, rows))  # excess, finish by, promised

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def full(self) -> bool:
        """Whether no further request may wait."""
        return len(self._tickets) >= self._capacity

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """All tickets, earliest deadline first."""
        return tuple(self._tickets)

    def place(self, ticket: Ticket) -> int:
        """The row that `ticket` would get."""
        return bisect_left(self._keys, ticket.key)

    def push(self, ticket: Ticket) -> None:
        """Let `ticket` wait."""
        row, count = self.place(ticket), len(self._tickets)
        if count >= self._most:
            raise OverflowError("the queue is full; ask `full` first")
        if self._first + count == len(self._times):
            self._move(self._first, self._first + count, 0)
            self._first = 0
        at, end = self._first + row, self._first + count
        if self._first and row < count - row:  # the shorter side makes room
            self._move(self._first, at, self._first - 1)
            self._first -= 1
            at -= 1
        else:
            self._move(at, end, at + 1)
        self._keys.insert(row, ticket.key)
        self._tickets.insert(row, ticket)
        self._times[at] = ticket.rung_ns
        excess, finish_by, promised = self._rest
        excess[at], finish_by[at], promised[at] = ticket.excess, ticket.finish_by_ns, ticket.promised_ns

    def pop(self) -> Ticket:
        """Take out the head.

        Raises:
            IndexError: nobody waits.
        """
        return self._take(0)

    def remove(self, ticket: Ticket) -> bool:
        """Take `ticket` out; whether it waited."""
        row = self.place(ticket)
        if row >= len(self._tickets) or self._tickets[row] is not ticket:
            return False
        self._take(row)
        return True

    def _take(self, row: int) -> Ticket:
        ticket = self._tickets.pop(row)
        self._keys.pop(row)
        if row == 0:
            self._first += 1
        else:
            at = self._first + row
            self._move(at + 1, self._first + len(self._tickets) + 1, at)
        return ticket

    def _move(self, begin: int, end: int, to: int) -> None:
        """Rows `begin` to `end` of the arrays are to begin at `to`."""
        self._times[to : to + end - begin] = self._times[begin:end]
        self._rest[:, to : to + end - begin] = self._rest[:, begin:end]

    @property
    def rows(self) -> QueueRows:
        """What is known of those who wait; views, valid until the next change."""
        rows = slice(self._first, self._first + len(self._tickets))
        excess, finish_by, promised = self._rest[:, rows]
        return QueueRows(self._times[rows], excess, finish_by, promised)
