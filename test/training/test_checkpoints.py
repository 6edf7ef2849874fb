"""A checkpoint is there whole or not at all, and one that was altered is refused."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251, to make what must never be opened
from pathlib import Path

import pytest
import torch

from wm_vla_ros import files
from wm_vla_ros.training.checkpoints import Checkpoints, optimiser_tensors, restore_optimiser
from wm_vla_ros.world_models.manifest import ModelRefused

STATE = {"stage": 1, "seconds": 0.1, "deep": {"a": [1, 2.5, None]}}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model.weight": torch.randn(3, 4, generator=generator),
        "model.conv": torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
        "random.torch": torch.get_rng_state(),
        "replay.powers": torch.rand(5, dtype=torch.float64, generator=generator),
        "count": torch.tensor(7),
    }


def test_what_is_read_is_what_was_kept(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(12, tensors(), STATE)
    found, refused = Checkpoints(tmp_path).newest()
    assert found is not None
    assert (found.step, found.state, refused) == (12, STATE, [])
    for name, value in tensors().items():
        assert found.tensors[name].dtype == value.dtype
        assert torch.equal(found.tensors[name], value), name


def test_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10, 15):
        checkpoints.save(step, tensors(step), STATE)
    assert checkpoints.steps() == [15, 10]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("stopped_at", range(8))
def test_whoever_stops_in_the_middle_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int
) -> None:
    """Every call to the system that writing makes fails once, as if the power went."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, tensors(5), STATE)
    calls = iter(range(100))

    class Cut(BaseException):
        pass

    def cut(real):
        def call(*arguments, **options):
            if next(calls) == stopped_at:
                raise Cut
            return real(*arguments, **options)

        return call

    for name in ("replace", "fsync", "open"):
        monkeypatch.setattr(files.os, name, cut(getattr(os, name)))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut(Path.unlink))
        try:
            checkpoints.save(10, tensors(10), STATE)
        except Cut:
            pass
        else:
            pytest.fail("nothing was cut")
    monkeypatch.undo()
    found, refused = checkpoints.newest()
    assert found is not None
    assert refused == []
    assert torch.equal(found.tensors["model.weight"], tensors(found.step)["model.weight"])
    checkpoints.save(15, tensors(15), STATE)
    assert not [path for path in tmp_path.iterdir() if path.suffix == files.PARTIAL]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("removed", [0, 1, 2])
def test_whoever_stops_while_letting_go_leaves_only_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: int, turned: bool
) -> None:
    """In whatever order the file system lists the folder."""
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10):
        checkpoints.save(step, tensors(step), STATE)
    left, unlink = iter(range(removed)), Path.unlink

    def remove(path: Path) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", remove)
        patch.setattr(Path, "iterdir", lambda path: iter(sorted(path.glob("*"), reverse=turned)))
        if removed < 2:
            with pytest.raises(KeyboardInterrupt):
                checkpoints.save(15, tensors(15), STATE)
        else:
            checkpoints.save(15, tensors(15), STATE)
    assert checkpoints.steps()[:2] == [15, 10]
    for step in checkpoints.steps():
        assert torch.equal(checkpoints.read(step).tensors["model.weight"], tensors(step)["model.weight"])
    checkpoints.save(20, tensors(20), STATE)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_fault_53_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, suffix: str, damage: str
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10):
        checkpoints.save(step, tensors(step), STATE)

    def spoil(step: int) -> None:
        path = tmp_path / f"step_{step:08d}.{suffix}"
        content = bytearray(path.read_bytes())
        if damage == "cut":
            content = content[: len(content) // 2]
        else:
            at = content.index(b"stage") if suffix == "json" else len(content) // 2
            content[at] ^= 1
        path.write_bytes(content)

    spoil(10)
    found, refused = checkpoints.newest()
    assert found is not None
    assert found.step == 5
    assert "step_00000010" in refused[0]
    spoil(5)
    with pytest.raises(ModelRefused, match="no checkpoint in .* is sound"):
        checkpoints.newest()


def test_fault_54_a_pickle_among_the_checkpoints_is_never_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(5, tensors(), STATE)
    path = tmp_path / "checkpoints" / "step_00000005.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelRefused):
        checkpoints.newest()
    assert not canary.exists()


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(5, {"model.weight": torch.tensor([1.0, float("nan")])}, STATE)
    with pytest.raises(ModelRefused, match="model.weight: expected finite values"):
        Checkpoints(tmp_path).read(5)


def test_an_optimiser_goes_on_as_it_was() -> None:
    def made():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return layer, torch.optim.AdamW(layer.parameters(), 1e-2)

    def step(layer, optimiser, seed: int) -> None:
        image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        layer(image).square().mean().backward()
        optimiser.step()

    one, first = made()
    for seed in range(3):
        step(one, first, seed)
    other, second = made()
    other.load_state_dict(one.state_dict())
    kept = {name: value.clone() for name, value in optimiser_tensors(first).items()}
    restore_optimiser(second, kept)
    for layer, optimiser in ((one, first), (other, second)):
        step(layer, optimiser, 9)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)
    with pytest.raises(ModelRefused, match="the optimiser's 0.exp_avg fits no weight"):
        restore_optimiser(second, kept | {"0.exp_avg": torch.zeros(2)})


def test_the_json_says_what_it_is_a_checkpoint_of(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(5, tensors(), STATE)
    told = json.loads((tmp_path / "step_00000005.json").read_text())
    assert told["state"] == STATE
    assert told["bytes"] == (tmp_path / "step_00000005.safetensors").stat().st_size
