"""``sln predict``, ``evaluate``, ``export``, ``bench`` and ``doctor``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal_cli.shared.options import Device, Force, Images, Json, Quiet
from amodal_cli.shared.terminal import check_output, counted, left_behind, print_json, progress, say
from amodal_cli.sln_commands.fit import FileOption, PresetOption, SetOption, photo_folders, preset_name

if TYPE_CHECKING:
    from sln.config import Config
    from sln.config import Preset as PresetName
    from sln.inference.folder import PredictReport


class Exported(StrEnum):
    """The forms that a network is exported in."""

    safetensors = "safetensors"
    torch = "torch"
    onnx = "onnx"


_DRAWN = 6
_LISTED = 5
"""Findings that are printed one by one"""
_WRITTEN = {
    "coco": ("predictions.json", "predictions.npz"),
    "html": ("predictions.html",),
    "png": ("overlays",),
    "npy": ("sem_dist",),
}

Photos = Annotated[list[Path], typer.Argument(exists=True, help="Photos, or folders of them.")]
Folder = Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder to write to.")]
Saved = Annotated[
    str, typer.Option("--save", help="Of coco (results), png (overlays), npy (sem-dist maps), html (a page).")
]
Model = Annotated[Path, typer.Argument(exists=True, help="A checkpoint, exported safetensors, or a run directory.")]


def predict(
    model: Model,
    inputs: Photos,
    out: Folder,
    save: Saved = "coco,png",
    least: Annotated[
        float, typer.Option("--min-score", min=0, max=1, help="Lowest score written (pictures: .5).")
    ] = 0.05,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict photos: COCO results with visible masks and levels, overlays, sem-dist maps."""
    kinds = _kinds(save)
    from sln import load
    from sln.inference.folder import predict_photos

    photos = _photos(inputs, out, kinds, force=force, quiet=quiet)
    predictor = load(model, device)
    with progress("predicting", len(photos), quiet=quiet) as advance:
        report = predict_photos(predictor, photos, out, kinds, least=least, on_photo=advance)
    _tell("sln/predict/1", report, len(photos), out, as_json=as_json)


def _kinds(save: str) -> list[str]:
    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    if not kinds:
        raise typer.BadParameter("--save names nothing to write")
    if unknown := [kind for kind in kinds if kind not in _WRITTEN]:
        raise typer.BadParameter(f"--save takes coco, png, npy and html, found {', '.join(unknown)}")
    return kinds


def _photos(inputs: list[Path], out: Path, kinds: list[str], *, force: bool, quiet: bool) -> tuple[Path, ...]:
    """The photos to look at, and a folder where nothing will be overwritten."""
    from sln.inference.folder import find_inputs

    photos = find_inputs(inputs)
    out.mkdir(parents=True, exist_ok=True)
    for kind, names in _WRITTEN.items():
        for name in names if kind in kinds else ():
            check_output(out / name, force=force)
    if photos.left_out:
        first = ", ".join(path.name for path in photos.left_out[:3])
        say(f"left out, no photos by their names: {counted(len(photos.left_out), 'file')} ({first})", quiet=quiet)
    return photos.paths


def _tell(schema: str, report: "PredictReport", photos: int, out: Path, *, as_json: bool) -> None:
    """What was written, and what could not be used: exit 1 then."""
    for problem in report.problems:
        say(f"warning: {problem}")
    for finding in report.findings[:_LISTED]:
        say(str(finding))
    if (more := len(report.findings) - _LISTED) > 0:
        say(f"and {more} more like it")
    if as_json:
        figures: dict[str, Any] = {"photos": report.photos, "instances": report.instances}
        figures |= {"findings": list(map(str, report.findings))} if report.findings else {}
        print_json({"schema": schema, "path": str(out), **figures, "problems": report.problems})
    else:
        print(f"{out}: {counted(report.instances, 'instance')} in {counted(report.photos, 'photo')}")
    if report.interrupted:
        left_behind(f"what was found in {report.photos} of {counted(photos, 'photo')} is kept in {out}")
        raise KeyboardInterrupt
    if report.problems:
        raise typer.Exit(1)


def complete(
    model: Model,
    inputs: Photos,
    prompts: Annotated[
        Path,
        typer.Option(
            "--prompts",
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Visible masks or boxes: COCO results or annotations, .npy or .npz.",
        ),
    ],
    out: Folder,
    save: Saved = "coco,png",
    mirror: Annotated[
        bool, typer.Option(help="Look at the mirrored photo as well: finds a little more, takes twice as long.")
    ] = True,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Whole objects for visible masks or boxes that any detector found: amodal masks, levels, order."""
    kinds = _kinds(save)
    from sln import load
    from sln.completion.prompt_files import open_prompts
    from sln.inference.folder import complete_photos

    photos = _photos(inputs, out, kinds, force=force, quiet=quiet)
    predictor = load(model, device)
    with open_prompts(prompts) as known, progress("completing", len(photos), quiet=quiet) as advance:
        report = complete_photos(predictor, photos, known, out, kinds, mirror=mirror, on_photo=advance)
    _tell("sln/complete/1", report, len(photos), out, as_json=as_json)


def evaluate(
    model: Model,
    val: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A cache to score on.")],
    images: Images = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N images.")] = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the predictions as a results file (.json).")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Draw the first images: truth and prediction side by side.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write a page of the worst images, truth and prediction.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a model by all protocols: amodal AP and AR, depth order, completion, and the head at true boxes."""
    for path in (save, png, page):
        if path is not None:
            check_output(path, force=force, inputs=[val])
    from sln import CachedTargets, evaluate_model, load
    from sln.evaluation.evaluate import compare_with_truth
    from sln.inference.overlay import save_picture

    predictor = load(model, device)
    data = CachedTargets(val, photo_folders(images, val), predictor.config.data)
    total = len(data) if limit is None else min(limit, len(data))
    with progress("predicting", total, quiet=quiet) as advance:
        report = evaluate_model(predictor, data, limit, on_image=advance)
    if save is not None:
        report.save(save)
        say(f"{save}: predictions", quiet=quiet)
    if png is not None:
        save_picture(compare_with_truth(predictor, data, _DRAWN), png)
        say(f"{png}: {counted(min(_DRAWN, len(data)), 'image')}, truth and prediction", quiet=quiet)
    if page is not None:
        shown = report.write_page(page, data, f"{model} on {val.name}")
        say(f"{page}: the {shown} worst images", quiet=quiet)
    if as_json:
        print_json(report.to_dict())
    else:
        print(report)


def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="NAME.safetensors, or a folder for programs.")],
    form: Annotated[
        Exported, typer.Option("--as", help="Weights (safetensors), or programs of fixed shapes.")
    ] = Exported.safetensors,
    force: Force = False,
) -> None:
    """Write a network as safetensors (weights and settings) or as programs that run without it; predict reads both."""
    if form is Exported.safetensors and output.suffix != ".safetensors":
        raise typer.BadParameter(f"writes a .safetensors file, found {output.name!r}; --as torch or onnx a folder")
    if form is not Exported.safetensors:
        _export_parts(model, output, form, force=force)
        return
    check_output(output, force=force, inputs=[model])
    from sln.runtime.environment import require_torch

    require_torch()
    from sln.weights import load_model, write_safetensors

    write_safetensors(load_model(model), output)
    print(output)


def _export_parts(model: Path, folder: Path, form: Exported, *, force: bool) -> None:
    from sln.runtime.environment import require_torch

    require_torch()
    from sln.inference.exported import SETTINGS, export_model
    from sln.weights import load_model

    network = load_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    check_output(folder / SETTINGS, force=force)
    for name in export_model(network, folder, form.value):
        print(folder / name)


def bench(
    preset: PresetOption = None,
    file: FileOption = None,
    settings: SetOption = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Timed runs, whose median counts; 3 on a CPU, else 5.")
    ] = None,
    baseline: Annotated[bool, typer.Option("--baseline/--no-baseline", help="Time Mask R-CNN too.")] = True,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time training and inference of tiny and modern (or one preset) beside torchvision's Mask R-CNN, with memory."""
    from sln.config import load_config

    named = preset_name(preset)
    which: list[PresetName | None] = [named] if named else [None] if file or settings else ["tiny", "modern"]
    configs: dict[str, Config] = {one or "as set": load_config(one, file, settings or []) for one in which}
    from sln.runtime.environment import require_torch

    require_torch()
    from benchmarks.training_speed import bench as measure

    report = measure(configs, device, repeats, baseline=baseline, say=lambda text: say(text, quiet=quiet))
    if as_json:
        print_json(report)
        return
    print(f"{report['device']}, median of {report['repeats']}")
    print(
        f"{'':<14}{'px':>6}{'batch':>7}{'trained/s':>11}{'inferred/s':>12}{'step':>10}{'memory':>11}{'parameters':>12}"
    )
    for row in report["rows"]:
        speed = f"{row['trained_per_s']:>11.2f}{row['inferred_per_s']:>12.2f}{row['step_s']:>8.2f} s"
        sizes = f"{row['memory_gib']:>7.1f} GiB{row['parameters'] / 1e6:>10.1f} M"
        print(f"{row['network']:<14}{row['size']:>6}{row['batch']:>7}{speed}{sizes}")


def doctor(
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Say whether this machine can train: the torch pair, the device, bf16."""
    from sln.runtime.environment import require_torch

    require_torch()
    from importlib.metadata import version

    import torch

    from sln.runtime.device import pick_device

    place = pick_device(device)
    cuda = place.type == "cuda"
    found = {
        "schema": "sln/doctor/1",
        "torch": version("torch"),
        "torchvision": version("torchvision"),
        "device": torch.cuda.get_device_name(place) if cuda else f"cpu, {torch.get_num_threads()} threads",
        "bf16": torch.cuda.is_bf16_supported() if cuda else False,
    }
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if name != "schema":
            print(f"{name:<12} {value}")
