"""The robot's MuJoCo model, made from its URDF: one geometry for kinematics, collision checks and physics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wm_vla_ros.robots.spec import RobotSpec

if TYPE_CHECKING:
    import mujoco

TABLE = "table"


def robot_mjspec(spec: RobotSpec) -> mujoco.MjSpec:
    """An editable model of the arm on its table, with one position actuator per joint, in joint order.

    The table is a plane geom called "table" on the world body at the spec's height.
    """
    import mujoco

    model = mujoco.MjSpec.from_file(str(spec.urdf))
    for name in spec.joint_names:
        joint = model.joint(name)
        if joint is None:
            raise ValueError(f"{spec.urdf.name} has no joint {name!r}")
        joint.armature = spec.simulation.armature
        actuator = model.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=spec.simulation.kp, kv=spec.simulation.kv)
        actuator.ctrlrange = joint.range
        actuator.ctrllimited = True
        actuator.forcerange = [-spec.simulation.force_limit, spec.simulation.force_limit]
        actuator.forcelimited = True
    model.worldbody.add_geom(
        name=TABLE,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.6, 0.6, 0.05],
        pos=[0.0, 0.0, spec.table_height],
        rgba=[0.87, 0.85, 0.81, 1.0],
    )
    return model
