"""`wm-vla train`: the models that ship in models/, from a recorded dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wm_vla_ros.commands import JsonFlag
from wm_vla_ros.config import defaults
from wm_vla_ros.report import emit
from wm_vla_ros.world_models import FAMILIES

app = typer.Typer(help="Train the models from recorded episodes.", no_args_is_help=True)

Datasets = Annotated[list[Path], typer.Option("--dataset", help="LeRobotDataset folder; repeat for several.")]
Output = Annotated[Path, typer.Option(help="Folder to write the model to.")]


@app.command("world-model")
def world_model(
    dataset: Annotated[
        list[Path] | None, typer.Option("--dataset", help="LeRobotDataset folder; repeat for several.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write the model to; the run goes beside it, to OUTPUT.run.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder of an interrupted training to go on with; takes no other.")
    ] = None,
    family: Annotated[str, typer.Option(help=f"Family: {', '.join(FAMILIES)}.")] = "latent_dynamics",
    minutes: Annotated[float | None, typer.Option(help="Train for so long; default 15.", min=0.01)] = None,
    steps: Annotated[int | None, typer.Option(help="Train so many steps: reproducible.", min=3)] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    cameras: Annotated[
        str | None, typer.Option(help="Cameras to look at, separated by commas, or none; default: all.")
    ] = None,
    vision_from: Annotated[
        str | None, typer.Option(help="World model whose trained vision to go on from: name or folder.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="World model of the family to go on from: its encoder stays, dynamics train on."),
    ] = None,
    thaw: Annotated[bool, typer.Option("--thaw", help="With --start-from: the encoder trains too.")] = False,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Frozen vision for jepa: a world model, a vision model's folder or hub id, or "
            "ARCHITECTURE:FILE.safetensors of torchvision."
        ),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 200,
    strides: Annotated[
        str, typer.Option(help="Ticks ahead to hold predictions against, e.g. 4,16; default: every image.")
    ] = "",
    teacher_forcing: Annotated[
        bool, typer.Option("--teacher-forcing", help="Begin each stride from an image, not a prediction.")
    ] = False,
    priority: Annotated[
        float, typer.Option(help="Draw windows by error to this power; 0: uniformly.", min=0.0, max=1.0)
    ] = 0.0,
    imagined: Annotated[
        float, typer.Option(help="Share of imagined windows in the last stage.", min=0.0, max=0.9)
    ] = 0.0,
    precision: Annotated[str, typer.Option(help="Of the convolutions: bf16, no, or auto.")] = "auto",
    json: JsonFlag = False,
) -> None:
    """Train and export the world model of the fast loop, and report its imagination on held-out episodes.

    Killed at any moment it loses at most the steps since its last checkpoint: --resume OUTPUT.run goes on.
    """
    from wm_vla_ros.progress import bar
    from wm_vla_ros.training import world_model_training
    from wm_vla_ros.training.train_config import TrainConfig

    if resume is not None and (dataset or output is not None):
        raise typer.BadParameter("--resume takes data, output and options from the run folder")
    if resume is None and (not dataset or output is None):
        raise typer.BadParameter("give --dataset and --output, or --resume")
    if steps is None and minutes is None:
        minutes = 15.0
    with bar("training", 1.0) as update:
        if resume is not None:
            report = world_model_training.resume(resume, update)
        else:
            training = world_model_training.WorldModelTraining(
                family=family,
                steps=steps,
                minutes=minutes,
                seed=seed,
                threads=threads,
                device=device,
                cameras=_names(cameras),
                vision_from=vision_from,
                start_from=start_from,
                thaw=thaw,
                backbone=backbone,
                stages=TrainConfig(
                    strides=_ticks(strides),
                    autoregressive=not teacher_forcing,
                    priority=priority,
                    imagined=imagined,
                    precision=precision,
                ),
                checkpoint_every=checkpoint_every,
            )
            assert dataset
            assert output is not None
            report = world_model_training.train(dataset, output, training, update)
    if report is not None:  # one process of several writes
        emit(report, json)


def _names(text: str | None) -> tuple[str, ...] | None:
    """Cameras: None for all, () for "none"."""
    if text is None:
        return None
    return () if text == "none" else tuple(text.split(","))


def _ticks(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError as error:
        raise typer.BadParameter(f"--strides: expected whole numbers like 1,4,16, got {text!r}") from error


@app.command("policy")
def policy(
    dataset: Datasets,
    output: Output,
    minutes: Annotated[float | None, typer.Option(help="Train for so long; default 15.", min=0.01)] = None,
    steps: Annotated[int | None, typer.Option(help="Train so many steps: reproducible.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    cameras: Annotated[str, typer.Option(help="Cameras to look at, separated by commas.")] = "front",
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=1e-6, max=1.0)] = 1e-3,
    start_from: Annotated[
        Path | None, typer.Option(help="Policy to go on from: name in models/ or folder.")
    ] = None,
    scenes: Annotated[
        list[Path] | None,
        typer.Option(help="LeRobotDataset that is only looked at, such as of glances; repeat for several."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Train the policy of the slow loop on demonstrations, by behaviour cloning."""
    from wm_vla_ros.progress import bar
    from wm_vla_ros.training.policy_training import PolicyTraining, train

    if steps is None and minutes is None:
        minutes = 15.0
    training = PolicyTraining(
        steps=steps,
        minutes=minutes,
        seed=seed,
        threads=threads,
        device=device,
        cameras=tuple(cameras.split(",")),
        learning_rate=learning_rate,
    )
    with bar("training", 1.0) as update:
        report = train(dataset, output, training, start_from, update, scenes or ())
    emit(report, json)


@app.command("heads")
def heads(
    dataset: Datasets,
    output: Output,
    world_model: Annotated[
        str, typer.Option(help="World model, by name or folder.")
    ] = defaults().world_model,
    steps: Annotated[int, typer.Option(help="Steps of training for each head.", min=3)] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    json: JsonFlag = False,
) -> None:
    """Train temporal distance and expected error on a frozen world model, and write it with them.

    What they reach on held-out episodes is reported beside what needs no learning.
    """
    from wm_vla_ros.progress import bar
    from wm_vla_ros.training.head_training import HeadsTraining, train

    training = HeadsTraining(steps=steps, seed=seed, threads=threads)
    with bar("training", 1.0) as update:
        report = train(dataset, world_model, output, training, update)
    emit(report, json)


@app.command("goal-encoder")
def goal_encoder(
    dataset: Datasets,
    output: Output,
    world_model: Annotated[
        str, typer.Option(help="World model, by name or folder.")
    ] = defaults().world_model,
    vision_from: Annotated[
        str | None,
        typer.Option(help="World model whose vision to go on from; without it, the model's own."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of training.", min=1)] = 1200,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    json: JsonFlag = False,
) -> None:
    """Train what lets a frozen world model take an image for a goal, and write it with the model.

    An image has no proprioception; the encoder learns which latent it belongs to, and how much it tells.
    """
    from wm_vla_ros.progress import bar
    from wm_vla_ros.training.goal_encoder_training import GoalEncoderTraining, train

    training = GoalEncoderTraining(steps=steps, seed=seed, threads=threads, vision_from=vision_from)
    with bar("training", 1.0) as update:
        report = train(dataset, world_model, output, training, update)
    emit(report, json)


@app.command("actor-critic")
def actor_critic(
    dataset: Datasets,
    output: Output,
    world_model: Annotated[
        str, typer.Option(help="World model, by name or folder.")
    ] = defaults().world_model,
    steps: Annotated[int, typer.Option(help="Updates of actor and critic.", min=3)] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of weights, dreams and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    json: JsonFlag = False,
) -> None:
    """Train an actor and a critic in a frozen world model's imagination, and write it with them.

    The actor goes from any frame to any later one; what it gets on held-out episodes is reported beside
    standing still, the recorded actions and imitation.
    """
    from wm_vla_ros.lab.actor_critic_training import ActorCriticTraining, train
    from wm_vla_ros.progress import bar

    training = ActorCriticTraining(steps=steps, seed=seed, threads=threads)
    with bar("training", 1.0) as update:
        report = train(dataset, world_model, output, training, update)
    emit(report, json)


@app.command("policy-head")
def policy_head(
    dataset: Datasets,
    output: Output,
    policy: Annotated[
        str, typer.Option(help="Policy to start from: name in models/ or folder.")
    ] = defaults().policy,
    world_model: Annotated[
        str, typer.Option(help="World model to imagine in, by name or folder.")
    ] = defaults().world_model,
    steps: Annotated[int, typer.Option(help="Steps of training.", min=1)] = 1000,
    goal: Annotated[
        str,
        typer.Option(help="Latents to be near: path, the demonstration's of every tick, or end, its last."),
    ] = "path",
    proximal: Annotated[
        float, typer.Option(help="Weight of deviating from what the policy said before.", min=0.0)
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of order and split.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    json: JsonFlag = False,
) -> None:
    """Fine-tune the head of a trained policy in a frozen world model's imagination, and write the policy.

    Its chunks are imagined from recorded frames and paid for being near the latents that successful
    demonstrations came to. What it gets on held-out episodes is reported before and after, beside the
    recorded actions and standing still.
    """
    from wm_vla_ros.lab.policy_head_training import PolicyHeadTraining, train
    from wm_vla_ros.progress import bar

    training = PolicyHeadTraining(steps=steps, seed=seed, threads=threads, goal=goal, proximal=proximal)
    with bar("training", 1.0) as update:
        report = train(dataset, policy, world_model, output, training, update)
    emit(report, json)
