"""A small untrained model, exported once: what the files are is the same as for a trained one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from wm_vla_ros.robots.proprio import proprio_names
from wm_vla_ros.robots.spec import RobotSpec

GROUNDED = ("tip.x", "tip.y", "tip.z", "red_cube.x", "red_cube.y", "red_cube.z")


@pytest.fixture(scope="session")
def torch_model(spec: RobotSpec):
    """A LatentDynamics module with random weights."""
    torch = pytest.importorskip("torch")
    from wm_vla_ros.world_models.latent_dynamics import LatentDynamics
    from wm_vla_ros.world_models.modules import ModelConfig

    torch.manual_seed(1)
    torch.set_num_threads(1)
    config = ModelConfig(
        cameras=(("front", 32, 40),),
        proprio_dim=len(proprio_names(spec)),
        action_dim=7,
        grounding_dim=len(GROUNDED),
        latent_dim=16,
        hidden=32,
        channels=8,
        keypoints=4,
    )
    model = LatentDynamics(config)
    # A residual of the size that training gives, so that errors would show.
    torch.nn.init.normal_(model.dynamics.out.weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def exported(torch_model, spec: RobotSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder. Shared: copy it before changing anything (`folder`)."""
    from wm_vla_ros.world_models.export import Provenance, export

    out = tmp_path_factory.mktemp("models") / "small_model"
    provenance = Provenance(("none",), "Apache-2.0", "a test")
    export(torch_model, out, spec, proprio_names(spec), GROUNDED, provenance)
    return out


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the model's folder that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "small_model"))
