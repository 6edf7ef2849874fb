"""`wm-vla eval`: what the trained stack can do, with its uncertainty."""

from __future__ import annotations

from typing import Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.commands.augment import augment
from wm_vla_ros.commands.delivery import (
    DataFlag,
    EpisodesFlag,
    HtmlFlag,
    PngFlag,
    WorldModelsFlag,
    deliver,
)
from wm_vla_ros.config import defaults
from wm_vla_ros.report import emit

app = typer.Typer(help="Measure tasks and models.", no_args_is_help=True)
app.command("augment")(augment)


@app.command("tasks")
def tasks(
    task: Annotated[str, typer.Option(help="reach or push.")] = "reach",
    seeds: Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")] = "1000:1100",
    robot: Annotated[str, typer.Option(help="Robot of config/robots.")] = defaults().robot,
    policy: Annotated[str, typer.Option(help="LeRobot policy: name in models/, folder, or hub id.")] = (
        defaults().policy
    ),
    world_model: Annotated[str, typer.Option(help="World model: name in models/ or folder.")] = (
        defaults().world_model
    ),
    vla_latency: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Seconds that an inference takes.")
    ] = 0.1,
    observation_delay: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Seconds from camera to loop.")
    ] = (0.01),
    drift: Annotated[float, typer.Option(min=0.0, max=0.5, help="Unmodelled drift of the tool, m/s.")] = 0.0,
    controllers: Annotated[
        str, typer.Option(help="stack, policy_alone, goal_latent; several with a comma.")
    ] = ("stack,policy_alone"),
    planner: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the planner, as weight_value=1; repeat for several."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    json: JsonFlag = False,
) -> None:
    """Run a task over seeds that no training saw: the deployed cores in-process, under virtual time."""
    from wm_vla_ros.progress import bar
    from wm_vla_ros.rig.closed_loop import EvalSettings, evaluate, parse_planner, parse_seeds
    from wm_vla_ros.rig.rig import RigConditions

    names = tuple(controllers.split(","))
    conditions = RigConditions(vla_latency, observation_delay=observation_delay, drift_speed=drift)
    settings = EvalSettings(
        task, parse_seeds(seeds), robot, policy, world_model, conditions, parse_planner(planner or [])
    )
    with bar(f"{task} episodes", len(settings.seeds) * len(names)) as progress:
        report, _ = evaluate(settings, names, workers, progress)
    emit(report, json)


@app.command("imagination")
def imagination(
    world_model: WorldModelsFlag = None,
    data: DataFlag = None,
    episodes: EpisodesFlag = 12,
    windows: Annotated[int, typer.Option(min=10, help="Windows to judge, evenly spread.")] = 2000,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """How far ahead world models see on held-out episodes: against persistence and a linear forecast.

    Error in the latent at 1 to 50 ticks, the horizon from which on persistence is as good, probes, metres,
    and how much of a pushed cube's motion is foreseen.
    """
    from wm_vla_ros.judging.imagination_judge import evaluate
    from wm_vla_ros.progress import bar

    with bar("imagination", 1.0) as update:
        report, draw = evaluate(world_model or [defaults().world_model], data, episodes, windows, update)
    deliver(report, draw, png, html, json)


@app.command("latent")
def latent(
    world_model: WorldModelsFlag = None,
    data: DataFlag = None,
    episodes: EpisodesFlag = 12,
    samples: Annotated[int, typer.Option(min=100, help="Frames to encode, evenly spread.")] = 2000,
    points: Annotated[int, typer.Option(min=20, max=1500, help="Of them, points of the embedding.")] = 1000,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether the world is in the latent: linear probes, effective rank, collapse, and a t-SNE picture."""
    from wm_vla_ros.lab.latent_space import evaluate
    from wm_vla_ros.progress import bar

    with bar("latent", 1.0) as update:
        report, draw = evaluate(
            world_model or [defaults().world_model], data, episodes, samples, points, update
        )
    deliver(report, draw, png, html, json)


@app.command("surprise")
def surprise(
    world_model: WorldModelsFlag = None,
    episodes: Annotated[int, typer.Option(min=3, max=1000, help="Episodes of play to record.")] = 40,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether what physics forbids surprises more than what it allows, beside persistence: AUROC."""
    from wm_vla_ros.lab.surprise import evaluate
    from wm_vla_ros.progress import bar

    with bar("surprise", 1.0) as update:
        report, draw = evaluate(world_model or [defaults().world_model], episodes, update)
    deliver(report, draw, png, html, json)


@app.command("goal-image")
def goal_image(
    world_model: WorldModelsFlag = None,
    seeds: Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")] = "1000:1030",
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether the arm comes to where a picture shows it: by latent distance alone, and by the stack's cost.

    Beside the picture of another scene, and an arm that is not moved. No policy runs.
    """
    from wm_vla_ros.lab.goal_images import evaluate, runs
    from wm_vla_ros.progress import bar
    from wm_vla_ros.rig.closed_loop import parse_seeds

    names, numbers = world_model or [defaults().world_model], parse_seeds(seeds)
    with bar("goal images", len(names) * len(numbers) * runs()) as progress:
        report, draw = evaluate(names, numbers, progress)
    deliver(report, draw, png, html, json)


@app.command("video")
def video(
    world_model: Annotated[
        str, typer.Option(help="World model of family video: name in models/ or folder.")
    ] = "so101_video",
    data: DataFlag = None,
    episodes: EpisodesFlag = 12,
    windows: Annotated[int, typer.Option(min=10, help="Windows to judge, evenly spread.")] = 400,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether the frames that a video model sees coming come, and which actions it reads off between them.

    Beside the present frame, the mean action and the action before; the picture: true frames over imagined.
    """
    from wm_vla_ros.lab.videos import evaluate
    from wm_vla_ros.progress import bar

    with bar("video", 1.0) as update:
        report, draw = evaluate(world_model, data, episodes, windows, update)
    deliver(report, draw, png, html, json)


@app.command("planning-vs-bc")
def planning_vs_bc(
    types: Annotated[
        str, typer.Option(help="Comma list of reach, push, precise, long, moving.")
    ] = "reach,push,precise,long,moving",
    seeds: Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")] = "1000:1100",
    robot: Annotated[str, typer.Option(help="Robot of config/robots.")] = defaults().robot,
    policy: Annotated[str, typer.Option(help="LeRobot policy: name in models/, folder, or hub id.")] = (
        defaults().policy
    ),
    world_model: Annotated[str, typer.Option(help="World model: name in models/ or folder.")] = (
        defaults().world_model
    ),
    vla_latency: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Seconds that an inference takes.")
    ] = 0.1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether planning with the world model beats the policy alone, by type of task, on the same seeds.

    The policy alone runs open loop (bc), and with temporal ensembling (bc_ensemble). precise: a push with
    half the tolerance. long: touch one cube, then push another. moving: reach a cube that travels at 30 mm/s.
    """
    from wm_vla_ros.baselines.planning_vs_bc import Contest, evaluate
    from wm_vla_ros.progress import bar
    from wm_vla_ros.rig.closed_loop import parse_seeds
    from wm_vla_ros.rig.rig import RigConditions

    rig = RigConditions(vla_latency)
    contest = Contest(tuple(types.split(",")), parse_seeds(seeds), robot, policy, world_model, rig)
    with bar("planning against imitation", 1.0) as update:
        report, draw = evaluate(contest, workers, update)
    deliver(report, draw, png, html, json)


@app.command("policies")
def policies(
    world_model: WorldModelsFlag = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Policy: name or folder, with a fault as POLICY@FAULT=SIZE. Four or more."),
    ] = None,
    tasks: Annotated[str, typer.Option(help="Comma list of reach, push.")] = "reach,push",
    seeds: Annotated[str, typer.Option(help="FIRST:LAST (end excluded), or a comma list.")] = "1000:1050",
    data: DataFlag = None,
    episodes: EpisodesFlag = 12,
    starts: Annotated[int, typer.Option(min=10, help="Observations of each task to imagine from.")] = 200,
    vla_latency: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="Seconds that an inference takes.")
    ] = 0.1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether world models rank policies as the simulator does: Spearman's correlation.

    Without --policy: the default policy and eight of its like with faults (gain, bias, noise, deaf).
    """
    from wm_vla_ros.lab.policy_judge import Ranking, evaluate, graded
    from wm_vla_ros.progress import bar
    from wm_vla_ros.rig.closed_loop import parse_seeds

    names = tuple(policy) if policy else graded(defaults().policy)
    what = Ranking(names, tuple(tasks.split(",")), parse_seeds(seeds), starts, vla_latency)
    with bar("ranking policies", 1.0) as update:
        report, draw = evaluate(
            world_model or [defaults().world_model], what, data, episodes, workers, update
        )
    deliver(report, draw, png, html, json)


@app.command("success-prediction")
def success_prediction(
    world_model: WorldModelsFlag = None,
    policy: Annotated[str, typer.Option(help="LeRobot policy: name in models/, folder, or hub id.")] = (
        defaults().policy
    ),
    tasks: Annotated[str, typer.Option(help="Comma list of reach, push.")] = "reach,push",
    trials: Annotated[int, typer.Option(min=40, max=10_000, help="Trials of each task.")] = 300,
    png: PngFlag = None,
    html: HtmlFlag = None,
    json: JsonFlag = False,
) -> None:
    """Whether world models foresee if a chunk will do the task, before moving: AUROC, Brier, calibration.

    Trials start midway in unseen scenes; the policy and its like with faults take turns.
    """
    from wm_vla_ros.lab.success_prediction import evaluate
    from wm_vla_ros.progress import bar

    names = tuple(tasks.split(","))
    with bar("success prediction", 1.0) as update:
        report, draw = evaluate(world_model or [defaults().world_model], policy, names, trials, update)
    deliver(report, draw, png, html, json)
