"""A model that does not fit is refused, and the refusal says what was expected and what was found."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from wm_vla_ros import world_models
from wm_vla_ros.robots.spec import RobotSpec
from wm_vla_ros.world_models.families import FAMILIES
from wm_vla_ros.world_models.manifest import MANIFEST_NAME, Manifest, ModelRefused, read_manifest

RANGE = {
    "names": [f"a{n}" for n in range(7)],
    "low": [0.0] * 7,
    "high": [1.0] * 7,
    "spread": [0.1] * 7,
}


def edit(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_json_round_trip(exported: Path) -> None:
    manifest = read_manifest(exported)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_right_robot_is_accepted(exported: Path, spec: RobotSpec) -> None:
    model = world_models.load(exported, robot=spec)
    assert model.encoder_id == model.manifest.encoder_id
    assert model.latent_dim == 16


@pytest.mark.parametrize(
    "change, message",
    [
        ({"robot": "so100"}, "robot: expected 'so101' (the robot's), found 'so100'"),
        ({"dt": 0.05}, "dt: expected 0.02 (the robot's), found 0.05"),
        ({"translation_scale": 0.05}, "translation_scale: expected 0.02 (the robot's), found 0.05"),
        ({"rotation_scale": 0.5}, "rotation_scale: expected 0.2 (the robot's), found 0.5"),
        ({"family": "gan"}, f"family: expected one of {', '.join(FAMILIES)}, found 'gan'"),
        ({"format": 2}, "manifest format: expected 1, found 2"),
        ({"latent_dim": 0}, "manifest latent_dim: expected a whole number in 1..65536, found 0"),
        ({"latent_dim": "16"}, "manifest latent_dim: expected a whole number in 1..65536, found '16'"),
        ({"horizon": True}, "manifest horizon: expected a whole number in 1..65536, found True"),
        ({"dt": float("nan")}, "manifest dt: expected a positive number, found nan"),
        ({"dt": "soon"}, "manifest: expected the documented types, found could not convert"),
        ({"action_space": "torque"}, "manifest action_space: expected one of"),
        ({"proprio_names": ["a", "a"]}, "manifest proprio_names: expected distinct names"),
        ({"proprio_names": "abc"}, "manifest: expected the documented types, found proprio_names is not"),
        ({"grounding_names": []}, "manifest grounding_names: expected distinct names, found ()"),
        ({"cameras": {}, "proprio_names": []}, "manifest proprio_names: expected distinct names, found ()"),
        ({"action_space": "recorded"}, "expected with the action space 'recorded' alone, found None"),
        ({"actions": {"names": ["a"]}}, "manifest: expected the documented types, found 'low'"),
        ({"actions": RANGE}, "expected with the action space 'recorded' alone, found RecordedActions"),
        ({"actions": RANGE | {"low": [0.0] * 6}, "action_space": "recorded"}, "expected 7 of low, found 6"),
        (
            {"actions": RANGE | {"high": [-1.0] * 7}, "action_space": "recorded"},
            "manifest actions: expected a range for 'a0', found 0.0..-1.0",
        ),
        (
            {"actions": RANGE, "action_space": "recorded"},
            "action_space: expected 'ee_delta' (the robot's), found 'recorded'",
        ),
        ({"name": "../small"}, "manifest name: expected a plain name, found '../small'"),
        ({"files": {"../encoder.onnx": "0" * 64}}, "expected plain file names, found '../encoder.onnx'"),
        ({"files": {"/encoder.onnx": "0" * 64}}, "expected plain file names, found '/encoder.onnx'"),
        ({"files": {"encoder.onnx": "0"}}, "expected 64 hex digits for encoder.onnx, found '0'"),
        ({"files": {"step.onnx": "0" * 64}}, "manifest files: expected encoder.onnx (the encoder)"),
        ({"encoder_id": "small_model-000000000000"}, "found small_model-000000000000"),
        ({"colour": "red"}, "manifest fields: missing [], unknown ['colour']"),
    ],
)
def test_changed_manifest_is_refused(
    folder: Path, spec: RobotSpec, change: dict[str, object], message: str
) -> None:
    edit(folder, **change)
    with pytest.raises(ModelRefused, match=re.escape(message)):
        world_models.load(folder, robot=spec)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"name": "x"}'])
def test_text_that_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(ModelRefused, match="manifest"):
        world_models.load(folder)


def test_missing_manifest_names_the_available_models(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="unknown world model .*; available: .*"):
        world_models.load(tmp_path)


def test_proprioception_of_another_layout_is_refused(folder: Path, spec: RobotSpec) -> None:
    names = json.loads((folder / MANIFEST_NAME).read_text())["proprio_names"]
    edit(folder, proprio_names=names[::-1])
    with pytest.raises(
        ModelRefused, match=r"proprio_names: expected \('shoulder_pan.position'.*found \('tip"
    ):
        world_models.load(folder, robot=spec)


def test_goal_of_another_encoder_is_refused(exported: Path) -> None:
    own = read_manifest(exported).encoder_id
    assert world_models.load(exported, encoder_id=own).encoder_id == own
    with pytest.raises(ModelRefused, match=f"encoder_id: expected other-1, found {own}"):
        world_models.load(exported, encoder_id="other-1")


def test_goal_of_another_dimension_is_refused(exported: Path) -> None:
    with pytest.raises(ModelRefused, match="latent_dim: expected 128, found 16"):
        world_models.load(exported, latent_dim=128)


def test_dimension_that_the_files_do_not_have_is_refused(folder: Path) -> None:
    """A manifest can be consistent in itself and still lie about its files."""
    edit(folder, latent_dim=24)
    with pytest.raises(ModelRefused, match=re.escape("weight: expected shape (24, 6), found (16, 6)")):
        world_models.load(folder)


def test_action_dimension_that_the_files_do_not_have_is_refused(folder: Path) -> None:
    edit(folder, action_dim=6)
    with pytest.raises(ModelRefused, match="expected inputs of shape .*6.*found .*7"):
        world_models.load(folder)


def test_image_size_that_the_files_do_not_have_is_refused(folder: Path) -> None:
    edit(folder, cameras={"front": [96, 96]})
    with pytest.raises(ModelRefused, match=r"encoder.onnx: expected inputs of shape \[\[1, 96, 96, 3\]"):
        world_models.load(folder)


def test_manifest_is_frozen(exported: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_manifest(exported).robot = "other"  # type: ignore[misc]
