"""Admission, order and dispatch under random histories."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from server.routing.outcomes import Outcome
from server.routing.router import Router
from server.routing.ticket import Dispatch, Refusal, Request, Ticket
from tests.server.routing.parts import MS, backlog_price, look_ahead, router, started


@dataclass
class History:
    """Random life of a router: what was offered, and what became of it."""

    server: Router
    outcomes: dict[int, list[str]] = field(default_factory=dict)
    running: Dispatch | None = None
    tickets: dict[Ticket, int] = field(default_factory=dict)
    now_ns: int = 0

    def offer(self, number: int, tokens: int, budget_ms: int | None) -> None:
        self.outcomes[number] = []
        budget_ns = None if budget_ms is None else budget_ms * MS
        found = self.server.admit(Request((tokens,) * (1 + tokens // 350), self.now_ns, budget_ns), self.now_ns)
        if isinstance(found, Refusal):
            self.outcomes[number].append(found.outcome)
        else:
            self.tickets[found] = number
        self.advance()

    def advance(self) -> None:
        dispatch, dropped = self.server.dispatch(self.now_ns)
        for ticket in dropped:
            self.outcomes[self.tickets.pop(ticket)].append(Outcome.EXPIRED_IN_QUEUE)
        self.running = dispatch or self.running

    def finish(self, factor: float) -> None:
        if self.running is None:
            return
        dispatch, self.running = self.running, None
        self.now_ns = max(self.now_ns, dispatch.at_ns + max(1, int(dispatch.expected_ns * factor)))
        if self.server.finished(dispatch, self.now_ns) and dispatch.ticket in self.tickets:
            self.outcomes[self.tickets.pop(dispatch.ticket)].append("served")
        self.advance()

    def hang_up(self, number: int) -> None:
        for ticket, owner in list(self.tickets.items()):
            if owner == number:
                self.server.cancel(ticket)
                self.outcomes[self.tickets.pop(ticket)].append(Outcome.CLIENT_GONE)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(16, 800), st.one_of(st.none(), st.integers(1, 300))),
        st.tuples(st.just("finish"), st.floats(0.5, 4.0)),
        st.tuples(st.just("wait"), st.integers(0, 60)),
        st.tuples(st.just("hang up"), st.integers(0, 40)),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(steps, st.booleans())
def test_every_request_comes_to_exactly_one_end(history: list[tuple[object, ...]], price: bool) -> None:  # noqa: FBT001
    life = History(router(backlog_price if price else look_ahead, capacity=20))
    for number, step in enumerate(history):
        match step:
            case ("offer", int(tokens), None | int() as budget_ms):
                life.offer(number, tokens, budget_ms)
            case ("finish", float(factor)):
                life.finish(factor)
            case ("wait", int(wait_ms)):
                life.now_ns += wait_ms * MS
                life.advance()
            case ("hang up", int(owner)):
                life.hang_up(owner)
    for _ in range(2_000):  # the dispatcher comes to an end
        if life.running is None:
            break
        life.finish(1.0)
    assert life.running is None
    assert life.server.waiting == 0
    assert {number: len(ends) for number, ends in life.outcomes.items()} == dict.fromkeys(life.outcomes, 1)


@given(
    budgets=st.lists(st.integers(5, 400), min_size=0, max_size=12),
    slack=st.tuples(st.integers(5, 300), st.integers(5, 300)),
    tokens=st.integers(16, 384),
    price=st.booleans(),
)
def test_less_slack_never_picks_a_richer_configuration(
    budgets: list[int],
    slack: tuple[int, int],
    tokens: int,
    price: bool,  # noqa: FBT001
) -> None:
    chosen = []
    for own_ms in sorted(slack):
        server = router(backlog_price if price else look_ahead, reserve_ns=0)
        rest = [server.admit(Request((100,), 0, (400 + each) * MS), 0) for each in budgets]
        assert all(isinstance(each, Ticket) for each in rest)
        found = server.admit(Request((tokens,), 0, own_ms * MS), 0)
        if isinstance(found, Refusal):
            chosen.append(-1)
            continue
        dispatch = started(server, 0)
        assert dispatch.ticket is found
        chosen.append(dispatch.configuration)
    assert chosen[0] <= chosen[1]
