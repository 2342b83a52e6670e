"""Profile x trim x scale x tail, by hand and in the long run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from server.routing.latency_model import LatencyModel, Work
from tests.server.routing.parts import MS, SECOND, profile


def observed(model: LatencyModel, work: Work, configuration: int, ratio: float, now_ns: int) -> None:
    """One request that took `ratio` times its profile."""
    expected = float(work.base_ns[configuration]) * model.factor(now_ns)
    taken = int(work.base_ns[configuration] * ratio)
    model.observe(work, configuration, share=1.0, expected_ns=expected, observed_ns=taken, now_ns=now_ns)


def test_the_profile_is_what_is_expected_at_first() -> None:
    work = LatencyModel(profile()).work((100, 50))
    assert work.base_ns / MS == pytest.approx([3.75, 7.5, 15.0])
    assert (work.windows, work.answer_base_ns) == (2, 0.5 * MS)


def test_a_window_may_be_as_good_as_another_length_to_a_configuration() -> None:
    model = LatencyModel(profile())
    found = model.work((100, 50), np.asarray([[100, 50], [50, 50], [50, 100]]))
    first, second, third = (model.work(lengths).base_ns for lengths in ((100, 50), (50, 50), (50, 100)))
    assert found.base_ns.tolist() == [first[0], second[1], third[2]]
    assert (found.windows, found.length_class) == (2, model.work((100, 50)).length_class)


def test_a_request_without_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one window"):
        LatencyModel(profile()).work(())


def test_a_slower_host_is_expected_to_be_slower_in_all_configurations() -> None:
    model = LatencyModel(profile())
    work = model.work((100,))
    for step in range(30):
        observed(model, work, 2, 2.0, step * MS)
    assert model.factor(30 * MS) == pytest.approx(2.0, rel=0.1)


def test_moving_the_trim_makes_no_prediction_jump() -> None:
    model = LatencyModel(profile())
    work = model.work((100,))
    for step in range(50):
        observed(model, work, 1, 1.5, step * MS)
    before = model.factor(50 * MS)
    model.set_trim(1.5)
    assert model.factor(50 * MS) == pytest.approx(before)
    assert model.scale(50 * MS) == pytest.approx(before / 1.5)
    assert model.factor(1_000 * SECOND) == pytest.approx(1.5), "in silence the factor returns to the trim"


def test_a_process_that_has_seen_nothing_starts_from_the_trim() -> None:
    model = LatencyModel(profile())
    model.set_trim(1.2)
    model.set_trim(1.5)
    assert model.factor(0) == pytest.approx(1.5)
    assert model.scale(0) == 1.0


@pytest.mark.parametrize("late_share", [0.02, 0.2])
def test_the_share_beyond_the_tail_and_then_beyond_what_is_kept_back_is_what_was_promised(late_share: float) -> None:
    model = LatencyModel(profile(), late_share=late_share)
    work = model.work((100,))
    random = np.random.default_rng(1)
    beyond, late, count = 0, 0, 6_000
    for step in range(count):
        now_ns = step * 10 * MS
        ratio = float(random.lognormal(0.0, 0.15))
        upper = float(work.base_ns[1]) * model.factor(now_ns) * model.tails(work.length_class, now_ns)[1]
        beyond += work.base_ns[1] * ratio > upper
        late += work.base_ns[1] * ratio > upper + model.stall_ns(math.inf, float(work.base_ns[1]))
        observed(model, work, 1, ratio, now_ns)
    assert beyond / count == pytest.approx(0.02, rel=0.5)
    assert late / count < 1.2 * late_share


def test_a_class_that_is_wilder_than_the_others_gets_a_longer_tail() -> None:
    model = LatencyModel(profile(), late_share=0.1)
    calm, wild = model.work((30,)), model.work((384,))
    random = np.random.default_rng(2)
    for step in range(4_000):
        observed(model, calm, 0, float(random.lognormal(0.0, 0.02)), 2 * step * MS)
        observed(model, wild, 2, float(random.lognormal(0.0, 0.3)), (2 * step + 1) * MS)
    end_ns = 8_000 * MS
    assert model.tails(wild.length_class, end_ns)[2] > 1.1 * model.tails(calm.length_class, end_ns)[0]


def test_what_one_configuration_takes_beyond_the_common_factor_refines_its_cell() -> None:
    model = LatencyModel(profile())
    for step in range(600):
        work = model.work((100,))
        observed_ns = [1.0, 1.0, 1.3][step % 3] * float(profile().inference_ns((100,))[step % 3])
        expected = float(work.base_ns[step % 3]) * model.factor(step * MS)
        model.observe(work, step % 3, share=1.0, expected_ns=expected, observed_ns=int(observed_ns), now_ns=step * MS)
    refined = model.work((100,)).base_ns / profile().inference_ns((100,))
    assert refined[2] / refined[0] == pytest.approx(1.3, rel=0.05)


def test_the_stalest_configuration_is_named_once_it_is_old() -> None:
    model = LatencyModel(profile())
    work = model.work((100,))
    assert model.stalest(0, SECOND, 3) is None
    observed(model, work, 2, 1.0, SECOND)
    observed(model, work, 1, 1.0, 2 * SECOND)
    assert model.stalest(2 * SECOND, SECOND, 3) == 0
    assert model.stalest(2 * SECOND, SECOND, 0) is None
    assert model.stalest(2 * SECOND, 5 * SECOND, 3) is None


@pytest.mark.parametrize("taken", [0, -5])
def test_times_that_cannot_be_teach_nothing(taken: int) -> None:
    model = LatencyModel(profile())
    model.observe(model.work((100,)), 1, share=1.0, expected_ns=1e6, observed_ns=taken, now_ns=0)
    assert model.factor(0) == 1.0


def test_the_time_after_inference_has_a_tail_of_its_own() -> None:
    model = LatencyModel(profile(), late_share=0.1)
    work = model.work((100,))
    before = model.answer_upper_ns(work, 1.0, 0)
    for _ in range(40):
        model.observe_answer(work, 1.0, int(10 * work.answer_base_ns))
    after = model.answer_upper_ns(work, 1.0, 0)
    assert after == pytest.approx(4 * work.answer_base_ns) == pytest.approx(2 * before), "no more: it would be a stall"
    assert model.stall_ns(math.inf, 100 * MS) > 5 * work.answer_base_ns
    assert math.isclose(model.answer_upper_ns(work, 100.0, 0), 2 * after)


def test_in_silence_caution_fades_and_is_not_remembered() -> None:
    model = LatencyModel(profile())
    work = model.work((100,))
    random = np.random.default_rng(3)
    for step in range(300):
        observed(model, work, 2, float(random.choice([1.0, 1.5], p=[0.9, 0.1])), step * 10 * MS)
    heard_ns = 300 * 10 * MS
    wary = model.tails(work.length_class, heard_ns)[2]
    later_ns = heard_ns + 60 * SECOND
    assert wary > 1.3
    assert model.tails(work.length_class, later_ns)[2] == pytest.approx(1.05, rel=0.01), "that of the residuals"
    observed(model, work, 2, 1.0, later_ns)
    assert model.tails(work.length_class, later_ns)[2] == pytest.approx(1.05, rel=0.01)


@pytest.mark.parametrize("pause_s", [1, 8, 30])
def test_seldom_requests_are_promised_no_less_than_frequent_ones(pause_s: int) -> None:
    random = np.random.default_rng(4)
    model = LatencyModel(profile(residuals=tuple(np.sort(random.lognormal(0.0, 0.08, 200)).tolist())))
    work = model.work((100,))
    beyond, answered_late, count = 0, 0, 1_000
    for step in range(count):
        now_ns = step * pause_s * SECOND
        ratio, answer_ns = float(random.lognormal(0.0, 0.08)), int(work.answer_base_ns * random.lognormal(0.0, 0.2))
        factor = model.factor(now_ns)
        beyond += ratio > factor * model.tails(work.length_class, now_ns)[1]
        answered_late += answer_ns > model.answer_upper_ns(work, factor, now_ns)
        observed(model, work, 1, ratio, now_ns)
        model.observe_answer(work, factor, answer_ns)
    assert beyond / count < 0.04
    assert answered_late / count < 0.04


def test_a_profile_measured_beside_other_work_does_not_shut_the_door() -> None:
    wild = profile(residuals=(1.0,) * 98 + (8.0, 8.0))
    assert LatencyModel(wild).tails(0, 0)[0] == pytest.approx(1.6)
