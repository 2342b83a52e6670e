"""Earliest deadline first, and arrays that say the same as the tickets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.latency_model import Work
from server.routing.queue import DeadlineQueue
from server.routing.ticket import Request, Ticket

RUNGS = 3


def ticket(sequence: int, finish_by_ns: int, *, strict: bool = True) -> Ticket:
    times = np.array([1.0, 2.0, 4.0]) * (sequence + 1)
    return Ticket(
        request=Request((16,), 0),
        sequence=sequence,
        work=Work(1, 0, times, times, 1.0),
        strict=strict,
        deadline_ns=finish_by_ns,
        finish_by_ns=finish_by_ns,
        rungs=np.arange(RUNGS),
        rung_ns=times,
        excess=0.1 * sequence,
    )


def check(queue: DeadlineQueue) -> None:
    tickets = queue.tickets
    order = [(each.finish_by_ns, each.sequence) for each in tickets]
    assert order == sorted(order)
    assert np.array_equal(queue.rows.finish_by_ns, [each.finish_by_ns for each in tickets])
    assert np.array_equal(queue.rows.promised_ns, [each.finish_by_ns if each.strict else np.inf for each in tickets])
    assert np.array_equal(queue.rows.excess, [each.excess for each in tickets])
    assert np.array_equal(queue.rows.times_ns, np.array([each.rung_ns for each in tickets]).reshape(-1, RUNGS))


@given(st.lists(st.tuples(st.sampled_from(["push", "pop", "remove"]), st.integers(0, 5)), max_size=80))
def test_the_arrays_follow_the_tickets_through_any_history(steps: list[tuple[str, int]]) -> None:
    queue = DeadlineQueue(4, RUNGS)
    inside: list[Ticket] = []
    for sequence, (step, number) in enumerate(steps):
        if step == "push" and not queue.full:
            inside.append(ticket(sequence, number, strict=number % 2 == 0))
            queue.push(inside[-1])
        elif step == "pop" and inside:
            popped = queue.pop()
            assert popped is min(inside, key=lambda each: (each.finish_by_ns, each.sequence))
            inside.remove(popped)
        elif step == "remove" and inside:
            gone = inside.pop(number % len(inside))
            assert queue.remove(gone)
            assert not queue.remove(gone)
        assert set(queue.tickets) == set(inside)
        check(queue)


def test_equal_deadlines_are_served_in_order_of_arrival() -> None:
    queue = DeadlineQueue(5, RUNGS)
    first, second = ticket(1, 7), ticket(2, 7)
    queue.push(second)
    queue.push(first)
    assert queue.pop() is first
    assert queue.tickets[0] is second


def test_beyond_its_rows_the_queue_takes_nobody() -> None:
    queue = DeadlineQueue(1, RUNGS)
    for sequence in range(3):
        queue.push(ticket(sequence, 0))
    assert queue.full
    with pytest.raises(OverflowError):
        queue.push(ticket(9, 0))


def test_an_empty_queue_has_no_head() -> None:
    with pytest.raises(IndexError):
        DeadlineQueue(1, RUNGS).pop()
