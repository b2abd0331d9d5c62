"""Reproduce Tables 1 to 3 and Figures 1, 2, 5 and 6 of the paper.

    python examples/paper OUT --cocoa DIR --d2sa DIR
    python examples/paper OUT --cocoa DIR --only table2 --results AmodalMask VAL TRAIN
    python examples/paper OUT --smoke

Every step keeps its result in OUT. Stop the program at any time and start it again with the same arguments: finished
steps are skipped, and training continues from its last checkpoint.
"""

import argparse
import sys
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import data
import figures
import ordering
import tables
import training
from plan import NETWORKS, RELEASED, SMOKE, TITLES, TRAINED, Effort, Plan, Released
from steps import GOALS, Step, Workspace

import amodal_data as ad
from amodal_data.errors import AmodalError
from amodal_data.evaluation.results.mask_pictures import is_mask_folder
from amodal_data.io.files import sole_writer

PREDICTION_BYTES = 100 * 5 * 28 * 28 * 2
"""Size of the predictions of an image: level probabilities of 100 instances."""


def targets(plan: Plan) -> list[Step]:
    """Generate data if asked, build the targets, and time the trainings."""
    goals = {"cocoa": ("table1", "table2", "figures"), "d2sa": ("table3", "figures")}
    steps = [Step("generate", GOALS, partial(data.generate, plan))] if plan.smoke else []
    for dataset in plan.folders:
        for split in ("train", "val"):
            work = partial(data.build_targets, plan, dataset, split)
            steps.append(Step(f"targets-{dataset}-{split}", goals[dataset], work))
    steps += [Step(f"estimate-{kind}-{dataset}", _goals(kind, dataset), partial(training.estimate, plan, kind, dataset))
              for dataset in plan.folders for kind in TRAINED[dataset]]  # fmt: skip
    return [*steps, Step("estimate-order", ("table2",), partial(ordering.estimate, plan))]


def _goals(kind: str, dataset: str) -> tuple[str, ...]:
    """Return the goals that need the predictions of a network."""
    if dataset == "d2sa":
        return ("table3", "figures") if kind == "sln" else ("table3",)
    return {"sln": ("table1", "table2", "figures"), "arcnn": ("table1", "figures")}.get(kind, ("table1",))


def work(plan: Plan) -> list[Step]:
    """Train, predict, evaluate and draw, in this order."""
    steps = []
    if "cocoa" in plan.folders:  # first, so that a file that cannot be read is known before training
        steps += [Step(f"evaluate-{name}-cocoa", ("table1", "table2"), partial(evaluate, plan, name, "cocoa"))
                  for name in plan.released]  # fmt: skip
    for dataset in plan.folders:
        for kind in TRAINED[dataset]:
            name, goals = f"{kind}-{dataset}", _goals(kind, dataset)
            steps.append(Step(f"train-{name}", goals, partial(training.train, plan, kind, dataset)))
            steps.append(Step(f"predict-{name}", goals, partial(training.predict, plan, kind, dataset, "val")))
            steps.append(Step(f"evaluate-{name}", goals, partial(evaluate, plan, kind, dataset)))
    steps += order_steps(plan) if "cocoa" in plan.folders else []
    steps += [Step(f"figures-{dataset}", ("figures",), partial(figures.draw_figures, plan, dataset))
              for dataset in plan.folders]  # fmt: skip
    return steps


def order_steps(plan: Plan) -> list[Step]:
    """Return the steps of Table 2: OrderNet on the true maps first, since others may use it."""
    goals = ("table2",)
    steps = {
        "predict-truth-cocoa": partial(data.write_truth, plan),
        "evaluate-truth-cocoa": partial(evaluate, plan, "truth", "cocoa"),
        "predict-sln-cocoa-train": partial(training.predict, plan, "sln", "cocoa", "train"),
    }
    for column in reversed(ordering.columns(plan)):
        steps[f"order-{column.key}"] = partial(ordering.train_and_score, plan, column)
    return [Step(name, goals, action) for name, action in steps.items()]


def evaluate(plan: Plan, name: str, dataset: str) -> dict[str, object]:
    """Score a network, released results or the true maps by amodal AP and AR, on COCOA also by depth order."""
    released = plan.released.get(name)
    path = plan.predictions(name, dataset) if released is None else released.val
    protocols = ("amodal", "order") if dataset == "cocoa" else ("amodal",)
    reports = ad.evaluate_all(plan.cache(dataset, "val"), {name: path}, protocols).reports
    figures = {"amodal": reports["amodal"].figures["subsets"]}
    return figures | ({"order": reports["order"].figures["methods"]} if "order" in reports else {})


def print_estimate(plan: Plan, goals: Collection[str]) -> None:
    """Print how long the steps that are not finished take on this machine, and how much memory they need."""
    workspace = plan.workspace
    rows: list[tuple[str, float, str]] = []
    for dataset in plan.folders:
        for kind in TRAINED[dataset]:
            trial = workspace.result(f"estimate-{kind}-{dataset}")
            if trial is None or workspace.result(f"train-{kind}-{dataset}") or goals.isdisjoint(_goals(kind, dataset)):
                continue
            memory = "" if trial["memory_gib"] is None else f", {trial['memory_gib']:.1f} GiB of GPU memory"
            rows.append((f"{NETWORKS[kind]} on {TITLES[dataset]}", trial["hours"] / plan.gpus, memory))
    left = [c for c in ordering.columns(plan) if workspace.result(f"order-{c.key}") is None]
    if "table2" in goals and left and (trial := workspace.result("estimate-order")):
        hours = trial["hours"] * sum(c.val is None or c.train is not None for c in left)
        rows.append((f"OrderNet on {len(left)} kinds of maps", hours, f", {trial['memory_gib']:.1f} GiB of memory"))
    if not rows:
        return
    print("\nTime left on this machine, measured on two batches of each stage:")
    rows.append(("all", sum(hours for _, hours, _ in rows), ", and about a tenth more to predict and evaluate"))
    for name, hours, note in rows:
        print(f"  {name:<34}{_duration(hours)}{note}")
    counts = [workspace.result(f"targets-{name}-{split}") for name in plan.folders for split in ("train", "val")]
    size = sum(result["images"] for result in counts if result) * PREDICTION_BYTES / 2**30
    print(f"  {'predictions':<34}up to {size:.1f} GiB of disk, about twice as much memory for OrderNet\n", flush=True)


def _duration(hours: float) -> str:
    return f"{max(1, round(60 * hours))} min" if hours < 2 else f"{hours:.1f} h"


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Return what the arguments ask for."""
    out = arguments.out
    effort = SMOKE if arguments.smoke else Effort()
    given = {name: getattr(arguments, name) for name in ("steps", "batch", "pairs", "scenes")}
    effort = replace(effort, **{name: value for name, value in given.items() if value is not None})
    folders = {name: getattr(arguments, name) for name in TITLES if getattr(arguments, name) is not None}
    released = {}
    for name, *files in arguments.results:
        if name not in RELEASED or len(files) not in (1, 2):
            raise SystemExit(f"--results takes {', '.join(RELEASED)}, then results on validation (and training) images")
        released[name] = Released(*map(Path, files))
        if missing := [file for file in files if not Path(file).exists() and not is_mask_folder(file)]:
            raise SystemExit(f"no such file or folder: {missing[0]}")
    if arguments.smoke:
        if folders or released:
            raise SystemExit("--smoke generates its data: leave out --cocoa, --d2sa and --results")
        generated = out / "generated"
        folders = {name: generated / name for name in TITLES}
        released = {"AmodalMask": Released(generated / "AmodalMask-val", generated / "AmodalMask-train"),
                    "SharpMask": Released(generated / "SharpMask-val")}  # fmt: skip
    if not folders:
        raise SystemExit("no data: pass --cocoa DIR, --d2sa DIR, or --smoke")
    extras = {"weights": arguments.weights, "device": arguments.device, "gpus": arguments.gpus}
    return Plan(Workspace(out), folders, effort, arguments.smoke, released, **extras)


def main(arguments: argparse.Namespace) -> None:
    """Run the steps that the goals need, and write the tables."""
    plan = make_plan(arguments)
    needs = {"table1": "cocoa", "table2": "cocoa", "table3": "d2sa"}
    goals = {goal for goal in arguments.only or GOALS if needs.get(goal, "") in ("", *plan.folders)}
    for goal in sorted({*(arguments.only or GOALS)} - goals):
        print(f"{goal} is left out: pass --{needs[goal]} DIR")
    with sole_writer(plan.workspace.path(".lock"), f"the folder {plan.workspace.out.name}"):
        plan.workspace.settle(plan.settings())
        plan.workspace.run(targets(plan), goals)
        print_estimate(plan, goals)
        plan.workspace.run(work(plan), goals)
        print(tables.write_tables(plan, sorted(goals)))
    print(*(sorted(map(str, [*plan.workspace.out.glob("tables.*"), *plan.workspace.out.glob("figures/*")]))), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python examples/paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--cocoa", type=Path, metavar="DIR", help="folder of COCOA's annotations and images")
    parser.add_argument("--d2sa", type=Path, metavar="DIR", help="folder of D2SA's annotations and images")
    parser.add_argument("--results", nargs="+", action="append", default=[], metavar=("NAME", "FILE"),
                        help="released results of AmodalMask, SharpMask or ExpandMask: a results file or a folder of "
                        "masks of the validation images, then perhaps of the training images; repeatable")  # fmt: skip
    parser.add_argument("--weights", type=Path, metavar="FILE",
                        help="torchvision's Mask R-CNN with ResNet-50 for SLN to start from [downloaded]")  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=GOALS, metavar="NAME", help=f"{', '.join(GOALS)} [all]")
    parser.add_argument("--steps", type=int, metavar="N", help="training steps of each network [40,000]")
    parser.add_argument("--batch", type=int, metavar="N", help="images in a step [2]")
    parser.add_argument("--pairs", type=int, metavar="N", help="pairs that each OrderNet trains on [36,000]")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="train the networks on N GPUs with torchrun")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 [auto]")
    parser.add_argument("--smoke", action="store_true", help="all steps on generated data, in minutes on a CPU")
    parser.add_argument("--scenes", type=int, metavar="N", help="--smoke: generated training images [96]")
    try:
        main(parser.parse_args())
    except AmodalError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print("stopped; start it again with the same arguments to continue", file=sys.stderr)
        raise SystemExit(130) from None
