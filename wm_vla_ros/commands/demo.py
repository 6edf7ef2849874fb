"""`wm-vla demo`: the whole stack on a simulated arm, three instructions, a film and a table."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wm_vla_ros.bringup.options import with_stack_options
from wm_vla_ros.bringup.stack import stack_kind
from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.config import defaults

KIND = stack_kind("sim")
# Scenes that no training saw.
FIRST_SEED = 2000


def command(
    output: Annotated[Path, typer.Option(help="Folder for film, picture and log.")] = Path("outputs/demo"),
    json: JsonFlag = False,
    **chosen: Any,
) -> None:
    """Bring the stack up and give it two reaches and a push.

    Exit code 0 only if the stack held 50 Hz and at least two of the three instructions were done, as the
    simulator sees it. The film shows the front camera, rendered again at 640x480 from the recorded joints
    and objects, with the path that the planner imagined.
    """
    from wm_vla_ros.bringup.session import keep_to_ourselves, running
    from wm_vla_ros.demo.display import Display
    from wm_vla_ros.demo.film import write_video
    from wm_vla_ros.demo.loop_plot import plot_loop
    from wm_vla_ros.demo.run import Truth, demo_figures, legs, run_legs, stopwatch
    from wm_vla_ros.recording import TimeSpan
    from wm_vla_ros.report import Figure, Report, conditions, emit
    from wm_vla_ros.robots.spec import load_robot

    elapsed = stopwatch()
    os.environ.setdefault("MUJOCO_GL", "egl")
    seed = chosen.pop("seed", None)
    plan = legs(FIRST_SEED if seed is None else seed)
    spec = load_robot(chosen.get("robot") or defaults().robot)
    output.mkdir(parents=True, exist_ok=True)
    domain = keep_to_ourselves()
    truth = Truth(spec)
    with (output / "stack.log").open("w", buffering=1) as log, Display(plan) as display:
        display.say(f"starting the stack on ROS_DOMAIN_ID {domain}, log in {log.name}")
        with running(KIND.build(**chosen), lambda line: print(line, file=log)) as (runner, client):
            from wm_vla_ros.bringup.recorder import StackRecorder

            recorder = StackRecorder(client, spec, world=True, on_moment=truth.on_moment)
            results = run_legs(client, recorder.recording, truth, plan, display.show)
            died = [ended.text for ended in runner.poll()]
        display.say("rendering the film")
        recording = recorder.recording
        frames = write_video(output / "demo.mp4", spec, recording, results)
    span = TimeSpan(results[0].span.start, results[-1].span.end)
    plot_loop(output / "loop.png", recording, span, [(r.leg.instruction, r.span) for r in results])
    figures, passed = demo_figures(recording, results, spec.dt)
    figures = (*figures, Figure("demo.frames", frames), Figure("demo.seconds", elapsed(), "s"))
    where = {
        "instructions": {result.leg.instruction: result.outcome for result in results},
        "seeds": [leg.seed for leg in plan],
        "film": output / "demo.mp4",
        "picture": output / "loop.png",
        "truth": "the simulator's joints and objects",
        "died": died,
    }
    emit(Report("demo", {**where, **conditions()}, figures), json)
    if not passed or died:
        sys.exit(1)


# Each instruction brings its own scene, and 50 Hz means real time.
command = with_stack_options(command, KIND, without=("layout_for", "speed", "use_sim_time", "rate"))
