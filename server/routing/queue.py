"""The bounded queue, earliest deadline first, kept as sorted arrays so that looking ahead is a few array operations."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from server.routing.ticket import Ticket

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class DeadlineQueue:
    """Tickets by (deadline, arrival order); at most `capacity` plus those put back.

    The arrays hold a row per ticket, in the same order as `tickets`: times of the profile at each rung of the
    policy's ladder, neither trimmed nor scaled.
    """

    def __init__(self, capacity: int, rungs: int) -> None:
        rows = capacity + 2
        self._capacity = capacity
        self._keys: list[tuple[int, int]] = []
        self._tickets: list[Ticket] = []
        self._times = np.zeros((rows, rungs))
        self._excess = np.zeros(rows)
        self._finish_by = np.zeros(rows)
        self._strict = np.zeros(rows, dtype=np.bool_)

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
        if count >= len(self._finish_by):
            raise OverflowError("the queue is full; ask `full` first")
        for rows in (self._times, self._excess, self._finish_by, self._strict):
            rows[row + 1 : count + 1] = rows[row:count]
        self._keys.insert(row, ticket.key)
        self._tickets.insert(row, ticket)
        self._times[row] = ticket.rung_ns
        self._excess[row] = ticket.excess
        self._finish_by[row] = ticket.finish_by_ns
        self._strict[row] = ticket.strict

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
        count = len(self._tickets)
        for rows in (self._times, self._excess, self._finish_by, self._strict):
            rows[row:count] = rows[row + 1 : count + 1]
        return ticket

    def times_ns(self, first: int = 0) -> FloatArray:
        """Profile times of the rows from `first` on, ``[K, rungs]``; a view, valid until the next change."""
        rows: FloatArray = self._times[first : len(self._tickets)]
        return rows

    def excess(self, first: int = 0) -> FloatArray:
        """Upper quantile over expectation, minus one, of those rows, ``[K]``."""
        rows: FloatArray = self._excess[first : len(self._tickets)]
        return rows

    def finish_by_ns(self, first: int = 0) -> FloatArray:
        """When the inference of those rows must have ended, ``[K]``."""
        rows: FloatArray = self._finish_by[first : len(self._tickets)]
        return rows

    def strict(self, first: int = 0) -> BoolArray:
        """Whether those rows have a budget that must be kept, ``[K]``."""
        rows: BoolArray = self._strict[first : len(self._tickets)]
        return rows
