"""Precision and several processes, through Accelerate. Run as a script, this file is one of two processes."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from wm_vla_ros.training import devices
from wm_vla_ros.training.devices import Devices
from wm_vla_ros.training.run_folder import RunFolder
from wm_vla_ros.training.train_config import Budget, Stage, TrainConfig
from wm_vla_ros.training.world_model_trainer import Trainer
from wm_vla_ros.world_models.manifest import ModelRefused


def neighbour():
    """test_resume, whose data are made there."""
    spec = spec_from_file_location("resume", Path(__file__).with_name("test_resume.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAGES = TrainConfig(Stage(0.4, 4, 1e-3), Stage(0.3, 4, 1e-3, 8), Stage(0.3, 8, 1e-3, 8), priority=0.6)


class Stop(Exception):
    pass


def trained(folder: RunFolder | None = None, stop_after: int = 0, stages: TrainConfig = STAGES) -> Trainer:
    one = Trainer(neighbour().made_data(), np.arange(5), ("top",), stages, 0)
    torch.set_num_threads(1)
    if folder is not None:
        checkpoint, history, _ = folder.newest()
        if checkpoint is not None:
            one.restore(checkpoint, history)

    def progress(share: float, note: str) -> None:
        if stop_after and len(one.history) == stop_after:
            raise Stop

    one.run(Budget(steps=20), progress, folder)
    return one


def digest(one: Trainer) -> str:
    total = hashlib.sha256()
    for value in one.model.state_dict().values():
        total.update(value.numpy().tobytes())
    return total.hexdigest()


def take_part(root: Path) -> dict[str, object]:
    """What this process found; the other does the same at the same time."""
    devices = Devices("cpu")
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    weight.grad = torch.full((2, 3), float(devices.rank + 1))
    silent = torch.nn.Parameter(torch.zeros(4))
    if devices.main:
        silent.grad = torch.ones(4)
    devices.average([weight, silent])
    whole = trained()
    for stop in (9, 15):
        with RunFolder(root, {}, 5, devices.main) as folder:
            try:
                trained(folder, stop)
            except Stop:
                devices.wait()
    with RunFolder(root, {}, 5, devices.main) as folder:
        again = trained(folder)
        devices.wait()
    return {
        "count": devices.count,
        "gradients": [float(weight.grad.mean()), float(silent.grad.mean())],
        "agreed": devices.agreed(float(devices.rank) + 3.0),
        "first_loss": whole.history[0]["encoded"],
        "whole": digest(whole),
        "again": digest(again),
    }


@pytest.mark.slow
def test_two_processes_take_one_step_and_go_on_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    running = []
    for rank in (0, 1):
        given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        given |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        given |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": Path(__file__).parents[2]}
        env = os.environ | {name: str(value) for name, value in given.items()}
        command = [sys.executable, __file__, str(tmp_path)]
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    first, second = (json.loads(one.communicate(timeout=250)[0].splitlines()[-1]) for one in running)
    assert first["count"] == second["count"] == 2
    assert first["gradients"] == second["gradients"] == [1.5, 0.5]
    assert first["agreed"] == second["agreed"] == 3.0
    assert first["first_loss"] != second["first_loss"], "both drew the same frames"
    assert first["whole"] == second["whole"] == first["again"] == second["again"]
    assert first["whole"] != digest(trained()), "a second process changed nothing"
    with RunFolder(tmp_path, {}, 5) as folder:
        checkpoint, history, _ = folder.newest()
    one = Trainer(neighbour().made_data(), np.arange(5), ("top",), STAGES, 0)
    one.restore(replace(checkpoint, state=checkpoint.state | {"stage": 2, "step": 3}), history)
    with pytest.raises(ModelRefused, match="expected 1 processes as now, found 2 then"):
        one.run(Budget(steps=20))


def test_precision_is_of_the_convolutions_alone() -> None:
    torch.set_num_threads(1)
    low, full = (trained(stages=replace(STAGES, precision=precision)) for precision in ("bf16", "no"))
    assert all(value.dtype == torch.float32 for value in low.model.parameters())
    difference = abs(low.history[0]["encoded"] - full.history[0]["encoded"])
    assert 0.0 < difference < 0.05 * full.history[0]["encoded"]
    with pytest.raises(ValueError, match="unknown precision 'fp8'; valid: auto, bf16, no"):
        Devices("cpu", "fp8")


@pytest.mark.parametrize("has, chosen", [(True, "bf16"), (False, "no")])
def test_bfloat16_is_chosen_where_the_machine_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, has: bool, chosen: str
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: has)
    assert devices.chosen_precision("auto", "cpu") == chosen
    assert devices.chosen_precision("bf16", "cpu") == "bf16"


class TestWhatPredictionsAreHeldAgainst:
    """One stride ahead of images that come every second row."""

    def windows(self, **options: object) -> list[tuple[int, tuple[int, ...]]]:
        """(ticks of the window, ticks of its targets) of some steps of the last stage."""
        one = Trainer(neighbour().made_data(), np.arange(5), ("top",), replace(STAGES, **options), 0)
        found = []
        real = one.losses.total

        def total(model, latent, window, targets, ticks):
            found.append((window.actions.shape[1], tuple(ticks[0].tolist())))
            assert window.positions.shape[1] == window.actions.shape[1] + 1
            return real(model, latent, window, targets, ticks)

        one.losses.total = total
        one.run(Budget(steps=60))
        return found[-18:]

    def test_every_image_unless_asked(self) -> None:
        assert set(self.windows()) == {(8, (2, 4, 6, 8))}

    def test_strides_on_from_predictions(self) -> None:
        """1 moves up to 2, the next tick with an image."""
        assert set(self.windows(strides=(1, 4))) == {(8, (2, 4, 6, 8)), (8, (4, 8))}

    def test_strides_each_from_an_image(self) -> None:
        assert set(self.windows(strides=(1, 4), autoregressive=False)) == {(2, (2,)), (4, (4,))}

    def test_a_stride_beyond_the_window_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"strides: expected at most 8 ticks, got \(1, 16\)"):
            self.windows(strides=(1, 16))

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"strides": (0,)}, "strides: expected ticks of at least 1"),
            ({"priority": 1.5}, "priority: expected a share from 0 to 1, got 1.5"),
            ({"imagined": 1.0}, "imagined: expected a share from 0 to 1, got 1.0"),
            ({"imagined": float("nan")}, "imagined: expected a share"),
        ],
    )
    def test_options_out_of_range_are_refused(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TrainConfig(**options)


if __name__ == "__main__":
    print(json.dumps(take_part(Path(sys.argv[1]))))
