"""Merging of action chunks, checked by hand on rows that say which chunk they come from."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.baselines.chunk_merging import MERGES, Ensemble, Newest, RealTimeChunking, Timed, Weighted


def chunk(first: int, value: float, rows: int = 6) -> Timed:
    """`rows` rows of two columns: the value, and the number that each row is for."""
    numbers = np.arange(first, first + rows)
    return Timed(first, np.stack([np.full(rows, value), numbers], axis=1).astype(np.float32))


def executed(merged: Timed) -> dict[int, float]:
    """Value by number; every row must still sit at its own number."""
    assert merged.actions[:, 1].tolist() == pytest.approx(list(range(merged.first, merged.end)))
    return dict(zip(range(merged.first, merged.end), merged.actions[:, 0].tolist(), strict=True))


@pytest.mark.parametrize("name", MERGES)
def test_the_first_chunk_loses_the_rows_that_are_past_and_no_other(name: str) -> None:
    assert executed(MERGES[name]().merge(chunk(10, 1.0), 12)) == dict.fromkeys(range(12, 16), 1.0)


@pytest.mark.parametrize("name", MERGES)
def test_a_chunk_that_has_run_out_leaves_nothing_to_do(name: str) -> None:
    assert len(MERGES[name]().merge(chunk(10, 1.0), 16).actions) == 0


@pytest.mark.parametrize("name", MERGES)
def test_an_episode_does_not_begin_with_the_chunks_of_the_one_before(name: str) -> None:
    merge = MERGES[name]()
    merge.merge(chunk(0, 5.0), 0)
    merge.reset()
    assert set(executed(merge.merge(chunk(2, 1.0), 2)).values()) == {1.0}


def test_the_newest_chunk_replaces_the_others() -> None:
    merge = Newest()
    merge.merge(chunk(0, 1.0), 1)
    assert executed(merge.merge(chunk(3, 2.0), 4)) == dict.fromkeys(range(4, 9), 2.0)


def test_weighted_averages_what_overlaps_and_takes_the_rest_as_it_comes() -> None:
    """0.3 old + 0.7 new, and the average is what the next chunk is averaged with."""
    merge = Weighted()
    merge.merge(chunk(0, 1.0), 1)
    second = executed(merge.merge(chunk(3, 2.0), 4))
    assert second == pytest.approx({4: 1.7, 5: 1.7, 6: 2.0, 7: 2.0, 8: 2.0})
    third = executed(merge.merge(chunk(5, 3.0), 5))
    assert third[5] == pytest.approx(0.3 * 1.7 + 0.7 * 3.0)
    assert third[6] == pytest.approx(0.3 * 2.0 + 0.7 * 3.0)
    assert third[10] == 3.0


def test_the_ensemble_weighs_the_oldest_most() -> None:
    """w_i = exp(-m i), w_0 for the oldest: a large m shows which one that is."""
    merge = Ensemble(coefficient=1.0)
    merge.merge(chunk(0, 1.0), 0)
    mean = executed(merge.merge(chunk(3, 2.0), 3))
    expected = (1.0 + np.exp(-1.0) * 2.0) / (1.0 + np.exp(-1.0))
    assert [mean[i] for i in (3, 4, 5)] == pytest.approx([expected] * 3)
    assert [mean[i] for i in (6, 7, 8)] == [2.0] * 3


def test_the_ensemble_is_acts_own_when_it_is_asked_every_tick() -> None:
    import torch
    from lerobot.policies.act.modeling_act import ACTTemporalEnsembler

    rng = np.random.default_rng(0)
    theirs, ours = ACTTemporalEnsembler(0.01, 6), Ensemble()
    for number in range(12):
        actions = rng.normal(size=(6, 3)).astype(np.float32)
        expected = theirs.update(torch.from_numpy(actions)[None])[0].numpy()
        np.testing.assert_allclose(ours.merge(Timed(number, actions), number).actions[0], expected, atol=1e-5)


def test_real_time_chunking_freezes_the_delay_then_fades_to_the_new_chunk() -> None:
    """Equation (5) of Black et al. for a delay of 2 of 8 rows: nothing is left of the old from row 6 on."""
    merge = RealTimeChunking()
    merge.merge(chunk(0, 0.0, rows=12), 2)
    rows = executed(merge.merge(chunk(4, 1.0, rows=8), 6))
    fading = [(6 - row) / (6 - 2 + 1) for row in range(2, 6)]
    old = [share * np.expm1(share) / np.expm1(1.0) for share in fading] + [0.0, 0.0]
    assert [1.0 - rows[number] for number in range(6, 12)] == pytest.approx(old, abs=1e-6)


def test_real_time_chunking_has_nothing_to_blend_past_the_left_over() -> None:
    merge = RealTimeChunking()
    merge.merge(chunk(0, 0.0, rows=5), 0)
    rows = executed(merge.merge(chunk(3, 1.0, rows=8), 3))
    assert rows[3] < 1.0
    assert [rows[number] for number in range(5, 11)] == [1.0] * 6


def test_real_time_chunking_is_less_of_a_jump_than_the_newest_chunk() -> None:
    """At the seam: from the last executed row of the old chunk to the first one of the merged one."""
    merge = RealTimeChunking()
    merge.merge(chunk(0, 0.0, rows=12), 0)
    assert abs(executed(merge.merge(chunk(4, 1.0, rows=12), 6))[6]) < 0.4
