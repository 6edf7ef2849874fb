"""World model families by name. Imports no torch until a family's class is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wm_vla_ros.world_models.manifest import ModelRefused

if TYPE_CHECKING:
    from wm_vla_ros.world_models.family import LatentWorldModel

# A family is a module of this package, and its torch model in it; every one exports to the same runtimes.
FAMILIES = {
    "latent_dynamics": "LatentDynamics",
    "implicit": "Implicit",
    "jepa": "Jepa",
    "rssm": "RssmWorldModel",
    "mdn_rnn": "MdnRnn",
    "video": "Video",
}


def family_class(name: str) -> type[LatentWorldModel]:
    """The torch model of a family, to train or to run in torch; imports torch.

    Raises ModelRefused for an unknown name, listing the known.
    """
    check_family(name)
    return getattr(import_module(f"{__package__}.{name}"), FAMILIES[name])


def check_family(name: str) -> None:
    """Raises ModelRefused for a name that is none, listing the known."""
    if name not in FAMILIES:
        raise ModelRefused(f"family: expected one of {', '.join(FAMILIES)}, found {name!r}")
