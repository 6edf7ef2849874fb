"""`wm-vla eval`: what the trained stack can do, with its uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import (
    DemonstrationsOption,
    EpisodesOption,
    HeldOutOption,
    HtmlOption,
    JsonFlag,
    LatencyOption,
    PngOption,
    PolicyOption,
    RobotOption,
    SeedsOption,
    TasksOption,
    TimesOption,
    WorkersOption,
    WorldModelOption,
    WorldModelsOption,
)
from wm_vla_ros.config import defaults
from wm_vla_ros.delivery import deliver
from wm_vla_ros.progress import bar
from wm_vla_ros.report import emit

_DEFAULTS = defaults()
app = typer.Typer(help="Measure tasks and models.", no_args_is_help=True)


@app.command("tasks")
def tasks(
    task: Annotated[str, typer.Option(help="reach or push.")] = "reach",
    seeds: SeedsOption = "1000:1100",
    robot: RobotOption = _DEFAULTS.robot,
    policy: PolicyOption = _DEFAULTS.policy,
    world_model: WorldModelOption = _DEFAULTS.world_model,
    vla_latency: LatencyOption = 0.1,
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
    workers: WorkersOption = 2,
    json: JsonFlag = False,
) -> None:
    """Run a task over seeds that no training saw: the deployed cores in-process, under virtual time."""
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
    world_model: WorldModelsOption = None,
    data: HeldOutOption = None,
    episodes: EpisodesOption = 12,
    windows: Annotated[int, typer.Option(min=10, help="Windows to judge, evenly spread.")] = 2000,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """How far ahead world models see on held-out episodes: against persistence and a linear forecast.

    Error in the latent at 1 to 50 ticks, the horizon from which on persistence is as good, probes, metres,
    and how much of a pushed cube's motion is foreseen.
    """
    from wm_vla_ros.judging.imagination_judge import evaluate

    with bar("imagination", 1.0) as update:
        report, draw = evaluate(world_model or [_DEFAULTS.world_model], data, episodes, windows, update)
    deliver(report, draw, png, html, json)


@app.command("latent")
def latent(
    world_model: WorldModelsOption = None,
    data: HeldOutOption = None,
    episodes: EpisodesOption = 12,
    samples: Annotated[int, typer.Option(min=100, help="Frames to encode, evenly spread.")] = 2000,
    points: Annotated[int, typer.Option(min=20, max=1500, help="Of them, points of the embedding.")] = 1000,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether the world is in the latent: linear probes, effective rank, collapse, and a t-SNE picture."""
    from wm_vla_ros.lab.latent_space import evaluate

    with bar("latent", 1.0) as update:
        report, draw = evaluate(
            world_model or [_DEFAULTS.world_model], data, episodes, samples, points, update
        )
    deliver(report, draw, png, html, json)


@app.command("surprise")
def surprise(
    world_model: WorldModelsOption = None,
    episodes: Annotated[int, typer.Option(min=3, max=1000, help="Episodes of play to record.")] = 40,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether what physics forbids surprises more than what it allows, beside persistence: AUROC."""
    from wm_vla_ros.lab.surprise import evaluate

    with bar("surprise", 1.0) as update:
        report, draw = evaluate(world_model or [_DEFAULTS.world_model], episodes, update)
    deliver(report, draw, png, html, json)


@app.command("goal-image")
def goal_image(
    world_model: WorldModelsOption = None,
    seeds: SeedsOption = "1000:1030",
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether the arm comes to where a picture shows it: by latent distance alone, and by the stack's cost.

    Beside the picture of another scene, and an arm that is not moved. No policy runs.
    """
    from wm_vla_ros.lab.goal_images import evaluate, runs
    from wm_vla_ros.rig.closed_loop import parse_seeds

    names, numbers = world_model or [_DEFAULTS.world_model], parse_seeds(seeds)
    with bar("goal images", len(names) * len(numbers) * runs()) as progress:
        report, draw = evaluate(names, numbers, progress)
    deliver(report, draw, png, html, json)


@app.command("video")
def video(
    world_model: Annotated[
        str, typer.Option(help="World model of family video: name in models/ or folder.")
    ] = "so101_video",
    data: HeldOutOption = None,
    episodes: EpisodesOption = 12,
    windows: Annotated[int, typer.Option(min=10, help="Windows to judge, evenly spread.")] = 400,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether the frames that a video model sees coming come, and which actions it reads off between them.

    Beside the present frame, the mean action and the action before; the picture: true frames over imagined.
    """
    from wm_vla_ros.lab.videos import evaluate

    with bar("video", 1.0) as update:
        report, draw = evaluate(world_model, data, episodes, windows, update)
    deliver(report, draw, png, html, json)


@app.command("planning-vs-bc")
def planning_vs_bc(
    types: Annotated[
        str, typer.Option(help="Comma list of reach, push, precise, long, moving.")
    ] = "reach,push,precise,long,moving",
    seeds: SeedsOption = "1000:1100",
    robot: RobotOption = _DEFAULTS.robot,
    policy: PolicyOption = _DEFAULTS.policy,
    world_model: WorldModelOption = _DEFAULTS.world_model,
    vla_latency: LatencyOption = 0.1,
    workers: WorkersOption = 2,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether planning with the world model beats the policy alone, by type of task, on the same seeds.

    The policy alone runs open loop (bc), and with temporal ensembling (bc_ensemble). precise: a push with
    half the tolerance. long: touch one cube, then push another. moving: reach a cube that travels at 30 mm/s.
    """
    from wm_vla_ros.baselines.planning_vs_bc import Contest, evaluate
    from wm_vla_ros.rig.closed_loop import parse_seeds
    from wm_vla_ros.rig.rig import RigConditions

    rig = RigConditions(vla_latency)
    contest = Contest(tuple(types.split(",")), parse_seeds(seeds), robot, policy, world_model, rig)
    with bar("planning against imitation", 1.0) as update:
        report, draw = evaluate(contest, workers, update)
    deliver(report, draw, png, html, json)


@app.command("policies")
def policies(
    world_model: WorldModelsOption = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Policy: name or folder, with a fault as POLICY@FAULT=SIZE. Four or more."),
    ] = None,
    tasks: TasksOption = "reach,push",
    seeds: SeedsOption = "1000:1050",
    data: HeldOutOption = None,
    episodes: EpisodesOption = 12,
    starts: Annotated[int, typer.Option(min=10, help="Observations of each task to imagine from.")] = 200,
    vla_latency: LatencyOption = 0.1,
    workers: WorkersOption = 2,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether world models rank policies as the simulator does: Spearman's correlation.

    Without --policy: the default policy and eight of its like with faults (gain, bias, noise, deaf).
    """
    from wm_vla_ros.lab.policy_judge import Ranking, evaluate, graded
    from wm_vla_ros.rig.closed_loop import parse_seeds

    names = tuple(policy) if policy else graded(_DEFAULTS.policy)
    what = Ranking(names, tuple(tasks.split(",")), parse_seeds(seeds), starts, vla_latency)
    with bar("ranking policies", 1.0) as update:
        report, draw = evaluate(world_model or [_DEFAULTS.world_model], what, data, episodes, workers, update)
    deliver(report, draw, png, html, json)


@app.command("success-prediction")
def success_prediction(
    world_model: WorldModelsOption = None,
    policy: PolicyOption = _DEFAULTS.policy,
    tasks: TasksOption = "reach,push",
    trials: Annotated[int, typer.Option(min=40, max=10_000, help="Trials of each task.")] = 300,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether world models foresee if a chunk will do the task, before moving: AUROC, Brier, calibration.

    Trials start midway in unseen scenes; the policy and its like with faults take turns.
    """
    from wm_vla_ros.lab.success_prediction import evaluate

    names = tuple(tasks.split(","))
    with bar("success prediction", 1.0) as update:
        report, draw = evaluate(world_model or [_DEFAULTS.world_model], policy, names, trials, update)
    deliver(report, draw, png, html, json)


@app.command("augment")
def augment(
    dataset: DemonstrationsOption,
    world_model: WorldModelOption = _DEFAULTS.world_model,
    demos: Annotated[str, typer.Option(help="Comma list: how many recorded demonstrations.")] = "10,30,100",
    times: TimesOption = 10,
    seeds: SeedsOption = "1000:1050",
    steps: Annotated[int, typer.Option(help="Steps of gradient of every policy.")] = 3000,
    draws: Annotated[int, typer.Option(help="Draws of demonstrations; seeds take turns at them.")] = 2,
    sets: Annotated[
        Path | None, typer.Option(help="Keep data sets and policies in this folder, not there yet.")
    ] = None,
    workers: WorkersOption = 2,
    png: PngOption = None,
    html: HtmlOption = None,
    json: JsonFlag = False,
) -> None:
    """Whether a policy gains from demonstrations that a world model imagined: success over recorded ones.

    Cloned on the model's latents: from recorded demonstrations, from those with plain noise, and from those
    with imagined ones beside them. All for the same number of steps.
    """
    from tempfile import TemporaryDirectory

    from wm_vla_ros.data.lerobot_writer import refuse_existing
    from wm_vla_ros.lab.augmentation import Augmentation, evaluate, parse_demos
    from wm_vla_ros.rig.closed_loop import parse_seeds

    what = Augmentation(dataset, world_model, parse_demos(demos), times, parse_seeds(seeds), steps, draws)
    if sets is not None:
        refuse_existing(sets)
        sets.mkdir(parents=True)
    with TemporaryDirectory() as folder, bar("augmentation", 1.0) as update:
        report, draw = evaluate(what, sets or Path(folder), workers, update)
    deliver(report, draw, png, html, json)
