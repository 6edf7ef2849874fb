"""What holds for every family: it trains alike, exports to the same runtimes, and stays among its latents."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros import world_models
from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.families import FAMILIES, family_class
from wm_vla_ros.world_models.frame_decoder import FrameDecoder
from wm_vla_ros.world_models.manifest import ModelRefused, read_files, read_manifest
from wm_vla_ros.world_models.registry import find

torch = pytest.importorskip("torch")

from wm_vla_ros.world_models import implicit, jepa  # noqa: E402
from wm_vla_ros.world_models.modules import Dynamics, ModelConfig  # noqa: E402

GROUNDED = ("tip.x", "tip.y", "tip.z", "red_cube.x", "red_cube.y", "red_cube.z")
TASKS = ("touch the cube", "play")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def model_of(family: str, spec: RobotSpec):
    """A small model with random weights, whose residual is large enough for an error to show."""
    torch.manual_seed(1)
    config = ModelConfig(
        cameras=(("front", 32, 40),),
        proprio_dim=len(proprio_names(spec)),
        action_dim=7,
        grounding_dim=len(GROUNDED),
        latent_dim=16,
        hidden=32,
        channels=8,
        keypoints=4,
        tasks=TASKS,
        tip=(0, 1, 2),
        objects=((3, 4, 5),),
    )
    model = family_class(family)(config)
    if isinstance(model.dynamics, Dynamics):
        torch.nn.init.normal_(model.dynamics.out.weight, std=0.3)
    if model.dynamics.touches:
        torch.nn.init.normal_(model.dynamics.contact.out.weight, std=0.3)
    model.dynamics.look(*model.grounding.folded())
    return model.eval()


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def pair(request, spec: RobotSpec, tmp_path_factory: pytest.TempPathFactory):
    """(torch model, its folder) of one family."""
    from wm_vla_ros.world_models.export import Provenance, export

    model = model_of(request.param, spec)
    out = tmp_path_factory.mktemp("families") / f"small_{request.param}"
    export(model, out, spec, proprio_names(spec), GROUNDED, Provenance(("none",), "Apache-2.0", "a test"))
    return model, out


def latents_of(model, count: int):
    """(count, D) latents that the encoder makes of random images and states."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 32, 40, 3), dtype=np.uint8))
    with torch.no_grad():
        return model.encoder([images], torch.from_numpy(rng.normal(size=(count, 18)).astype(np.float32)))


def test_the_registry_names_what_the_class_is_called(spec: RobotSpec) -> None:
    assert {name: family_class(name).family for name in FAMILIES} == {name: name for name in FAMILIES}
    with pytest.raises(ModelRefused, match="family: expected one of latent_dynamics, .*, found 'nothing'"):
        family_class("nothing")


def test_families_that_reconstruct_export_what_draws_their_latents(pair) -> None:
    model, folder = pair
    manifest = read_manifest(folder)
    decoder = FrameDecoder.of(manifest, read_files(folder, manifest))
    if model.family not in ("rssm", "mdn_rnn", "video"):
        assert decoder is None
        return
    latents = latents_of(model, 5)
    with torch.no_grad():
        if model.family == "video":
            expected = model.decoder(latents)
        else:
            features = latents if model.family == "rssm" else model.dynamics.split(latents)[1]
            expected = model.decoder(features)[0]
    drawn = decoder.draw(latents.numpy())
    assert (decoder.camera, drawn.shape[1:3]) == ("front", decoder.size)
    assert decoder.size == ((32, 40) if model.family == "video" else (8, 10))
    assert np.abs(drawn - 255.0 * expected.clamp(0, 1).numpy()).max() <= 0.51


@pytest.mark.parametrize("family", ["rssm", "mdn_rnn"])
def test_a_decoder_that_was_never_trained_is_not_exported(family: str, spec: RobotSpec) -> None:
    model = model_of(family, spec)
    model.own = replace(model.own, reconstruction=0.0)
    assert model.graphs() == {}


def test_a_shipped_model_without_a_decoder_has_none() -> None:
    manifest = read_manifest(find("so101_rssm"))
    assert FrameDecoder.of(manifest, read_files(find("so101_rssm"), manifest)) is None


def test_exported_model_imagines_what_torch_does(pair, spec: RobotSpec) -> None:
    model, folder = pair
    latents = latents_of(model, 6)
    actions = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (6, 10, 7)).astype(np.float32))
    with torch.no_grad():
        expected = model.dynamics.rollout(latents, actions).numpy()
        metres = model.grounding(latents).numpy()
    for runtime in ("onnx", "torch"):
        loaded = world_models.load(folder, robot=spec, runtime=runtime)
        assert loaded.manifest.family == model.family
        np.testing.assert_allclose(loaded.rollout(latents.numpy(), actions.numpy()), expected, atol=1e-4)
    np.testing.assert_allclose(loaded.ground(latents.numpy()), metres, atol=1e-5)
    np.testing.assert_allclose(
        loaded.predict(latents.numpy(), actions[:, 0].numpy()), expected[:, 0], atol=1e-4
    )


def test_without_change_a_tick_is_exact(pair) -> None:
    """The encoder's latents are among those that dynamics keeps: no rollout begins with a jump."""
    model, _ = pair
    if not isinstance(model.dynamics, Dynamics):
        pytest.skip(f"a tick of {model.family} is no change of its latent")
    latents = latents_of(model, 5)
    kept = model.dynamics.settle(latents, torch.zeros_like(latents))
    torch.testing.assert_close(kept, latents, atol=1e-4, rtol=1e-4)


def test_bfloat16_is_a_precision_of_every_family(pair) -> None:
    from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

    model, folder = pair
    manifest = world_models.manifest.read_manifest(folder)
    contents = world_models.manifest.read_files(folder, manifest)
    latents = latents_of(model, 8).numpy()
    actions = np.random.default_rng(1).uniform(-1, 1, (8, 10, 7)).astype(np.float32)
    exact, low = (
        TorchWorldModel(manifest, contents, bfloat16=bfloat16).rollout(latents, actions)
        for bfloat16 in (False, True)
    )
    assert 1e-5 < np.abs(exact - low).max() < 0.2


class TestImplicit:
    def test_simnorm_is_a_softmax_of_every_group(self) -> None:
        logits = torch.randn(5, 32)
        bounded = implicit.LOGIT * torch.tanh(logits / implicit.LOGIT)
        softmax = bounded.unflatten(-1, (-1, implicit.GROUP)).softmax(-1).flatten(-2)
        torch.testing.assert_close(implicit.simnorm(logits), implicit.SCALE * softmax)

    def test_no_logit_overflows(self) -> None:
        latent = implicit.simnorm(torch.tensor([[1e30, -1e30] * 8]))
        assert torch.isfinite(latent).all()
        assert float(latent.min()) > 0.0

    def test_dynamics_adds_to_the_logarithm(self, spec: RobotSpec) -> None:
        latent, change = implicit.simnorm(torch.randn(4, 16)), 0.5 * torch.randn(4, 16)
        expected = (latent.log() + change).unflatten(-1, (-1, implicit.GROUP)).softmax(-1).flatten(-2)
        found = model_of("implicit", spec).dynamics.settle(latent, change)
        torch.testing.assert_close(found, implicit.SCALE * expected)

    def test_values_of_the_shipped_model_are_read_as_they_were_learned(self) -> None:
        """Its bins are even in symlog, and a value is symexp of their mean: other bins make other numbers."""
        from wm_vla_ros.world_models.onnx_runtime import WEIGHTS_FILE
        from wm_vla_ros.world_models.tensors import read_float32, read_metadata

        content = (find("so101_implicit") / WEIGHTS_FILE).read_bytes()
        tasks = tuple(json.loads(read_metadata(content, "weights")["tasks"]))
        tensors = {name: torch.from_numpy(v.copy()) for name, v in read_float32(content, "weights").items()}
        proprio, grounding = len(tensors["encoder.proprio_mean"]), len(tensors["grounding.mean"])
        model = implicit.Implicit(ModelConfig((("front", 96, 96),), proprio, 7, grounding, tasks=tasks))
        model.load_state_dict(tensors)
        latents = implicit.simnorm(torch.randn(5, 128, generator=torch.Generator().manual_seed(0)))
        asked = torch.arange(5) % len(tasks)
        bins = torch.linspace(-0.2, 4.8, 64)
        with torch.no_grad():
            logits = model.value(latents, asked)
            found = model.values(latents, asked)
        symlog = logits.softmax(-1) @ bins
        assert torch.equal(found, symlog.sign() * torch.expm1(symlog.abs()))
        assert found.std() > 0.0

    def test_a_ranking_of_what_never_varies_is_no_number(self, spec: RobotSpec) -> None:
        """scipy warned of it; the figure was NaN all along."""
        model, count = model_of("implicit", spec), 6
        known = {
            "demonstration": torch.ones(count, dtype=torch.bool),
            "task": torch.zeros(count, dtype=torch.long),
            "success": torch.zeros(count),
            "return": torch.zeros(count),
            "expert_action": torch.randn(count, 7),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = model.held_out(latents_of(model, count), known, np.zeros(count, np.int64))
        assert np.isnan([found["value.spearman"], found["value.spearman_before"]]).all()
        assert found["policy.ratio_mean"] > 0.0

    def test_return_is_the_discounted_success_that_lasts(self) -> None:
        """Two episodes; the first succeeds at its third row and is cut off there, the second never."""
        success = np.array([False, False, True, False, False])
        found = implicit.discounted_returns(success, np.array([0, 3, 5]), 0.9)
        np.testing.assert_allclose(found, [8.1, 9.0, 10.0, 0.0, 0.0], rtol=1e-6)

    def test_latents_that_do_not_divide_are_refused(self, spec: RobotSpec) -> None:
        config = replace(model_of("implicit", spec).config, latent_dim=20)
        with pytest.raises(ValueError, match="latent_dim: expected a multiple of 8, got 20"):
            implicit.Implicit(config)

    def test_the_policy_shapes_no_latent(self, spec: RobotSpec) -> None:
        model = model_of("implicit", spec)
        latents = latents_of(model, 6).requires_grad_()
        known = {
            "demonstration": torch.ones(6, 1, dtype=torch.bool),
            "task": torch.zeros(6, 1, dtype=torch.long),
            "success": torch.ones(6, 1),
            "return": torch.ones(6, 1),
            "expert_action": torch.ones(6, 1, 7),
        }
        from wm_vla_ros.world_models.family import Window

        window = Window(torch.zeros(6, 0, 7), torch.zeros(6, 1, 6), known)
        terms = model.window_terms(latents, torch.zeros(6, 0, 16), window)
        terms["policy"].backward()
        assert latents.grad is None
        terms["value"].backward()
        assert float(latents.grad.abs().max()) > 0.0

    def test_weights_name_their_tasks(self, spec: RobotSpec) -> None:
        assert model_of("implicit", spec).metadata() == {"tasks": '["touch the cube", "play"]'}


class TestVicReg:
    def test_variance_is_a_hinge_at_one(self) -> None:
        spread = torch.randn(4000, 3)
        spread = (spread - spread.mean(0)) / spread.std(0)
        assert float(jepa.variance(2.0 * spread)) == 0.0
        assert float(jepa.variance(0.25 * spread)) == pytest.approx(0.75, abs=1e-3)
        assert float(jepa.variance(torch.zeros(10, 3))) == pytest.approx(0.99, abs=1e-6)

    def test_covariance_counts_what_dimensions_share(self) -> None:
        one = torch.randn(4000, 1)
        one = (one - one.mean()) / one.std()
        assert float(jepa.covariance(one.expand(-1, 4))) == pytest.approx(3.0, rel=1e-3)
        assert float(jepa.covariance(torch.randn(4000, 4))) < 0.02

    def test_metres_shape_the_latent_only_where_asked(self, spec: RobotSpec) -> None:
        model = model_of("jepa", spec)
        latents = torch.randn(3, 16, requires_grad=True)
        for grounded in (True, False):
            model.own = jepa.JepaOptions(grounded=grounded)
            assert model.readable(latents).requires_grad is grounded


def test_families_add_no_import_of_torch_to_the_registry(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from wm_vla_ros.world_models import FAMILIES; assert 'torch' not in sys.modules, 1"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
