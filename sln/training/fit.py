"""``fit``: from a cache and photos to a run directory."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from amodal_data import TargetCache
from amodal_data.cache.header import read_digest
from sln.config import Category, Config
from sln.data.dataset import CachedTargets
from sln.errors import ConfigError, RunError
from sln.evaluation.evaluate import amodal_ap, compare_with_truth, evaluate_model
from sln.inference.overlay import save_picture
from sln.inference.predictor import Predictor
from sln.network.sln import SLN
from sln.runs import Run
from sln.runtime.device import memory_used, pick_device
from sln.runtime.distributed import World
from sln.training.logs import LoggerCollection, RunLog
from sln.training.trainer import Trainer
from sln.weights import load_model

_OVERLAYS = 4
Says = Callable[[str], None]
Counts = Callable[[int], None]
Tells = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, repr=False)
class Sources:
    """What is trained on: a cache and folders of photos, and the same for validation if there is any."""

    train: Path
    images: tuple[Path, ...]
    val: Path | None = None
    val_images: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        val = f", validated on {self.val.name!r:.60}" if self.val else ""
        return f"Sources({self.train.name!r:.60}, photos in {len(self.images)} folders{val})"

    def to_dict(self) -> dict[str, Any]:
        """As ``env.json`` keeps it: absolute paths, and the digests of the caches."""
        caches = {"train": self.train} | ({"val": self.val} if self.val else {})
        paths = {"images": self.images, "val_images": self.val_images}
        return {
            **{name: str(path.resolve()) for name, path in caches.items()},
            **{f"{name}_digest": read_digest(path) for name, path in caches.items()},
            **{name: [str(folder.resolve()) for folder in folders] for name, folders in paths.items()},
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Sources":
        """Those of a run. Raises :class:`ConfigError` if a cache is not the one it was started with."""
        try:
            caches = {name: Path(kept[name]) for name in ("train", "val") if name in kept or name == "train"}
            folders = {name: tuple(map(Path, kept[name])) for name in ("images", "val_images")}
            digests = {name: kept[f"{name}_digest"] for name in caches}
        except (KeyError, TypeError) as error:
            raise RunError(f"env.json does not say what the run was started with: {error}") from error
        for name, path in caches.items():
            if read_digest(path) != digests[name]:
                raise ConfigError("this cache is not the one the run was started with", place=str(path),
                                  fix="put it back, or start a new run")  # fmt: skip
        return cls(caches["train"], folders["images"], caches.get("val"), folders["val_images"])


def fit(
    config: Config,
    sources: Sources,
    run: str | Path,
    *,
    device: str = "auto",
    stop_at: int | None = None,
    say: Says = lambda _: None,
    on_step: Counts = lambda _: None,
    on_row: Tells = lambda _: None,
    logs: Iterable[RunLog] = (),
) -> Run:
    """Train a network; everything it leaves is in the run directory ``run``, which must not be in use.

    Photos are found and checked before the first step. stop_at: stop after so many steps, as an interruption
    would. on_row: told every row of metrics; logs: see :mod:`sln.training.logs`. Under torchrun all processes call it
    alike. Raises :class:`amodal_data.errors.AmodalError`.
    """
    own = Run(Path(run))
    place, world = _join(device)
    if world.is_main:
        own.refuse_used()
    config = with_categories(config, sources.train)
    trainer = _trainer(config, sources, place, world, say, on_row, logs)
    with own.writing() if world.is_main else nullcontext(), closing(trainer.telling):
        if world.is_main:
            about = {"device": str(place), "processes": world.size, "threads": torch.get_num_threads()}
            Run.create(own.path, config, sources.to_dict() | about)
        trainer.run = own
        trainer.train(stop_at, on_step)
        _report(trainer, sources, say)
    return own


def resume(
    run: str | Path,
    *,
    images: Iterable[Path] = (),
    val_images: Iterable[Path] = (),
    device: str = "auto",
    stop_at: int | None = None,
    say: Says = lambda _: None,
    on_step: Counts = lambda _: None,
    on_row: Tells = lambda _: None,
    logs: Iterable[RunLog] = (),
) -> Run:
    """Go on with a run from its newest checkpoint, with its own settings and sources; photos may have moved."""
    found = Run.resume(Path(run))
    place, world = _join(device)
    sources = Sources.from_dict(found.environment())
    sources = replace(
        sources, images=tuple(images) or sources.images, val_images=tuple(val_images) or sources.val_images
    )
    trainer = _trainer(found.config(), sources, place, world, say, on_row, logs, fresh=False)
    with found.writing() if world.is_main else nullcontext(), closing(trainer.telling):
        trainer.run = found
        trainer.resume(found.last)
        end = trainer.spans[-1].stop
        if trainer.step >= end and found.report.exists():
            say(f"this run is finished: all {end} steps are done, nothing is left to do")
            return found
        say(f"resumed at step {trainer.step} of {end}")
        if (threads := found.environment().get("threads")) != torch.get_num_threads():
            say(f"note: {torch.get_num_threads()} threads now, {threads} before: not bit for bit the same run")
        on_step(trainer.step)
        trainer.train(stop_at, on_step)
        _report(trainer, sources, say)
    return found


def _report(trainer: Trainer, sources: Sources, say: Says) -> None:
    """``report.html`` of a finished run: its best model on the validation set, else on what it was trained on."""
    run, config = trainer.run, trainer.config
    if run is None or not trainer.world.is_main or trainer.step < trainer.spans[-1].stop:
        return
    data = trainer.data
    if sources.val is not None:
        data = CachedTargets(sources.val, sources.val_images or sources.images, config.data)
    scored = evaluate_model(Predictor(load_model(run.path), str(trainer.device)), data, config.train.validate_on)
    shown = scored.write_page(run.report, data, f"{run.path.name} on {data.cache.path.name}")
    say(f"{run.report}: the {shown} worst images")


def check(config: Config, sources: Sources, *, device: str = "auto") -> dict[str, Any]:
    """Try one batch forward and backward in every stage: seconds, memory and what the whole run will take."""
    place = pick_device(device)
    config = with_categories(config, sources.train)
    trainer = _trainer(config, sources, place, World(), lambda _: None)
    stages: list[dict[str, Any]] = []
    for span in trainer.spans:
        trainer.step = span.start
        trainer.enter(span)
        trainer.time_batch()  # the first one also warms up
        stages.append({"stage": span.name, "steps": span.stop - span.start, **trainer.time_batch()})
    total = sum(stage["steps"] * stage["seconds"] for stage in stages)
    per_epoch = len(trainer.data) / config.train.batch
    return {
        "schema": "sln/check/1",
        "device": str(place),
        "images": len(trainer.data),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "steps_per_epoch": per_epoch,
        "stages": stages,
        "seconds_per_epoch": stages[-1]["seconds"] * per_epoch,
        "hours": total / 3600,
        "memory_gib": memory_used(place),
    }


def with_categories(config: Config, cache: Path) -> Config:
    """The settings with the classes of a cache, unless they name theirs or want none: in the paper's version there is
    one. Raises :class:`ConfigError` if the cache has instances of other classes than those named.
    """
    detector = config.detector
    if detector.version == "paper" or detector.agnostic:
        return config
    found = TargetCache(cache).categories()
    if detector.categories:
        if strange := sorted(found.keys() - {category.id for category in detector.categories}):
            raise ConfigError(f"categories {strange[:5]} are not in detector.categories", place=str(cache),
                              fix="name them too, or leave detector.categories to the cache")  # fmt: skip
        return config
    named = tuple(Category(id=category, name=name) for category, name in found.items())
    return config.model_copy(update={"detector": detector.model_copy(update={"categories": named})})


def _join(device: str) -> tuple[torch.device, World]:
    place = pick_device(device)
    if place.type == "cuda" and "LOCAL_RANK" in os.environ:
        place = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(place)
    return place, World.join(place)


def _trainer(
    config: Config,
    sources: Sources,
    device: torch.device,
    world: World,
    say: Says,
    on_row: Tells = lambda _: None,
    logs: Iterable[RunLog] = (),
    *,
    fresh: bool = True,
) -> Trainer:
    for cache in filter(None, (sources.train, sources.val)):
        with TargetCache(cache, hold=False) as opened:
            if opened.info.masks == "modal":
                raise ConfigError("its masks are modal: nothing tells what is hidden", place=str(cache),
                                  fix="train on whole objects; modal masks can be looked at and exported")  # fmt: skip
    data = _opened(sources.train, sources.images, config, say)
    shown = _opened(sources.val, sources.val_images or sources.images, config, say) if sources.val else None

    def validate(model: SLN) -> dict[str, float | None]:
        assert shown is not None
        return {"ap": amodal_ap(Predictor(model, str(device)), shown, config.train.validate_on)}

    def draw(model: SLN, path: Path) -> None:
        picture = compare_with_truth(Predictor(model, str(device)), data if shown is None else shown, _OVERLAYS)
        save_picture(picture, path)

    return Trainer(
        config,
        data,
        device=device,
        world=world,
        validate=None if shown is None else validate,
        draw=draw,
        say=say,
        on_row=on_row,
        telling=LoggerCollection(logs if world.is_main else (), say),
        fresh=fresh,
    )


def _opened(cache: Path, images: Iterable[Path], config: Config, say: Says) -> CachedTargets:
    categories = [category.id for category in config.detector.categories]
    data = CachedTargets(cache, images, config.data, config.train.seed, categories)
    say(f"{cache}: {len(data)} images of {data.cache.info.dataset}, all photos found")
    return data
