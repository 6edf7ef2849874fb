"""Do rankings agree: on policies whose order is known, and on faults whose size is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.faults import faulty_policy
from wm_vla_ros.faults.faulty_policy import FaultyPolicy, PolicyFault, parse
from wm_vla_ros.judging.way_left import gap, way_left
from wm_vla_ros.lab.policy_judge import Ranking, graded, label_of
from wm_vla_ros.lab.policy_ranking import Evidence, Ranked, agreement, plot, successes
from wm_vla_ros.lab.policy_starts import find_starts
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.tasks.task import from_instruction

NAMES = tuple("abcdefghi")


def wins(shares: np.ndarray, scenes: int = 60, seed: int = 0) -> Evidence:
    """Successes of policies that succeed with these probabilities, at two tasks."""
    rng = np.random.default_rng(seed)
    return successes(
        {task: rng.random((len(shares), scenes)) < shares[:, None] for task in ("reach", "push")}
    )


SHARES = np.linspace(0.05, 0.95, len(NAMES))


@pytest.mark.parametrize(("shares", "sign"), [(SHARES, 1.0), (1.0 - SHARES, -1.0)])
def test_an_order_is_found_again_or_turned_around(shares: np.ndarray, sign: float) -> None:
    found = {figure.name: figure for figure in agreement("spearman", wins(shares, seed=1), wins(SHARES))}
    assert set(found) == {"spearman", "spearman_reach", "spearman_push"}
    assert sign * found["spearman"].value > 0.9
    assert found["spearman"].n == len(NAMES)
    assert found["spearman"].low <= found["spearman"].value <= found["spearman"].high
    assert min(sign * found["spearman"].low, sign * found["spearman"].high) > 0.6


def test_few_scenes_leave_the_order_in_doubt() -> None:
    """The interval has to know of the noise on both sides, or two scenes would do."""
    many, few = (agreement("s", wins(SHARES, n, 1), wins(SHARES, n, 0))[0] for n in (200, 3))
    assert few.high - few.low > many.high - many.low


def test_an_order_that_means_nothing_may_be_none() -> None:
    shuffled = np.random.default_rng(3).permutation(SHARES)
    figure = agreement("s", wins(shuffled, seed=1), wins(SHARES))[0]
    assert figure.low < 0.0 < figure.high or abs(figure.value) < 0.7


def test_equals_have_no_order() -> None:
    none = successes({"reach": np.zeros((5, 10), bool)})
    figure = agreement("s", none, none)[0]
    assert np.isnan(figure.value)
    assert (figure.n, figure.low) == (0, None)


def test_figures_tell_both_successes_and_how_far_they_are_apart(tmp_path: Path) -> None:
    driven, imagined = wins(SHARES), wins(SHARES * 0.5, seed=2)
    ranked = Ranked(NAMES, driven, {"m": imagined}, {"m": driven}, imagined)
    found = {figure.name: figure for figure in ranked.figures()}
    assert found["policy.i.push.success"].value > 0.8
    assert found["m.policy.i.push.success"].value < 0.7
    assert found["m.ranking.spearman_open_loop"].value == pytest.approx(1.0)
    off = np.abs(imagined.means() - driven.means()).mean()
    assert found["m.ranking.off"].value == pytest.approx(off)
    plot(ranked, list(found.values()), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_faults_are_parsed_and_refused_by_name() -> None:
    assert parse("models/p") == ("models/p", None)
    assert parse("models/p@gain=0.5") == ("models/p", PolicyFault("gain", 0.5))
    for name, said in (
        ("p@", "POLICY@FAULT=SIZE"),
        ("p@gain", "POLICY@FAULT=SIZE"),
        ("@gain=1", "POLICY@FAULT=SIZE"),
        ("p@gain=much", "POLICY@FAULT=SIZE"),
        ("p@lazy=1", "unknown fault 'lazy' of a policy; valid: gain, bias, noise, deaf"),
        ("p@deaf=1.5", "deaf: size must be between 0 and 1, got 1.5"),
        ("p@noise=-1", "noise: size must be between 0 and 20, got -1"),
    ):
        with pytest.raises(ValueError, match=said):
            parse(name)
    for name in graded("p"):
        parse(name)


class Straight:
    """Forwards by 2 mm a tick; says which instruction it followed in the last row."""

    chunk_size, n_action_steps, dt = 8, 4, 0.02

    def infer(self, images, state, instruction: str) -> np.ndarray:
        chunk = np.zeros((8, 7), np.float32)
        chunk[:, 0] = 0.1
        chunk[:, 5] = ["touch the red cube", "touch the blue cube"].index(instruction)
        return chunk


def states(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 18)).astype(np.float32)


def test_faults_do_what_they_say(spec: RobotSpec) -> None:
    def chunks(kind: str, size: float) -> np.ndarray:
        texts = ("touch the red cube", "touch the blue cube")
        policy = FaultyPolicy(Straight(), PolicyFault(kind, size), spec, texts)
        return np.stack([policy.infer({}, state, "touch the red cube") for state in states(300)])

    np.testing.assert_allclose(chunks("gain", 0.5)[..., 0], 0.05, rtol=1e-5)
    np.testing.assert_allclose(chunks("bias", 1.0)[..., 1] * spec.translation_scale, 1e-3, rtol=1e-5)
    noise = (chunks("noise", 2.0)[..., :2] - [0.1, 0.0]) * spec.translation_scale
    np.testing.assert_allclose(np.linalg.norm(noise, axis=-1), 2e-3, rtol=1e-4)
    assert np.linalg.norm(noise[:, 0].mean(0)) < 3e-4
    assert chunks("deaf", 0.3)[:, 0, 5].mean() == pytest.approx(0.3, abs=0.08)


def test_the_same_observation_is_the_same_chunk(spec: RobotSpec) -> None:
    """Or what a policy does would depend on which process was given the scene."""
    first, second = (FaultyPolicy(Straight(), PolicyFault("noise", 2.0), spec) for _ in range(2))
    one, other = states(2)
    second.infer({}, other, "touch the red cube")
    np.testing.assert_array_equal(
        first.infer({}, one, "touch the red cube"), second.infer({}, one, "touch the red cube")
    )


def test_a_deaf_policy_needs_something_to_mishear(spec: RobotSpec) -> None:
    with pytest.raises(ValueError, match="a deaf policy needs two instructions or more"):
        FaultyPolicy(Straight(), PolicyFault("deaf", 0.5), spec, ("touch the red cube",))


def test_policies_to_rank_are_four_or_more_of_different_names() -> None:
    for names in (("a", "b", "c"), ("a", "b", "c", "x/a")):
        with pytest.raises(ValueError, match="4 or more policies of different names"):
            Ranking(names, ("reach",), (1,))
    with pytest.raises(ValueError, match=r"unknown tasks \['juggle'\]; valid: reach, push"):
        Ranking(graded("p"), ("juggle",), (1,))
    assert label_of("outputs/x/p@gain=0.3") == "p@gain=0.3"


NAMED = tuple(f"{thing}.{axis}" for thing in ("tip", "red_cube", "green_pad") for axis in "xyz")


def test_the_way_left_is_the_gap_and_before_a_push_the_way_to_behind_it() -> None:
    push, touch = (
        from_instruction("push the red cube to the green pad"),
        from_instruction("touch the red cube"),
    )
    cube, pad = [0.2, 0.0, 0.0125], [0.3, 0.0, 0.0]
    behind, ahead = [0.16, 0.0, 0.014], [0.24, 0.0, 0.014]
    at = np.array([[*behind, *cube, *pad], [*ahead, *cube, *pad]])
    np.testing.assert_allclose(gap(push, NAMED, at), [0.1, 0.1])
    np.testing.assert_allclose(way_left(push, NAMED, at), [0.1, 0.18])
    np.testing.assert_allclose(way_left(touch, NAMED, at), gap(touch, NAMED, at))
    np.testing.assert_allclose(gap(touch, NAMED, at), 0.04, atol=1e-4)
    with pytest.raises(ValueError, match=r"no \['red_cube.x'"):
        gap(push, NAMED[:3], at[:, :3])


def test_data_without_a_task_is_refused(data, linear_model) -> None:
    with pytest.raises(ValueError, match="no reach among the held-out episodes: play"):
        find_starts({}, data, ("reach",), 10)


def test_policies_load_with_their_fault(spec: RobotSpec) -> None:
    policy, cameras = faulty_policy.load("so101_keypoint_chunk@gain=0.3", spec)
    assert isinstance(policy, FaultyPolicy)
    assert cameras == ("front",)
    assert (policy.chunk_size, policy.n_action_steps) == (48, 24)
