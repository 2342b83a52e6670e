"""Who refuses learns nothing: so an idle engine tries one now and then."""

from __future__ import annotations

from server.routing.router import Router
from server.routing.ticket import Request, Ticket
from tests.server.routing.parts import MS, SECOND, admitted, router, started


def life(server: Router, slowness: float, begin_ns: int, end_ns: int, budget_ns: int) -> list[bool]:
    """One caller that asks again at once (a refusal takes a millisecond); whether each was taken."""
    taken, now_ns = [], begin_ns
    while now_ns < end_ns:
        taken.append(isinstance(server.admit(Request((100,), now_ns, budget_ns), now_ns), Ticket))
        if not taken[-1]:
            now_ns += MS
        else:
            dispatch = started(server, now_ns)
            now_ns += int(dispatch.expected_ns / dispatch.factor * slowness)
            server.finished(dispatch, now_ns)
    return taken


def test_an_idle_engine_that_refuses_tries_one_now_and_then_and_so_learns_that_it_is_fast_again() -> None:
    server = router()
    assert all(life(server, 1.0, 0, SECOND, 6 * MS))
    slow = life(server, 4.0, SECOND, 4 * SECOND, 6 * MS)  # the cheapest takes 10 ms
    assert sum(slow[-800:]) <= 8, "one in 100 ms"
    life(server, 1.0, 4 * SECOND, 6 * SECOND, 6 * MS)
    assert all(life(server, 1.0, 6 * SECOND, 7 * SECOND, 6 * MS))


def test_what_it_never_could_do_is_not_tried() -> None:
    server = router()
    assert not any(life(server, 1.0, 0, 3 * SECOND, 3 * MS))


def test_one_that_is_tried_gets_the_cheapest_and_is_not_dropped() -> None:
    server = router()
    life(server, 4.0, 0, SECOND, 5 * MS)
    now_ns = 2 * SECOND
    admitted(server.admit(Request((100,), now_ns, 5 * MS), now_ns))
    assert started(server, now_ns).configuration == 0
