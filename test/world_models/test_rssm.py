"""The rssm family: its filter, its spread, and that both kinds of latent are one contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.manifest import ModelRefused, read_files, read_manifest

torch = pytest.importorskip("torch")

from wm_vla_ros.world_models.family import Window  # noqa: E402
from wm_vla_ros.world_models.latent_beliefs import Categorical, Gaussian  # noqa: E402
from wm_vla_ros.world_models.modules import ModelConfig  # noqa: E402
from wm_vla_ros.world_models.networks import GruCell, lower, remembering  # noqa: E402
from wm_vla_ros.world_models.rssm import RssmOptions, RssmWorldModel  # noqa: E402
from wm_vla_ros.world_models.rssm_config import LATENTS  # noqa: E402

SMALL = {"deterministic": 12, "variables": 6, "classes": 4, "hidden": 16}
GROUNDED = ("tip.x", "tip.y", "tip.z", "red_cube.x", "red_cube.y", "red_cube.z")
BATCH, TICKS = 5, 8


def model_of(latent: str = "gaussian", **changes: Any) -> RssmWorldModel:
    torch.manual_seed(1)
    config = ModelConfig((("front", 32, 40),), 18, 7, 6, hidden=32, channels=8, keypoints=4, tasks=("a", "b"))
    return RssmWorldModel(config, RssmOptions(latent, **{**SMALL, **changes}))


def latents_of(model: RssmWorldModel, count: int = BATCH) -> torch.Tensor:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 32, 40, 3), dtype=np.uint8))
    return model.encoder([images], torch.from_numpy(rng.normal(size=(count, 18)).astype(np.float32)))


def window(model: RssmWorldModel, shift: float = 0.0) -> Window:
    """Frames at ticks 3 and 6, their latents moved by `shift`."""
    rows = (BATCH, TICKS + 1)
    known = {
        "proprio": torch.zeros(*rows, 18),
        "picture.front": torch.full((*rows, 8, 10, 3), 100, dtype=torch.uint8),
        "task": torch.zeros(rows, dtype=torch.long),
        "demonstration": torch.ones(rows, dtype=torch.bool),
        "success": torch.zeros(rows),
        "goes_on": torch.ones(rows),
    }
    later = latents_of(model, 2 * BATCH).detach().view(BATCH, 2, -1) + shift
    ticks = torch.tensor([3, 6]).expand(BATCH, -1)
    return Window(
        torch.full((BATCH, TICKS, 7), 0.1), torch.zeros(*rows, 6), known, later=later, later_ticks=ticks
    )


@pytest.mark.parametrize("latent", LATENTS)
class TestContract:
    def test_every_runtime_imagines_what_torch_does(
        self, latent: str, spec: RobotSpec, tmp_path: Path
    ) -> None:
        from wm_vla_ros.world_models.export import Provenance, export

        model = model_of(latent).eval()
        names = proprio_names(spec)
        export(model, tmp_path / "small", spec, names, GROUNDED, Provenance(("none",), "Apache-2.0", "test"))
        latents = latents_of(model).detach()
        actions = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (BATCH, 10, 7)).astype(np.float32))
        with torch.no_grad():
            expected = model.dynamics.rollout(latents, actions)
            spread = model.dynamics.variance(expected[:, -1], model.grounding.folded()[0]).sqrt()
        assert bool((spread > 0).all())
        for runtime in ("onnx", "torch"):
            loaded = world_models.load(tmp_path / "small", robot=spec, runtime=runtime)
            found = loaded.rollout(latents.numpy(), actions.numpy())
            np.testing.assert_allclose(found, expected, atol=1e-5)
            np.testing.assert_allclose(loaded.spread(found[:, -1]), spread, rtol=1e-3)
            with pytest.raises(ValueError, match=r"latents: expected \(N, "):
                loaded.spread(found)

    def test_an_encoding_is_a_state_of_the_filter(self, latent: str) -> None:
        """h is where a GRU's can be; z is the mean of what the posterior draws from."""
        model = model_of(latent)
        latents = latents_of(model)
        state = model.dynamics.state(latents)
        assert float(state.deterministic.detach().abs().max()) < 1.0
        torch.testing.assert_close(model.first(latents).expectation(), state.stochastic)

    def test_the_filter_believes_the_frames_that_it_looks_at(self, latent: str) -> None:
        """Of the same luck, later frames change states after them, never before, and nothing unlooked-at."""
        for looked, first_change in ((1.0, 3), (0.0, TICKS + 1)):
            model = model_of(latent, looked=looked)
            paths = []
            for shift in (0.0, 0.5):
                torch.manual_seed(3)
                paths.append(model.filter(latents_of(model), window(model, shift)).states)
            same = (paths[0] == paths[1]).all(-1).all(0)
            assert bool(same[:first_change].all())
            assert not bool(same[first_change:].any())

    def test_divergence_is_taken_where_frames_came(self, latent: str) -> None:
        went = model_of(latent).filter(latents_of(model_of(latent)), window(model_of(latent)))
        assert went.came.sum(1).tolist() == [2] * BATCH
        assert went.came[0].nonzero()[:, 0].tolist() == [2, 5]
        assert went.posterior.kl(went.prior).shape == (2 * BATCH,)

    def test_every_weight_that_a_window_trains_gets_a_gradient(self, latent: str) -> None:
        model = model_of(latent)
        latents = latents_of(model)
        sum(model.window_terms(latents, latents[:, None], window(model)).values()).backward()
        idle = [name for name, weight in model.named_parameters() if weight.grad is None]
        assert all(name.startswith("grounding") for name in idle), idle
        assert float(model.encoder.linear.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("latent", LATENTS)
def test_variance_is_that_of_readings_of_samples(latent: str) -> None:
    torch.manual_seed(0)
    if latent == "gaussian":
        belief = Gaussian(torch.randn(6), torch.rand(6) + 0.1)
    else:
        belief = Categorical(torch.randn(3, 4).log_softmax(-1))
    readout = torch.randn(belief.expectation().shape[-1], 2)
    many = type(belief)(*(part.expand(40_000, *part.shape) for part in belief))
    drawn = many.sample() @ readout
    torch.testing.assert_close(belief.variance(readout), drawn.var(0), rtol=0.05, atol=0.0)
    torch.testing.assert_close(belief.expectation() @ readout, drawn.mean(0), rtol=0.0, atol=0.05)


def test_a_window_without_later_frames_is_refused() -> None:
    model = model_of()
    bare = Window(torch.zeros(BATCH, TICKS, 7), torch.zeros(BATCH, TICKS + 1, 6))
    with pytest.raises(ValueError, match="rssm: expected the latents of later frames"):
        model.filter(latents_of(model), bare)


def test_unknown_latent_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of gaussian, categorical, got 'uniform'"):
        model_of("uniform")


def test_weights_that_lack_a_tensor_are_refused_by_name(spec: RobotSpec, tmp_path: Path) -> None:
    from safetensors.numpy import save

    from wm_vla_ros.world_models.export import Provenance, export
    from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE
    from wm_vla_ros.world_models.tensors import read_float32
    from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

    out = tmp_path / "small"
    export(model_of(), out, spec, proprio_names(spec), GROUNDED, Provenance(("none",), "Apache-2.0", "test"))
    manifest = read_manifest(out)
    contents = dict(read_files(out, manifest))
    tensors = read_float32(contents[WEIGHTS_FILE], "weights")
    for missing, words in (
        ("dynamics.core.inputs.0.weight", "expected the tensor dynamics.core.inputs.0.weight, found none"),
        ("dynamics.core.cell.bias_hh", "core.cell.bias_hh"),
    ):
        kept = {name: value for name, value in tensors.items() if name != missing}
        with pytest.raises(ModelRefused, match=words):
            TorchWorldModel(manifest, {**contents, WEIGHTS_FILE: save(kept)})


class TestGruCell:
    def test_lowered_it_is_nearly_the_same(self) -> None:
        torch.manual_seed(0)
        cell = GruCell(6, 10)
        x, state = torch.randn(4, 6), torch.randn(4, 10).tanh()
        with torch.no_grad():
            exact = cell(x, state)
            torch.testing.assert_close(exact, torch.nn.GRUCell.forward(cell, x, state))
            lower(cell, torch.bfloat16)
            low = cell(x, state)
        assert low.dtype == torch.float32
        assert 0.0 < float((low - exact).abs().max()) < 0.02

    def test_remembering_it_changes_less_in_a_tick(self) -> None:
        torch.manual_seed(0)
        cell = GruCell(6, 10)
        x, state = torch.randn(50, 6), torch.randn(50, 10).tanh()
        with torch.no_grad():
            moved = (cell(x, state) - state).norm()
            assert (remembering(cell, 3.0)(x, state) - state).norm() < 0.5 * moved
