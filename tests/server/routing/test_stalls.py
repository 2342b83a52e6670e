"""What is kept back for stalls: enough for those that can be outlasted, nothing for those that cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.routing.latency_model import LatencyModel
from server.routing.router import Router
from server.routing.stalls import Stalls
from server.routing.ticket import Refusal, Request
from tests.server.routing.parts import MS, profile, router

Record = list[tuple[float, float]]

records: st.SearchStrategy[Record] = st.lists(
    st.tuples(st.one_of(st.just(-1.0), st.floats(0.1, 50.0)), st.floats(1.0, 100.0)), max_size=60
)


def stalls(record: Record, share: float = 0.01) -> Stalls:
    found = Stalls(share)
    for excess_ns, at_risk_ns in record:
        found.observe(excess_ns, at_risk_ns)
    return found


def expected(record: Record, above: float, spare: float, at_risk: float) -> float:
    """Stalls in (above, spare] that come in a time of `at_risk`."""
    return sum(above < excess <= spare for excess, _ in record) * at_risk / sum(risk for _, risk in record)


def test_nothing_is_kept_back_before_anything_was_seen() -> None:
    assert Stalls(0.01).allowance_ns(1e9, 1e9) == 0.0


def test_a_stall_that_nobody_could_outlast_is_nothing_to_keep_back_for() -> None:
    found = stalls([(40.0, 10.0)] * 20 + [(3.0, 10.0)])
    assert found.allowance_ns(8.0, 10.0) == 3.0
    assert found.allowance_ns(2.0, 10.0) == 0.0
    assert found.allowance_ns(-5.0, 10.0) == 0.0


@given(records, st.floats(0.0, 60.0), st.floats(0.1, 200.0), st.sampled_from([0.01, 0.1, 0.5]))
def test_it_is_the_least_that_leaves_no_more_than_the_share(
    record: Record, spare: float, at_risk: float, share: float
) -> None:
    kept = stalls(record, share).allowance_ns(spare, at_risk)
    assert 0.0 <= kept <= max(spare, 0.0)
    if record:
        assert expected(record, kept, spare, at_risk) <= share + 1e-9
    if kept > 0.0:
        assert expected(record, np.nextafter(kept, 0.0), spare, at_risk) > share - 1e-9


@given(records, st.floats(0.0, 60.0), st.floats(0.1, 200.0))
def test_more_time_at_risk_keeps_no_less_back(record: Record, spare: float, at_risk: float) -> None:
    found = stalls(record)
    assert found.allowance_ns(spare, at_risk) <= found.allowance_ns(spare, 2.0 * at_risk)


def test_what_was_long_ago_is_forgotten() -> None:
    found = stalls([(5.0, 10.0)] * 3 + [(0.0, 10.0)] * 4096)
    assert found.allowance_ns(10.0, 10.0) == 0.0
    assert found.allowance_ns(10.0, 1e9) == 0.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_must_be_one(share: float) -> None:
    with pytest.raises(ValueError, match="must be in"):
        Stalls(share)


def served(server: Router, budget_ms: float, stalls_ms: list[float]) -> tuple[int, int, list[int]]:
    """One caller, one request after the other; refused, answered late, and the configurations of those answered."""
    random = np.random.default_rng(0)
    now_ns, refused, late, configurations = 0, 0, 0, []
    for stall_ms in stalls_ms:
        began_ns = now_ns
        if isinstance(server.admit(Request((100,), now_ns, int(budget_ms * MS)), now_ns), Refusal):
            refused += 1
            now_ns += MS
            continue
        dispatch, _ = server.dispatch(now_ns)
        assert dispatch is not None
        base = float(dispatch.ticket.work.profile_ns[dispatch.configuration])
        now_ns += int(base * random.lognormal(0.0, 0.02) + stall_ms * MS)
        server.finished(dispatch, now_ns)
        server.model.observe_answer(dispatch.ticket.work, dispatch.factor, MS // 2)
        late += now_ns + MS // 2 > began_ns + budget_ms * MS
        configurations.append(dispatch.configuration)
    return refused, late, configurations


@pytest.mark.parametrize("share", [0.005, 0.02, 0.05])
def test_stalls_longer_than_any_slack_refuse_nobody_and_cheapen_nobody(share: float) -> None:
    random = np.random.default_rng(1)
    lengths = np.where(random.random(3_000) < share, 30.0 + 20.0 * random.random(3_000), 0.0)
    refused, late, configurations = served(router(), 16.0, lengths.tolist())
    assert refused == 0
    assert late == (lengths > 0).sum(), "these nobody could help"
    assert np.mean(np.array(configurations) == 2) > 0.95


def test_stalls_that_the_cheaper_can_outlast_make_answers_cheaper() -> None:
    random = np.random.default_rng(2)
    lengths = np.where(random.random(4_000) < 0.02, 3.0, 0.0)
    refused, late, configurations = served(router(), 14.0, lengths.tolist())
    assert refused == 0
    assert late <= 0.01 * len(lengths)
    assert np.mean(np.array(configurations[1_000:]) == 2) < 0.05


def test_a_stall_is_no_spread_of_service_times() -> None:
    model = LatencyModel(profile())
    random = np.random.default_rng(3)
    for step in range(4_000):
        work, now_ns = model.work((100,)), step * 10 * MS
        expected_ns = float(work.base_ns[1]) * model.factor(now_ns)
        stall_ns = 40 * MS if random.random() < 0.01 else 0
        taken = int(work.base_ns[1] * random.lognormal(0.0, 0.05)) + stall_ns
        model.observe(work, 1, share=1.0, expected_ns=expected_ns, observed_ns=taken, now_ns=now_ns)
    assert model.tails(work.length_class, now_ns)[1] < 1.25
    assert model.scale(now_ns) < 1.05
    assert model.stall_ns(100 * MS, 100 * MS) == pytest.approx(40 * MS, rel=0.05)
    assert model.stall_ns(20 * MS, 20 * MS) < MS
