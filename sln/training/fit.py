"""``fit``: from a cache and photos to a run directory."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodal_data.cache.header import read_digest
from amodal_data.cache.read import TargetCache
from amodal_data.cache.schema import AMBIGUOUS
from amodal_data.io.pictures import save_picture
from sln.completion.completer import Completer
from sln.completion.prior_training import fit_prior
from sln.completion.shape_bank import shapes_of_targets
from sln.completion.shape_prior import PRIOR_FILE
from sln.completion.tuning import keep_settings, tune_completion
from sln.config import Config
from sln.data.dataset import CachedTargets
from sln.errors import ConfigError, RunError
from sln.evaluation.evaluate import compare_with_truth, evaluate_model, validation_scores
from sln.inference.predictor import Predictor
from sln.network.sln import SLN, load_model
from sln.runs import Run
from sln.runtime.device import memory_used, pick_device
from sln.runtime.distributed import World
from sln.training.logs import LoggerCollection, RunLog
from sln.training.run_settings import check_same_classes, with_categories, with_weights
from sln.training.trainer import Trainer

_OVERLAYS = 4  # Images in an overlay picture
Say = Callable[[str], None]
Count = Callable[[int], None]
OnRow = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, repr=False)
class Sources:
    """Data of a run: a cache and folders of photos, and the same for validation if there is any.

    Examples:
        >>> from pathlib import Path
        >>> import sln
        >>> sln.Sources(Path("train.h5"), (Path("photos"),), val=Path("val.h5"))
        Sources('train.h5', photos in 1 folder, validated on 'val.h5')
    """

    train: Path
    images: tuple[Path, ...]
    val: Path | None = None
    val_images: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        val = f", validated on {self.val.name!r:.60}" if self.val else ""
        return (
            f"Sources({self.train.name!r:.60}, photos in {len(self.images)} folder{'s' * (len(self.images) != 1)}{val})"
        )

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
    def from_dict(cls, stored: Mapping[str, Any]) -> "Sources":
        """The sources of a run. Raises :class:`ConfigError` if a cache is not the one it was started with."""
        try:
            caches = {name: Path(stored[name]) for name in ("train", "val") if name in stored or name == "train"}
            folders = {name: tuple(map(Path, stored[name])) for name in ("images", "val_images")}
            digests = {name: stored[f"{name}_digest"] for name in caches}
        except (KeyError, TypeError) as error:
            raise RunError(f"env.json does not name the run's sources: {error}") from error
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
    init: str | Path | None = None,
    device: str = "auto",
    stop_at: int | None = None,
    say: Say = lambda _: None,
    on_step: Count = lambda _: None,
    on_row: OnRow = lambda _: None,
    logs: Iterable[RunLog] = (),
) -> Run:
    """Train a network; all output goes to the run directory ``run``, which must not be in use.

    init: start from these weights, a run, a checkpoint or an exported file; what does not fit starts anew and is named
    (:class:`sln.weights.initialization.Initialization`). It becomes the setting ``train.init``. Photos are found and
    checked before the first step. stop_at: stop after so many steps, as an interruption would. on_row receives every
    row of metrics; logs: see :mod:`sln.training.logs`. Under torchrun all processes call it with the same arguments.
    Raises :class:`amodal_data.errors.AmodalError`.

    Examples:
        >>> from pathlib import Path
        >>> import amodal_data as ad
        >>> import sln
        >>> scenes = ad.read_cocoa(ad.write_cocoa("photos", 1, seed=1, size=(96, 128)))
        >>> report = ad.build_targets(scenes, "train.h5")
        >>> sources = sln.Sources(Path("train.h5"), (Path("photos"),))
        >>> settings = ["train.steps=1", "train.batch=1", "predict.min_score=0.9"]
        >>> config = sln.load_config("tiny", settings=settings)
        >>> run = sln.fit(config, sources, "run", device="cpu")
        >>> run.last.name
        'last.pt'
    """
    directory = Run(Path(run))
    place, world = _join(device)
    if world.is_main:
        directory.refuse_used()
    config = with_categories(with_weights(config, init), sources.train)
    trainer = _trainer(config, sources, place, world, say)
    trainer.on_row, trainer.loggers = on_row, LoggerCollection(logs if world.is_main else (), say)
    with directory.writing() if world.is_main else nullcontext(), closing(trainer.loggers):
        if world.is_main:
            facts = {"device": str(place), "processes": world.size, "threads": torch.get_num_threads()}
            facts |= {"init": trainer.initialization.to_dict()} if trainer.initialization else {}
            Run.create(directory.path, config, sources.to_dict() | facts)
        trainer.run = directory
        trainer.train(stop_at, on_step)
        _finish(trainer, sources, say)
    return directory


def resume(
    run: str | Path,
    *,
    images: Iterable[Path] = (),
    val_images: Iterable[Path] = (),
    device: str = "auto",
    stop_at: int | None = None,
    say: Say = lambda _: None,
    on_step: Count = lambda _: None,
    on_row: OnRow = lambda _: None,
    logs: Iterable[RunLog] = (),
) -> Run:
    """Continue a run from its newest checkpoint, with its own settings and sources; photos may have moved.

    Examples:
        >>> from pathlib import Path
        >>> import amodal_data as ad
        >>> import sln
        >>> scenes = ad.read_cocoa(ad.write_cocoa("photos", 1, seed=1, size=(96, 128)))
        >>> report = ad.build_targets(scenes, "train.h5")
        >>> sources = sln.Sources(Path("train.h5"), (Path("photos"),))
        >>> settings = ["train.steps=2", "train.batch=1", "predict.min_score=0.9"]
        >>> config = sln.load_config("tiny", settings=settings)
        >>> run = sln.fit(config, sources, "run", device="cpu", stop_at=1)
        >>> run = sln.resume("run", device="cpu")
        >>> run.report.name
        'report.html'
    """
    directory = Run.resume(Path(run))
    place, world = _join(device)
    sources = Sources.from_dict(directory.environment())
    folders: dict[str, Any] = {"images": tuple(images), "val_images": tuple(val_images)}
    sources = replace(sources, **{name: paths for name, paths in folders.items() if paths})
    trainer = _trainer(directory.config(), sources, place, world, say, fresh=False)
    trainer.on_row, trainer.loggers = on_row, LoggerCollection(logs if world.is_main else (), say)
    with directory.writing() if world.is_main else nullcontext(), closing(trainer.loggers):
        trainer.run = directory
        trainer.resume(directory.last)
        end = trainer.spans[-1].stop
        if trainer.is_finished() and directory.report.exists():
            done = f"it stopped early at step {trainer.step}" if trainer.stopped else f"all {end} steps are done"
            say(f"this run is finished: {done}, nothing is left to do")
            return directory
        say(f"resumed at step {trainer.step} of {end}")
        if (threads := directory.environment().get("threads")) != torch.get_num_threads():
            say(f"note: {torch.get_num_threads()} threads now, {threads} before: results will not be bit-identical")
        on_step(trainer.step)
        trainer.train(stop_at, on_step)
        _finish(trainer, sources, say)
    return directory


def _finish(trainer: Trainer, sources: Sources, say: Say) -> None:
    """Shape prior and ``report.html`` of a finished run.

    The report shows the best model on the validation set, else on the training set.
    """
    run, config = trainer.run, trainer.config
    if run is None or not trainer.world.is_main or not trainer.is_finished():
        return
    if config.completion.prior_steps and not (run.path / PRIOR_FILE).exists():
        steps, seed = config.completion.prior_steps, config.train.seed
        bank = shapes_of_targets(trainer.data.cache, np.random.default_rng(seed), str(trainer.data.cache.path))
        prior = fit_prior(bank, steps, seed=seed, device=trainer.device)
        prior.save(run.path / PRIOR_FILE)
        say(f"{run.path / PRIOR_FILE}: shape prior, {steps} steps")
        _tune(run, sources, config, say)
    data = trainer.data
    if sources.val is not None:
        data = CachedTargets(sources.val, sources.val_images or sources.images, config.data)
    predictor = Predictor(load_model(run.path), str(trainer.device))
    scores = evaluate_model(predictor, data, config.train.validate_on)
    count = scores.write_page(run.report, data, f"{run.path.name} on {data.cache.path.name}", run.curves)
    say(f"{run.report}: the {count} worst images")


def _tune(run: Run, sources: Sources, config: Config, say: Say) -> None:
    """Choose on the validation set how head and prior are mixed; the best checkpoint keeps it."""
    if sources.val is None or not run.best.exists():
        return
    completer = Completer.from_pretrained(run.path)
    data = CachedTargets(sources.val, sources.val_images or sources.images, config.data)
    settings = tune_completion(completer, data, config.train.validate_on)
    keep_settings(run.best, settings)
    values = ", ".join(f"{name} {value:g}" for name, value in settings if name != "prior_steps")
    say(f"{run.best}: completion tuned on {sources.val.name}: {values}")


def check(
    config: Config,
    sources: Sources,
    *,
    device: str = "auto",
    say: Say = lambda _: None,
    on_batch: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Try two batches of every stage: seconds, memory and how long the whole run will take."""
    place, config = pick_device(device), with_categories(with_weights(config), sources.train)
    trainer = _trainer(config, sources, place, World(), say)
    stages: list[dict[str, Any]] = []
    for span in trainer.spans:
        trainer.step = span.start
        trainer.start_stage(span)
        trainer.time_batch()  # warm-up
        on_batch(1)
        stages.append({"stage": span.name, "steps": span.stop - span.start, **trainer.time_batch()})
        on_batch(1)
    total = sum(stage["steps"] * stage["seconds"] for stage in stages)
    per_epoch = len(trainer.data) / trainer.spans[-1].settings.batch
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


def _join(device: str) -> tuple[torch.device, World]:
    place = pick_device(device)
    if place.type == "cuda" and "LOCAL_RANK" in os.environ:
        place = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(place)
    return place, World.join(place)


def _trainer(
    config: Config, sources: Sources, device: torch.device, world: World, say: Say, *, fresh: bool = True
) -> Trainer:
    for cache in filter(None, (sources.train, sources.val)):
        with TargetCache(cache, hold=False) as opened:
            if opened.info.masks == "modal":
                raise ConfigError("its masks are modal, so it has no hidden parts to learn", place=str(cache),
                                  fix="train on whole objects; compose makes amodal scenes of modal masks")  # fmt: skip
    if sources.val is not None:
        check_same_classes(sources.train, sources.val)
    data = _open(sources.train, sources.images, config, say)
    val = _open(sources.val, sources.val_images or sources.images, config, say) if sources.val else None

    def validate(model: SLN) -> dict[str, float | None]:
        assert val is not None
        predictor = Predictor(model, str(device))
        return validation_scores(predictor, val, config.train.metric, config.train.validate_on)

    def draw(model: SLN, path: Path) -> None:
        picture = compare_with_truth(Predictor(model, str(device)), data if val is None else val, _OVERLAYS)
        save_picture(picture, path)

    check_ap = None if val is None else validate
    return Trainer(config, data, device=device, world=world, validate=check_ap, draw=draw, say=say, fresh=fresh)


def _open(cache: Path, images: Iterable[Path], config: Config, say: Say) -> CachedTargets:
    categories = [category.id for category in config.detector.categories]
    data = CachedTargets(cache, images, config.data, config.train.seed, categories)
    say(f"{cache}: {len(data)} images of {data.cache.info.dataset}, all photos found")
    if data.turned:
        say(f"{data.turned} of these photos are turned upright, as their EXIF orientation says")
    _say_gaps(data.cache, say)
    return data


def _say_gaps(cache: TargetCache, say: Say) -> None:
    """Say how many images have no objects, and how many instance pixels have no known order."""
    if empty := int((np.diff(cache.column("ptr")["instances"]) == 0).sum()):
        say(f"{cache.path}: {empty} of {len(cache)} images have no objects; they train as background")
    if not (cache.column("flags") & AMBIGUOUS).any():
        return
    pixels = np.array([(targets.undecided_areas().sum(), targets.areas()[0].sum()) for targets in cache], np.int64)
    undecided, covered = pixels.sum(axis=0)
    if undecided:
        share = undecided / covered
        say(f"warning: {cache.path}: the depth order of {share:.1%} of the instance pixels is unknown, so their levels "
            "are not learned; if you know the order, build the cache with --order")  # fmt: skip
