"""Every setting of the network and its training: one sentence each, checked together, saved with the model.

Order of precedence: preset, then file, then environment (``SLN_TRAIN__STEPS=500``), then ``--set
train.steps=500``, then a command's own option. Never imports torch.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from amodal_data.disk import open_regular
from sln.errors import ConfigError

__all__ = [
    "PRESETS",
    "Config",
    "Preset",
    "TrainConfig",
    "commented",
    "load_config",
    "steps_of",
]

Preset = Literal["paper", "modern", "tiny"]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Small = Annotated[int, Field(ge=1, le=256)]
Workers = Literal["auto"] | Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """What the network is shown."""

    size: int = Field(
        512,
        ge=32,
        le=8192,
        multiple_of=32,
        description="Side of the square input in pixels; photos are fitted in, the rest is padding.",
    )
    flip: bool = Field(True, description="Mirror half of the training samples.")
    crop: float = Field(
        0.6, gt=0, le=1, description="Smallest side of a random crop, as a share of the photo; 1 = never crop."
    )
    jitter: float = Field(
        0.3, ge=0, le=1, description="Strength of random brightness, contrast and saturation; 0 = none."
    )


class EncoderConfig(_Section):
    """ENC: photo to features at stride 4."""

    depth: Literal[10, 18, 34, 50, 101] = Field(50, description="Layers of the ResNet.")
    channels: Positive = Field(64, description="Channels of each reduced stage; features have four times as many.")
    norm: Literal["auto", "batch", "frozen"] = Field("auto", description="Frozen fits pretrained weights, else batch.")
    weights: str = Field("", description='A torchvision checkpoint (Mask R-CNN or ResNet), "imagenet", or "" for none.')
    dilation: bool = Field(False, description="Dilate the last stage instead of striding.")


class LayeringConfig(_Section):
    """GLM: features to the global layering map."""

    levels: int = Field(4, ge=1, le=16, description="K: visibility levels told apart; deeper ones share the last.")
    width: Positive = Field(128, description="Channels of the two hidden layers.")
    see_photo: bool = Field(False, description="Show the GLM the photo at stride 4 besides the features.")


class ProposalConfig(_Section):
    """RPN: where an instance may be."""

    stride: Literal[4, 8] = Field(8, description="Distance of anchors in pixels.")
    sizes: tuple[Positive, ...] = Field(
        (32, 64, 128, 256, 384), min_length=1, max_length=32, description="Anchor sizes in pixels of the input."
    )
    ratios: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (0.5, 1.0, 2.0), min_length=1, max_length=32, description="Anchor height / width."
    )
    width: Positive = Field(256, description="Channels of the hidden layer.")
    foreground_iou: Share = Field(0.6, description="An anchor with at least this IoU is positive.")
    background_iou: Share = Field(0.5, description="An anchor with less is negative.")
    sampled: Positive = Field(
        256, description="Anchors an image that the loss looks at, half of them positive at most."
    )
    before_nms: Positive = Field(1000, description="Proposals an image kept before NMS.")
    nms: Share = Field(
        0.7, description="Box NMS among proposals; overlapping objects are the subject, so keep it high."
    )
    after_nms: Positive = Field(100, description="Proposals an image kept after NMS.")


class HeadConfig(_Section):
    """ILM: one region to its instance layering map and sem-dist map."""

    kind: Literal["sln", "sln-noglm", "arcnn", "arcnn-visible"] = Field(
        "sln", description="What the head predicts; sln-noglm and the arcnn heads do not see the GLM's layers."
    )
    roi: Small = Field(14, description="Side of the ROI-Align grid.")
    samples: Small = Field(2, description="ROI-Align samples each cell at this many points a side.")
    out: Small = Field(28, description="Side of the output grid; a multiple of roi.")
    layers: Small = Field(4, description="3x3 layers before the output layer.")
    width: Positive = Field(128, description="Their channels.")
    dilation: Small = Field(2, description="Their dilation.")
    refine: bool = Field(False, description="Refine by a second block that sees the sem-dist map, as in the paper.")


class LossConfig(_Section):
    """Eq. 6: weights of the named losses."""

    objectness: float = Field(1.0, ge=0, description="RPN: is there an instance (half of l_R).")
    box: float = Field(3.0, ge=0, description="RPN: where exactly (half of l_R).")
    global_layering: float = Field(1.0, ge=0, description="l_G on the global layering map.")
    instance_layering: float = Field(1.0, ge=0, description="l_I on the instance layering map.")
    sem_dist: float = Field(2.0, ge=0, description="l_M on the sem-dist map.")
    amodal: float = Field(1.0, ge=0, description="Heads arcnn and arcnn-visible: the amodal mask.")
    visible: float = Field(1.0, ge=0, description="Head arcnn-visible: the visible mask.")
    balance_levels: bool = Field(False, description="Weigh rare levels up in l_I, among the pixels inside.")


class Stage(_Section):
    """One stage of training."""

    name: Literal["glm", "rpn", "ilm", "joint"] = Field(
        "joint", description="What is trained: ENC + GLM, RPN, ILM, or all of it."
    )
    share: float = Field(1.0, gt=0, description="Its part of the steps, relative to the other stages.")


class TrainConfig(_Section):
    """How the network is trained."""

    steps: Positive = Field(20000, description="Optimiser steps, over all stages.")
    batch: Positive = Field(8, description="Images a step, over all processes.")
    accumulate: Positive = Field(1, description="Parts a batch is cut into to save memory; their losses are averaged.")
    rois: Positive = Field(32, description="Regions an image that the head is trained on, ground-truth boxes first.")
    optimiser: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum .9, or AdamW.")
    lr: float = Field(0.01, gt=0, description="Highest learning rate.")
    weight_decay: float = Field(5e-4, ge=0, description="Weight decay; never on normalisation layers and biases.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Part of each stage during which the learning rate rises.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="The learning rate after the warm-up.")
    clip: float = Field(5.0, ge=0, description="Largest norm of the gradient; 0 = no limit.")
    seed: int = Field(0, ge=0, description="Seed of the weights, the order of the photos and every random choice.")
    workers: Workers = Field("auto", description="Processes that load photos; 0 = none but its own, auto = up to 2.")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="bf16 on CUDA and float32 on the CPU, or one of them."
    )
    save_every: Positive = Field(500, description="Steps between checkpoints.")
    validate_on: Positive = Field(100, description="Images of the validation set scored at each checkpoint.")
    log_every: Positive = Field(20, description="Steps between rows of metrics.")
    stages: tuple[Stage, ...] = Field((Stage(),), min_length=1, description="The stages, in order.")


class PredictConfig(_Section):
    """What becomes of the network's output."""

    score: Literal["product", "objectness"] = Field(
        "product", description="Objectness x mean confidence inside, or objectness alone."
    )
    nms: float = Field(0.6, ge=0, le=1, description="Mask NMS on amodal masks above this IoU; 1 = off.")
    most: Positive = Field(100, description="Instances an image at most.")


class Config(_Section):
    """All settings."""

    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    layering: LayeringConfig = LayeringConfig()
    proposals: ProposalConfig = ProposalConfig()
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()

    @model_validator(mode="after")
    def _fit_together(self) -> "Config":
        wrong = []
        if self.head.out % self.head.roi:
            wrong.append(f"head.out ({self.head.out}) is no multiple of head.roi ({self.head.roi})")
        if self.train.batch % self.train.accumulate:
            wrong.append(
                f"train.batch ({self.train.batch}) cannot be cut into train.accumulate ({self.train.accumulate})"
            )
        if self.encoder.dilation and self.encoder.depth < 50:
            wrong.append("encoder.dilation needs encoder.depth 50 or more")
        if self.train.steps < len(self.train.stages):
            wrong.append(f"train.steps ({self.train.steps}) are fewer than the {len(self.train.stages)} stages")
        elif 0 in (steps := steps_of(self.train)):
            none = self.train.stages[steps.index(0)].name
            wrong.append(f"stage {none} has no step: its share of train.steps ({self.train.steps}) is too small")
        if self.proposals.background_iou > self.proposals.foreground_iou:
            wrong.append("proposals.background_iou is above proposals.foreground_iou")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def steps_of(train: TrainConfig) -> list[int]:
    """How many steps each stage has; together they are ``train.steps``."""
    total = sum(stage.share for stage in train.stages)
    ends = [round(part / total * train.steps) for part in accumulate(stage.share for stage in train.stages)]
    return [stop - start for start, stop in pairwise([0, *ends])]


PRESETS: dict[Preset, dict[str, dict[str, Any]]] = {
    "paper": {
        "data": {"size": 1024, "crop": 1.0, "jitter": 0.0},
        "layering": {"width": 256},
        "proposals": {"stride": 4, "sizes": (32, 64, 128, 256, 512), "foreground_iou": 0.7, "background_iou": 0.3},
        "head": {"layers": 2, "width": 256, "dilation": 1, "refine": True},
        "loss": {"sem_dist": 1.0, "box": 1.0},
        "train": {
            "steps": 40000,
            "batch": 2,
            "lr": 0.2,
            "rois": 64,
            "stages": [{"name": name} for name in ("glm", "rpn", "ilm", "joint")],
        },
    },
    "modern": {},
    "tiny": {
        "data": {"size": 96, "crop": 1.0, "jitter": 0.1},
        "encoder": {"depth": 10, "channels": 32},
        "layering": {"width": 64},
        "proposals": {"stride": 4, "sizes": (16, 28, 44, 64, 90), "width": 96, "before_nms": 400},
        "head": {"width": 64, "samples": 1},
        "train": {
            "steps": 1500,
            "batch": 8,
            "rois": 8,
            "optimiser": "adamw",
            "lr": 1.5e-3,
            "weight_decay": 0.01,
            "workers": 0,
            "save_every": 200,
            "log_every": 10,
        },
    },
}
"""What each preset changes from the default, which is ``modern``."""


def load_config(
    preset: Preset | None = None,
    file: Path | None = None,
    settings: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Put a configuration together.

    preset: ``modern`` unless given. file: TOML. settings: ``section.name=value``, value in TOML's notation
    or a bare word. options: ``{"train.steps": 500}``, None = not given.
    Raises :class:`ConfigError` naming every key that is wrong.
    """
    values: dict[str, Any] = {section: dict(own) for section, own in PRESETS[preset or "modern"].items()}
    for key, value in _given(file, settings, options or {}, environment):
        place = values
        *sections, name = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {section} is no section")
        place[name] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error)), fix="`sln config` lists all settings") from error


def commented(config: Config) -> str:
    """The configuration as TOML, each setting under its sentence; runnable as a file."""
    import tomlkit

    document = tomlkit.document()
    for section in Config.model_fields:
        own: BaseModel = getattr(config, section)
        table = tomlkit.table()
        table.comment((type(own).__doc__ or "").strip())
        for name, about in type(own).model_fields.items():
            value = getattr(own, name)
            table.add(tomlkit.comment(f"{about.description} {_choices(about.annotation)}".strip()))
            if name == "stages":
                value = [stage.model_dump() for stage in value]
            table.add(name, list(value) if isinstance(value, tuple) else value)
        document.add(section, table)
    return tomlkit.dumps(document)


def _choices(annotation: Any) -> str:
    chosen = getattr(annotation, "__args__", ()) if getattr(annotation, "__origin__", None) is Literal else ()
    return f"({' | '.join(map(str, chosen))})" if chosen else ""


def _given(
    file: Path | None, settings: Iterable[str], options: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """All settings given, weakest first."""
    if file is not None:
        yield from _read(file)
    for name, text in environment.items():
        if name.startswith("SLN_") and "__" in name:
            yield name[4:].lower().replace("__", "."), _parse(text)
    for setting in settings:
        key, found, text = setting.partition("=")
        if not found:
            raise ConfigError(f"--set takes section.name=value, found {setting!r}")
        yield key.strip(), _parse(text.strip())
    yield from ((key, value) for key, value in options.items() if value is not None)


def _read(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        with open_regular(file) as opened:
            content = tomllib.load(opened)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise ConfigError(f"not TOML: {error}", place=str(file)) from error
    for section, own in content.items():
        if isinstance(own, dict):
            yield from ((f"{section}.{name}", value) for name, value in own.items())
        else:
            yield section, own


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        place = ".".join(map(str, one["loc"]))
        if one["type"] == "extra_forbidden":
            yield f"{place}: no such setting{_nearest(place)}"
        elif one["type"] == "value_error":
            yield str(one["ctx"]["error"])
        else:
            yield f"{place}: {one['msg']}, found {one['input']!r}"


def _nearest(place: str) -> str:
    known = [f"{section}.{name}" for section in Config.model_fields for name in _fields(section)]
    found = difflib.get_close_matches(place, known, 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _fields(section: str) -> Iterable[str]:
    return type(getattr(Config(), section)).model_fields
