"""Frozen vision of every kind, small and made here: what it shows is used, and never changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.manifest import ModelRefused

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is imported: nothing here is fetched
torch = pytest.importorskip("torch")

from wm_vla_ros.world_models.backbones import UNSTATED, Backbone, open_backbone  # noqa: E402
from wm_vla_ros.world_models.jepa import FrozenEncoder, Jepa, JepaOptions, lifted, standardised  # noqa: E402
from wm_vla_ros.world_models.modules import ModelConfig  # noqa: E402

IMAGE = (32, 40)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 of two layers with random weights, as its folder would lie on a disk."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("backbones") / "tiny_dinov2"
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=42, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    transformers.BitImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.25]).save_pretrained(
        folder
    )
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA toy.\n")
    return folder


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torchvision = pytest.importorskip("torchvision")
    from safetensors.torch import save_file

    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(0)
    model = torchvision.models.shufflenet_v2_x0_5(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model(torch.randn(8, 3, 64, 64))  # statistics, without which random features hardly vary
    save_file(model.state_dict(), file)
    return file


def picture(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 256, (1, *IMAGE, 3), dtype=np.uint8))


class TestOpening:
    def test_a_vision_transformer_from_a_folder(self, vit: Path) -> None:
        """Its last hidden state without the class token, pooled, at its own size and scale."""
        transformers = pytest.importorskip("transformers")
        backbone = open_backbone(str(vit), IMAGE)
        assert backbone.features == 24 * 3 * 3
        assert backbone.licence == "apache-2.0"
        image = picture(np.random.default_rng(0))
        pixels = (
            image.permute(0, 3, 1, 2) / 255 - torch.tensor([0.4, 0.5, 0.6])[:, None, None]
        ) / torch.tensor([0.2, 0.2, 0.25])[:, None, None]
        pixels = torch.nn.functional.interpolate(pixels, (42, 42), mode="bilinear", align_corners=False)
        with torch.no_grad():
            state = transformers.Dinov2Model.from_pretrained(vit)(pixels).last_hidden_state[:, 1:]
            expected = state.transpose(1, 2).flatten(1)
            torch.testing.assert_close(backbone(image), expected, atol=1e-4, rtol=1e-4)

    def test_a_torchvision_architecture_with_its_weights(self, convolutions: Path) -> None:
        backbone = open_backbone(f"shufflenet_v2_x0_5:{convolutions}", IMAGE)
        assert backbone.licence == UNSTATED
        image = picture(np.random.default_rng(0))
        assert backbone(image).shape == (1, backbone.features)
        assert not any(parameter.requires_grad for parameter in backbone.parameters())

    def test_a_shipped_world_model(self) -> None:
        backbone = open_backbone("so101_latent_dynamics", (96, 96))
        assert backbone.features == 128
        assert backbone.licence == "Apache-2.0"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("dinov9", "expected a world model .*so101_latent_dynamics.*a folder or a hub id"),
            ("resnetty:x.safetensors", "unknown torchvision architecture 'resnetty'; valid: .*resnet18"),
            ("resnet18:nowhere.safetensors", "expected a safetensors file, found none at nowhere"),
            ("so101_latent_dynamics", r"expected images of \(96, 96\), found \(32, 40\)"),
        ],
    )
    def test_what_is_not_there_is_named(self, name: str, text: str) -> None:
        with pytest.raises(ModelRefused, match=text):
            open_backbone(name, IMAGE)

    def test_a_pickle_is_refused(self, vit: Path, tmp_path: Path) -> None:
        """Weights that are there as a pickle alone are not loaded."""
        folder = tmp_path / "pickled"
        folder.mkdir()
        for name in ("config.json", "preprocessor_config.json"):
            (folder / name).write_text((vit / name).read_text())
        torch.save(torch.nn.Linear(2, 2).state_dict(), folder / "pytorch_model.bin")
        with pytest.raises(
            ModelRefused, match="expected a vision model with config.json, .* and safetensors"
        ):
            open_backbone(str(folder), IMAGE)

    def test_weights_of_another_architecture_are_refused(self, convolutions: Path) -> None:
        with pytest.raises(ModelRefused, match="small.safetensors does not fit: .*Missing key"):
            open_backbone(f"resnet18:{convolutions}", IMAGE)

    def test_an_architecture_without_a_map_is_refused(self, tmp_path: Path) -> None:
        torchvision = pytest.importorskip("torchvision")
        from safetensors.torch import save_file

        file = tmp_path / "vit.safetensors"
        vision = torchvision.models.VisionTransformer(32, 16, 1, 2, 16, 16)
        save_file(vision.state_dict(), file)
        with pytest.raises(ModelRefused):
            open_backbone(f"vit_b_16:{file}", IMAGE)


def test_pooling_is_the_mean_of_each_cell() -> None:
    """As adaptive pooling has it, also where the cells overlap."""
    backbone = Backbone(torch.nn.AvgPool2d(4), (40, 28), "none", mean=(0.0,) * 3, std=(1.0,) * 3)
    image = torch.randint(0, 256, (2, 40, 28, 3), dtype=torch.uint8)
    wanted = torch.nn.functional.avg_pool2d(image.permute(0, 3, 1, 2) / 255.0, 4)
    wanted = torch.nn.functional.adaptive_avg_pool2d(wanted, 4).flatten(1)
    torch.testing.assert_close(backbone(image), wanted)


class TestLifted:
    def test_is_standardised_and_leaves_what_it_lifts(self) -> None:
        entries = 0.35 * torch.randn(100, 60, generator=torch.Generator().manual_seed(0))
        latents = lifted(entries)
        torch.testing.assert_close(latents[:, :60], entries, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(standardised(latents), latents, atol=1e-4, rtol=1e-4)

    def test_an_outlier_is_scaled_down(self) -> None:
        latents = lifted(torch.full((1, 12), 9.0))
        assert float(latents.square().mean()) == pytest.approx(1.0, abs=1e-3)


class TestFrozenJepa:
    CONFIG = ModelConfig((("front", *IMAGE),), 18, 7, 6, latent_dim=32, hidden=32, tasks=("play",))

    def model(self, vit: Path) -> Jepa:
        torch.manual_seed(1)
        model = Jepa(self.CONFIG, JepaOptions(backbone=str(vit)))
        rng = np.random.default_rng(0)
        model.encoder.fit([[picture(rng)] for _ in range(40)])
        return model.eval()

    def test_nothing_of_the_encoder_is_learned(self, vit: Path) -> None:
        model = self.model(vit)
        assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
        latent = model.encoder([picture(np.random.default_rng(1))], torch.zeros(1, 18))
        assert model.encoded_terms(latent) == {}

    def test_components_hold_the_variance_and_leave_no_more_than_they_must(self, vit: Path) -> None:
        """Their mean square is an eighth over what they were fitted to, and the first has the most of it."""
        model = self.model(vit)
        rng = np.random.default_rng(0)
        seen = torch.cat([model.encoder.see([picture(rng)]) for _ in range(40)])
        assert seen.shape == (40, 10)
        assert float(seen.square().mean()) == pytest.approx(0.125, rel=1e-3)
        variance = seen.var(0)
        assert bool((variance[:-1] >= variance[1:] - 1e-6).all())

    def test_fewer_frames_than_components_are_refused(self, vit: Path) -> None:
        model = Jepa(self.CONFIG, JepaOptions(backbone=str(vit)))
        with pytest.raises(ValueError, match="10 principal components need more frames than that, got 3"):
            model.encoder.fit([[picture(np.random.default_rng(number))] for number in range(3)])

    def test_features_that_do_not_vary_are_refused(self, vit: Path) -> None:
        model = Jepa(self.CONFIG, JepaOptions(backbone=str(vit)))
        with pytest.raises(ValueError, match="10 principal components need .* the backbone has 0 of 216"):
            model.encoder.fit([[torch.zeros(1, *IMAGE, 3, dtype=torch.uint8)] for _ in range(20)])

    def test_too_few_features_are_refused(self, vit: Path) -> None:
        config = ModelConfig((("front", *IMAGE),), 18, 7, 6, latent_dim=512)
        with pytest.raises(ValueError, match="has 216 features: a latent of 512 .* would take 490"):
            FrozenEncoder(config, str(vit))

    @pytest.mark.parametrize("kind", ["vit", "convolutions"])
    def test_exports_like_any_other_and_names_the_licence(
        self, kind: str, vit: Path, convolutions: Path, spec: RobotSpec, tmp_path: Path
    ) -> None:
        from wm_vla_ros import world_models
        from wm_vla_ros.world_models.export import Provenance, export

        name = str(vit) if kind == "vit" else f"shufflenet_v2_x0_5:{convolutions}"
        model = Jepa(self.CONFIG, JepaOptions(backbone=name)).eval()
        rng = np.random.default_rng(0)
        model.encoder.fit([[picture(rng)] for _ in range(40)])
        out = tmp_path / "frozen"
        grounded = ("tip.x", "tip.y", "tip.z", "red_cube.x", "red_cube.y", "red_cube.z")
        provenance = Provenance(("none",), "Apache-2.0", "a test")
        manifest = export(model, out, spec, proprio_names(spec), grounded, provenance)
        last = "tiny_dinov2: apache-2.0" if kind == "vit" else f"small.safetensors: {UNSTATED}"
        assert manifest.licence == f"Apache-2.0; backbone {last}"
        image, state = picture(rng), rng.normal(size=18).astype(np.float32)
        with torch.no_grad():
            expected = model.encoder([image], torch.from_numpy(state[None]))[0].numpy()
        for runtime in ("onnx", "torch"):
            loaded = world_models.load(out, robot=spec, runtime=runtime)
            np.testing.assert_allclose(loaded.encode({"front": image[0].numpy()}, state), expected, atol=1e-3)
        with (out / "weights.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        assert not any(name.startswith("encoder.vision.") for name in header)
        assert "dynamics.out.weight" in header
