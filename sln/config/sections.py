"""Every setting: one sentence each, checked together. Never imports torch."""

from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amodal_data.layering.joint_decoding import DecodingRule

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
    paste: float = Field(
        0.0, ge=0, le=1, description="Share of training samples that get an instance of another photo set in front."
    )


class EncoderConfig(_Section):
    """ENC: photo to features."""

    depth: Literal[10, 18, 34, 50, 101] = Field(50, description="Layers of the ResNet.")
    backbone: str = Field("", description='"timm:NAME" for a backbone of timm instead of the ResNet.')
    channels: Positive = Field(64, description="Version paper: channels of each reduced stage.")
    norm: Literal["auto", "batch", "frozen"] = Field("auto", description="Frozen fits pretrained weights, else batch.")
    weights: str = Field(
        "", description='For the body alone: a checkpoint, "imagenet" (of timm: "pretrained"), or "" for none.'
    )
    frozen: bool = Field(False, description="Leave the body as its weights are; only what stands on it is trained.")
    dilation: bool = Field(False, description="Dilate the last stage instead of striding.")


class Category(_Section):
    """A class of instances."""

    id: int = Field(description="Its category_id.")
    name: str = Field("", description="What it is called.")


class DetectorConfig(_Section):
    """What finds instances."""

    version: Literal["v1", "v2", "paper"] = Field(
        "v2", description="Parts of torchvision's Mask R-CNN v1 or v2, or the paper's RPN on one level of features."
    )
    weights: str = Field(
        "", description='A torchvision Mask R-CNN of the same version: a checkpoint, "coco" to download it, or "".'
    )
    channels: Positive = Field(256, description="Channels of the pyramid.")
    hidden: Positive = Field(1024, description="Box head: width of its last layers.")
    sampled: Positive = Field(512, description="Box head: regions an image that it is trained on.")
    positive: Share = Field(0.25, description="Box head: how many of them lie on instances at most.")
    agnostic: bool = Field(False, description="One class for all instances, as in the paper.")
    categories: tuple[Category, ...] = Field((), description="The classes; sln fit takes them from the cache.")


class LayeringConfig(_Section):
    """GLM: features to the global layering map."""

    levels: int = Field(4, ge=1, le=16, description="K: visibility levels told apart; deeper ones share the last.")
    width: Positive = Field(128, description="Channels of the two hidden layers.")
    see_photo: bool = Field(False, description="Show the GLM the photo at stride 4 besides the features.")


class ProposalConfig(_Section):
    """RPN: where an instance may be."""

    stride: Literal[4, 8] = Field(8, description="Version paper: distance of anchors in pixels.")
    sizes: tuple[Positive, ...] = Field(
        (32, 64, 128, 256, 512),
        min_length=1,
        max_length=32,
        description="Anchor sizes in pixels of the input; v1 and v2: one for each of the five levels.",
    )
    ratios: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (0.5, 1.0, 2.0), min_length=1, max_length=32, description="Anchor height / width."
    )
    width: Positive = Field(256, description="Version paper: channels of the hidden layer.")
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
    see_photo: bool = Field(True, description="Show the head the photo itself in the region, besides the features.")
    roi: Small = Field(14, description="Side of the ROI-Align grid.")
    samples: Small = Field(2, description="ROI-Align samples each cell at this many points a side.")
    out: Small = Field(28, description="Side of the output grid; a multiple of roi.")
    layers: Small = Field(4, description="3x3 layers before the output layer.")
    width: Positive = Field(128, description="Their channels.")
    dilation: Small = Field(2, description="Their dilation.")
    amodal: bool = Field(True, description="SLN: taught the amodal mask once more by itself, weight loss.amodal.")
    refine: bool = Field(False, description="Refine by a second block that sees the sem-dist map, as in the paper.")
    prompts: bool = Field(True, description="Learn to be shown visible masks or boxes, for sln complete.")
    shape_prior: bool = Field(
        False, description="Learn from shapes alone what lies behind others, for sln complete; in a stage of its own."
    )
    context: int = Field(
        3, ge=0, le=64, description="3x3 layers of a second look that sees what was said of the others; 0 = no such."
    )


class LossConfig(_Section):
    """Eq. 6: weights of the named losses."""

    objectness: float = Field(1.0, ge=0, description="RPN: is there an instance (half of l_R).")
    box: float = Field(1.0, ge=0, description="RPN: where exactly (half of l_R).")
    classes: float = Field(1.0, ge=0, description="Box head: an instance of which class, or none.")
    class_box: float = Field(1.0, ge=0, description="Box head: where exactly.")
    global_layering: float = Field(1.0, ge=0, description="l_G on the global layering map.")
    instance_layering: float = Field(1.0, ge=0, description="l_I on the instance layering map.")
    sem_dist: float = Field(2.0, ge=0, description="l_M on the sem-dist map.")
    amodal: float = Field(1.0, ge=0, description="The amodal mask by itself.")
    visible: float = Field(1.0, ge=0, description="Head arcnn-visible: the visible mask.")
    shape_prior: float = Field(1.0, ge=0, description="head.shape_prior: what lies behind others.")
    context: float = Field(1.0, ge=0, description="The head's losses once more, after the scene pass.")
    balance_levels: bool = Field(False, description="Weigh rare levels up in l_I, among the pixels inside.")


class Stage(_Section):
    """One stage of training."""

    name: Literal["glm", "rpn", "ilm", "shape_prior", "joint"] = Field(
        "joint", description="What is trained: ENC + GLM, RPN and box head, ILM, the shape prior, or all of it."
    )
    share: float = Field(1.0, gt=0, description="Its part of the steps, relative to the other stages.")


class TrainConfig(_Section):
    """How the network is trained."""

    steps: Positive = Field(20000, description="Optimiser steps, over all stages.")
    batch: Positive = Field(8, description="Images a step, over all processes.")
    accumulate: Positive = Field(1, description="Parts a batch is cut into to save memory; their losses are averaged.")
    rois: Positive = Field(32, description="Regions an image that the head is trained on, ground-truth boxes first.")
    prompts: int = Field(8, ge=0, description="Prompts an image that the head learns besides.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum .9, or AdamW.")
    lr: float = Field(0.01, gt=0, description="Highest learning rate.")
    weight_decay: float = Field(5e-4, ge=0, description="Weight decay; never on normalisation layers and biases.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Part of each stage during which the learning rate rises.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="The learning rate after the warm-up.")
    clip: float = Field(5.0, ge=0, description="Largest norm of the gradient; 0 = no limit.")
    seed: int = Field(0, ge=0, description="Seed of the weights, the order of the photos and every random choice.")
    workers: Workers = Field("auto", description="Processes that load photos; 0 = none but its own, auto = up to 2.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Keep a running mean of the weights, of this decay a step, and use that; 0 = none."
    )
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
        "product", description="Objectness (v1, v2: class probability) x mean confidence inside, or without."
    )
    min_score: Share = Field(0.05, description="Version v1, v2: boxes of lower class probability are dropped.")
    box_nms: Share = Field(0.7, description="Version v1, v2: box NMS before masks are made.")
    nms: float = Field(
        0.5, ge=0, le=1, description="Doubles: amodal masks share more than this IoU; 1 = there are none."
    )
    visible_nms: Share = Field(0.3, description="And visible masks more than this; 0 = whatever they share of them.")
    duplicate_factor: Share = Field(0.05, description="What is left of the score of a double; 0 drops it.")
    max_detections: Positive = Field(100, description="Instances an image at most.")
    decoding: DecodingRule = Field(
        "sinkhorn", description="How the levels of a photo's instances are put together; none: each says its own."
    )
    hidden: float = Field(
        0.4, ge=0.1, le=0.5, description="With a rule: what is hidden is inside from this confidence, not from .5."
    )


class Config(_Section):
    """All settings."""

    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    detector: DetectorConfig = DetectorConfig()
    layering: LayeringConfig = LayeringConfig()
    proposals: ProposalConfig = ProposalConfig()
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()

    def __repr__(self) -> str:
        body = self.encoder.backbone or f"ResNet-{self.encoder.depth}"
        what = f"{self.data.size} px, {body}, detector {self.detector.version}, head {self.head.kind}"
        return f"Config({what}, {self.train.steps:,} steps; model_dump() is all of it)"

    @model_validator(mode="after")
    def _fit_together(self) -> "Config":
        wrong = [*self._of_detector()]
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
        if any(stage.name == "shape_prior" for stage in self.train.stages) and not self.head.shape_prior:
            wrong.append("stage shape_prior needs head.shape_prior")
        if self.head.shape_prior and not (self.head.prompts and self.train.prompts):
            wrong.append("head.shape_prior needs head.prompts and train.prompts")
        if self.proposals.background_iou > self.proposals.foreground_iou:
            wrong.append("proposals.background_iou is above proposals.foreground_iou")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _of_detector(self) -> Iterator[str]:
        """What does not fit together in encoder and detector."""
        if self.detector.version != "paper" and len(self.proposals.sizes) != 5:
            yield f"proposals.sizes has {len(self.proposals.sizes)} sizes, the pyramid five levels"
        if self.encoder.backbone and not self.encoder.backbone.startswith("timm:"):
            yield f"encoder.backbone is timm:NAME or nothing, found {self.encoder.backbone!r}"
        if self.encoder.backbone and (self.detector.version == "paper" or self.detector.weights):
            yield "encoder.backbone needs detector.version v1 or v2, and no detector.weights"
        if self.detector.weights and (self.encoder.weights or self.detector.version == "paper"):
            yield "detector.weights needs detector.version v1 or v2, and holds the encoder's own weights"
        if self.encoder.frozen and not (self.encoder.weights or self.detector.weights):
            yield "encoder.frozen needs encoder.weights or detector.weights: a random body would stay random"
        ids = [category.id for category in self.detector.categories]
        if len(set(ids)) < len(ids):
            yield "detector.categories names an id twice"


def steps_of(train: TrainConfig) -> list[int]:
    """How many steps each stage has; together they are ``train.steps``."""
    total = sum(stage.share for stage in train.stages)
    ends = [round(part / total * train.steps) for part in accumulate(stage.share for stage in train.stages)]
    return [stop - start for start, stop in pairwise([0, *ends])]


def of_schema(number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were saved under a schema, in today's words: see :func:`settings_of_schema`."""
    settled: dict[str, Any] = dict(values)
    for key, value in settings_of_schema(number).items():
        section, name = key.split(".")
        found = settled.get(section, {})
        if isinstance(found, Mapping):
            settled[section] = {name: value, **found}
    return settled


def settings_of_schema(number: int) -> dict[str, Any]:
    """What schema ``number`` of checkpoints and runs had no settings for, in today's words: 1 of version 0.1, 2 of
    before heads saw the photo, 3 of today.
    """
    blind: dict[str, Any] = {} if number > 2 else {"head.see_photo": False}
    if number > 1:
        return blind
    return blind | {
        "detector.version": "paper",
        "head.amodal": False,
        "head.prompts": False,
        "head.context": 0,
        "predict.visible_nms": 0.0,
        "predict.duplicate_factor": 0.0,
        "predict.decoding": "none",
    }
