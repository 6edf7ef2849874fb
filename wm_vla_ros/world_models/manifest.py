"""What a world model folder says about itself, and the refusals when it does not fit.

A folder holds `manifest.json` and the files it names, each with its sha256. Nothing is loaded that the
manifest does not name, and nothing whose bytes differ from what it says.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wm_vla_ros.files import write_whole
from wm_vla_ros.types import ACTION_SPACES, EE_DELTA

if TYPE_CHECKING:
    from wm_vla_ros.robots.spec import RobotSpec

MANIFEST_NAME = "manifest.json"
# Actions as the data set has them, of a robot that is not described here.
RECORDED = "recorded"
FORMAT = 1
# Larger than any model of this kind, small enough that a wrong file cannot fill the memory.
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_MANIFEST_BYTES = 1024 * 1024
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class ModelRefused(ValueError):
    """A model that must not be used as it is; the text names what was expected and what was found."""


def is_plain_name(name: str) -> bool:
    """Whether `name` names a file or folder in place: no separator, no leading dot, nothing to escape by."""
    return _PLAIN_NAME.match(name) is not None


def sha256_of(content: bytes) -> str:
    """Hex digest of the bytes."""
    return hashlib.sha256(content).hexdigest()


def encoder_id_of(name: str, encoder_sha256: str) -> str:
    """The identity of a latent space: the model's name and the first 12 digits of its encoder's sha256.

    Two encoders never share one, so a goal or a latent of another encoder is told apart by this alone.
    """
    return f"{name}-{encoder_sha256[:12]}"


@dataclass(frozen=True, slots=True)
class RecordedActions:
    """The actions of a data set in its own units: their names, and least, greatest and deviation of each."""

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    spread: tuple[float, ...]

    def check(self, action_dim: int) -> None:
        """Raises ModelRefused unless there is one of each for every action, finite and in order."""
        for name in ("names", "low", "high", "spread"):
            if len(getattr(self, name)) != action_dim:
                found = len(getattr(self, name))
                raise ModelRefused(f"manifest actions: expected {action_dim} of {name}, found {found}")
        for name, low, high, spread in zip(self.names, self.low, self.high, self.spread, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low <= high and 0 <= spread < math.inf):
                told = f"{low}..{high}, deviation {spread}"
                raise ModelRefused(f"manifest actions: expected a range for {name!r}, found {told}")


@dataclass(frozen=True, slots=True)
class RecordedRobot:
    """A robot of which nothing is known but its recordings. dt: s per row."""

    name: str
    dt: float
    actions: RecordedActions


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of manifest.json.

    files: file name -> sha256 (hex). cameras: name -> (height, width) pixels; may be none where there is
    proprioception, and the other way round. dt: s. translation_scale: m and rotation_scale: rad per tick at
    |action| = 1, as the model was trained with. actions: what an action is in the space "recorded", where
    both scales are 1; None in the others. grounding_names: what is read from a latent: metres in the base
    frame for "tip.x" and the like, otherwise what the data set calls so, in its own units.
    """

    name: str
    family: str
    robot: str
    latent_dim: int
    action_dim: int
    action_space: str
    translation_scale: float
    rotation_scale: float
    dt: float
    proprio_names: tuple[str, ...]
    cameras: dict[str, tuple[int, int]]
    grounding_names: tuple[str, ...]
    horizon: int
    encoder_id: str
    encoder_file: str
    files: dict[str, str]
    dataset: tuple[str, ...]
    licence: str
    command: str
    version: str
    format: int = FORMAT
    actions: RecordedActions | None = None

    def __post_init__(self) -> None:
        """Raises ModelRefused when a field cannot describe a usable model."""
        if self.format != FORMAT:
            raise ModelRefused(f"manifest format: expected {FORMAT}, found {self.format!r}")
        for name in ("name", "family", "robot", "encoder_id", "encoder_file"):
            value = getattr(self, name)
            if not isinstance(value, str) or not is_plain_name(value):
                raise ModelRefused(f"manifest {name}: expected a plain name, found {value!r}")
        for name in ("latent_dim", "action_dim", "horizon"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65536:
                raise ModelRefused(f"manifest {name}: expected a whole number in 1..65536, found {value!r}")
        for name in ("dt", "translation_scale", "rotation_scale"):
            value = getattr(self, name)
            if not isinstance(value, float) or not (math.isfinite(value) and value > 0):
                raise ModelRefused(f"manifest {name}: expected a positive number, found {value!r}")
        spaces = (*ACTION_SPACES, RECORDED)
        if self.action_space not in spaces:
            found = self.action_space
            raise ModelRefused(f"manifest action_space: expected one of {spaces}, found {found!r}")
        if (self.action_space == RECORDED) != (self.actions is not None):
            raise ModelRefused(
                f"manifest actions: expected with the action space {RECORDED!r} alone, "
                f"found {self.actions!r} with {self.action_space!r}"
            )
        if self.actions is not None:
            self.actions.check(self.action_dim)
        for name in ("proprio_names", "grounding_names"):
            names = getattr(self, name)
            empty = not names and not (name == "proprio_names" and self.cameras)
            if empty or len(set(names)) != len(names) or not all(isinstance(n, str) for n in names):
                raise ModelRefused(f"manifest {name}: expected distinct names, found {names!r}")
        for file, digest in self.files.items():
            if not is_plain_name(file):
                raise ModelRefused(f"manifest files: expected plain file names, found {file!r}")
            if not isinstance(digest, str) or not _SHA256.match(digest):
                raise ModelRefused(f"manifest files: expected 64 hex digits for {file}, found {digest!r}")
        if self.encoder_file not in self.files:
            raise ModelRefused(f"manifest files: expected {self.encoder_file} (the encoder), found none")
        expected = encoder_id_of(self.name, self.files[self.encoder_file])
        if self.encoder_id != expected:
            raise ModelRefused(
                f"encoder_id: expected {expected} for {self.encoder_file}, found {self.encoder_id}"
            )

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse manifest.json. Raises ModelRefused on anything that is not a complete, valid manifest."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise ModelRefused(f"manifest: expected JSON, found {error}") from error
        if not isinstance(raw, dict):
            raise ModelRefused(f"manifest: expected a JSON object, found {type(raw).__name__}")
        expected = {entry.name for entry in fields(cls)}
        if set(raw) | {"actions"} != expected:
            missing, unknown = sorted(expected - set(raw) - {"actions"}), sorted(set(raw) - expected)
            raise ModelRefused(f"manifest fields: missing {missing}, unknown {unknown}")
        try:
            for name in ("proprio_names", "grounding_names", "dataset"):
                if not isinstance(raw[name], list):
                    raise TypeError(f"{name} is not a list")
                raw[name] = tuple(raw[name])
            raw["cameras"] = {str(k): (int(v[0]), int(v[1])) for k, v in raw["cameras"].items()}
            raw["files"] = dict(raw["files"])
            for name in ("dt", "translation_scale", "rotation_scale"):
                raw[name] = float(raw[name])
            if raw.get("actions") is not None:
                own = {name: tuple(values) for name, values in raw["actions"].items()}
                numbers = {name: tuple(map(float, own[name])) for name in ("low", "high", "spread")}
                raw["actions"] = RecordedActions(**(own | numbers))
        except (TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            raise ModelRefused(f"manifest: expected the documented types, found {error}") from error
        return cls(**raw)

    def to_json(self) -> str:
        """The text of manifest.json."""
        told = asdict(self)
        if self.actions is None:
            del told["actions"]
        return json.dumps(told, indent=2) + "\n"

    def check_robot(self, robot: RobotSpec) -> None:
        """Refuse unless this model was made for `robot`.

        Compares the name, the action convention's scales and tick, and the proprioception's layout: a
        model of the same robot under other scales would predict smoothly and wrongly.
        """
        from wm_vla_ros.robots.proprio import proprio_names

        found: dict[str, object] = {
            "robot": robot.name,
            "action_space": EE_DELTA,
            "dt": robot.dt,
            "translation_scale": robot.translation_scale,
            "rotation_scale": robot.rotation_scale,
            "proprio_names": proprio_names(robot),
        }
        for name, value in found.items():
            own = getattr(self, name)
            same = math.isclose(own, value) if isinstance(value, float) else own == value
            if not same:
                raise ModelRefused(f"{name}: expected {value!r} (the robot's), found {own!r} in {self.name}")

    def check_dimensions(self, latent_dim: int | None = None, action_dim: int | None = None) -> None:
        """Refuse unless the dimensions are the given ones (None: any)."""
        for name, expected in (("latent_dim", latent_dim), ("action_dim", action_dim)):
            if expected is not None and getattr(self, name) != expected:
                raise ModelRefused(f"{name}: expected {expected}, found {getattr(self, name)} in {self.name}")

    def check_encoder(self, encoder_id: str) -> None:
        """Refuse unless latents of `encoder_id` are latents of this model."""
        if self.encoder_id != encoder_id:
            raise ModelRefused(f"encoder_id: expected {encoder_id}, found {self.encoder_id} in {self.name}")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder. Raises ModelRefused when it is missing, oversized or invalid."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ModelRefused(f"{folder.name}: expected {MANIFEST_NAME} in {folder}, found none")
    content = _read_bounded(path, MAX_MANIFEST_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelRefused(f"manifest: expected UTF-8 text, found {error}") from error
    return Manifest.from_json(text)


def read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The bytes of every file the manifest names, each checked against its sha256.

    The bytes that were checked are the bytes that are used: nothing is read a second time.
    Raises ModelRefused on a missing, oversized or altered file, or one that lies outside the folder.
    """
    contents = {}
    root = folder.resolve()
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ModelRefused(f"{manifest.name}: expected file {name}, found none in {folder}")
        if path.resolve().parent != root:
            raise ModelRefused(f"{manifest.name}: expected {name} inside {root}, found {path.resolve()}")
        content = _read_bounded(path, MAX_FILE_BYTES)
        found = sha256_of(content)
        if found != digest:
            raise ModelRefused(f"{manifest.name}: sha256 of {name}: expected {digest}, found {found}")
        contents[name] = content
    return contents


def write_model(folder: Path, contents: dict[str, bytes], manifest: Manifest) -> None:
    """Write the files and, last, the manifest: a folder cut short in the middle is refused, not half used."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for name in manifest.files:
        (folder / name).write_bytes(contents[name])
    write_whole(folder / MANIFEST_NAME, manifest.to_json().encode())


def write_with(out: Path, folder: Path, manifest: Manifest, name: str, content: bytes) -> Manifest:
    """Write the model of `folder` to `out` with one file more, or another one of that name; its manifest.

    Everything else is the model's own, byte by byte: its latents stay its latents. Raises as `read_files`.
    """
    contents = {**read_files(folder, manifest), name: content}
    manifest = replace(manifest, files={**manifest.files, name: sha256_of(content)})
    write_model(out, contents, manifest)
    return manifest


def check_new(out: Path) -> None:
    """Raises ModelRefused unless `out` has a plain name, FileExistsError when it holds a model already."""
    if not is_plain_name(out.name):
        raise ModelRefused(f"world model: expected a folder with a plain name, found {out.name!r}")
    if (out / MANIFEST_NAME).exists():
        raise FileExistsError(f"{out} holds a model already; a model is never overwritten: give another path")


def _read_bounded(path: Path, limit: int) -> bytes:
    size = path.stat().st_size
    if size > limit:
        raise ModelRefused(f"{path.name}: expected at most {limit} bytes, found {size}")
    return path.read_bytes()
