"""Every setting with its sentence, checked together. Never imports torch."""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amodal_data.layering.joint_decoding import DecodingRule

Positive = Annotated[int, Field(ge=1, lt=2**31)]
Small = Annotated[int, Field(ge=1, le=256)]
Side = Annotated[int, Field(ge=32, le=8192, multiple_of=32)]
Sizes = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=32)]
Ratios = Annotated[tuple[Annotated[float, Field(gt=0, le=100)], ...], Field(min_length=1, max_length=32)]
Norm = Literal["auto", "batch", "frozen"]
Precision = Literal["auto", "float32", "bf16"]
Metric = Literal["ap", "ar100", "hidden_iou"]
Workers = Literal["auto"] | Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Layers = Annotated[int, Field(ge=0, le=64)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """The network's input."""

    size: Side = Field(
        512, description="Side of the square input in pixels; photos are fitted in, the rest is padding."
    )
    flip: bool = Field(True, description="Mirror half of the training samples.")
    crop: Scale = Field(0.6, description="Smallest side of a random crop, as a share of the photo; 1 = never crop.")
    jitter: Share = Field(0.3, description="Strength of random brightness, contrast and saturation; 0 = none.")


class EncoderConfig(_Section):
    """ENC: from photo to features."""

    depth: Literal[10, 18, 34, 50, 101] = Field(50, description="Layers of the ResNet.")
    backbone: str = Field("", description='"timm:NAME" for a backbone of timm instead of the ResNet.')
    channels: Positive = Field(64, description="Version paper: channels of each reduced stage.")
    norm: Norm = Field("auto", description="Normalization; auto = frozen with pretrained weights, else batch.")
    weights: str = Field("", description='Backbone weights: a checkpoint, "imagenet" (timm: "pretrained"), or "".')
    frozen: bool = Field(False, description="Keep the backbone's weights fixed; train only the other parts.")
    dilation: bool = Field(False, description="Dilate the last stage instead of striding.")


class Category(_Section):
    """A class of instances."""

    id: int = Field(description="Its category_id.")
    name: str = Field("", description="What it is called.")


class DetectorConfig(_Section):
    """Detection of instances."""

    version: Literal["v1", "v2", "paper"] = Field(
        "v2", description="Parts of torchvision's Mask R-CNN v1 or v2, or the paper's RPN on one level of features."
    )
    weights: str = Field(
        "", description='A torchvision Mask R-CNN of the same version: a checkpoint, "coco" to download it, or "".'
    )
    channels: Positive = Field(256, description="Channels of the pyramid.")
    hidden: Positive = Field(1024, description="Box head: width of its last layers.")
    sampled: Positive = Field(512, description="Box head: proposals per image that it is trained on.")
    positive: Share = Field(0.25, description="Box head: largest share of them that match an instance.")
    agnostic: bool = Field(False, description="One class for all instances, as in the paper.")
    categories: tuple[Category, ...] = Field((), description="The classes; sln fit takes them from the cache.")


class LayeringConfig(_Section):
    """GLM: from features to the global layering map."""

    levels: int = Field(4, ge=1, le=16, description="K: number of visibility levels; deeper ones share the last.")
    width: Positive = Field(128, description="Channels of the two hidden layers.")
    see_photo: bool = Field(False, description="Show the GLM the photo at stride 4 in addition to the features.")


class ProposalConfig(_Section):
    """RPN: boxes where an instance may be."""

    stride: Literal[4, 8] = Field(8, description="Version paper: distance between anchors in pixels.")
    sizes: Sizes = Field(
        (32, 64, 128, 256, 512), description="Anchor sizes in pixels; v1 and v2: one for each of the five levels."
    )
    ratios: Ratios = Field((0.5, 1.0, 2.0), description="Anchor height / width.")
    width: Positive = Field(256, description="Version paper: channels of the hidden layer.")
    foreground_iou: Share = Field(0.6, description="An anchor with at least this IoU is positive.")
    background_iou: Share = Field(0.5, description="An anchor with less is negative.")
    sampled: Positive = Field(256, description="Anchors per image in the loss, at most half of them positive.")
    before_nms: Positive = Field(1000, description="Proposals per image kept before NMS.")
    nms: Share = Field(0.7, description="IoU of box NMS among proposals; keep it high, because objects overlap.")
    after_nms: Positive = Field(100, description="Proposals per image kept after NMS.")


class HeadConfig(_Section):
    """ROI head (ILM): from an ROI to its instance layering map and sem-dist map."""

    kind: Literal["sln", "sln-noglm", "arcnn", "arcnn-visible"] = Field(
        "sln", description="Kind of head; sln-noglm and the arcnn baselines do not see the GLM's layers."
    )
    see_photo: bool = Field(True, description="Show the head the photo inside the ROI in addition to the features.")
    roi: Small = Field(14, description="Side of the ROI-Align grid.")
    samples: Small = Field(2, description="ROI-Align: sample points a side of each cell.")
    out: Small = Field(28, description="Side of the output grid; a multiple of roi.")
    layers: Small = Field(4, description="3x3 layers before the output layer.")
    width: Positive = Field(128, description="Channels of these layers.")
    dilation: Small = Field(2, description="Dilation of these layers.")
    amodal: bool = Field(True, description="SLN: extra loss on the amodal mask, with weight loss.amodal.")
    refine: bool = Field(False, description="Add the paper's refinement block, which sees the sem-dist map.")
    prompts: bool = Field(True, description="Train with given visible masks and boxes, for sln complete.")
    context: Layers = Field(3, description="3x3 layers of the context stage, which sees the other detections; 0 = off.")


class LossConfig(_Section):
    """Eq. 6: weights of the named losses."""

    objectness: float = Field(1.0, ge=0, description="RPN: objectness (half of l_R).")
    box: float = Field(1.0, ge=0, description="RPN: box (half of l_R).")
    classes: float = Field(1.0, ge=0, description="Box head: class.")
    class_box: float = Field(1.0, ge=0, description="Box head: box.")
    global_layering: float = Field(1.0, ge=0, description="l_G on the global layering map.")
    instance_layering: float = Field(1.0, ge=0, description="l_I on the instance layering map.")
    sem_dist: float = Field(2.0, ge=0, description="l_M on the sem-dist map.")
    amodal: float = Field(1.0, ge=0, description="The amodal mask (head.amodal, and the arcnn heads).")
    visible: float = Field(1.0, ge=0, description="Head arcnn-visible: the visible mask.")
    context: float = Field(1.0, ge=0, description="Factor on the head's losses after the context stage.")
    balance_levels: bool = Field(False, description="Weight rare levels up in l_I.")


class Stage(_Section):
    """One stage of training; settings that it leaves out are those of train."""

    name: Literal["glm", "rpn", "ilm", "joint"] = Field(
        "joint", description="Trained parts: encoder and GLM, RPN and box head, ROI head, or all of them."
    )
    share: float = Field(1.0, gt=0, description="Share of the steps that stages without steps divide.")
    steps: Positive | None = Field(None, description="Its steps, instead of a share.")
    batch: Positive | None = Field(None, description="Images per step.")
    lr: float | None = Field(None, gt=0, description="Highest learning rate.")
    weight_decay: float | None = Field(None, ge=0, description="Weight decay.")
    precision: Precision | None = Field(None, description="Numbers in training.")
    prompts: int | None = Field(None, ge=0, description="Prompted ROIs per image.")


class TrainConfig(_Section):
    """How the network is trained."""

    init: str = Field("", description='Weights of your own to start from: a run, checkpoint or exported file, or "".')
    steps: Positive = Field(20000, description="Optimizer steps of all stages together.")
    batch: Positive = Field(8, description="Images per step, over all processes.")
    accumulate: Positive = Field(1, description="Parts that a batch is split into to save memory; losses are averaged.")
    rois: Positive = Field(32, description="ROIs per image that the head is trained on, ground-truth boxes first.")
    prompts: int = Field(8, ge=0, description="Prompted ROIs per image in addition.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum 0.9, or AdamW.")
    lr: float = Field(0.01, gt=0, description="Highest learning rate.")
    weight_decay: float = Field(5e-4, ge=0, description="Weight decay, except on normalization layers and biases.")
    warmup: Fraction = Field(0.05, description="Share of each stage during which the learning rate rises.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="The learning rate after the warm-up.")
    clip: float = Field(5.0, ge=0, description="Largest norm of the gradient; 0 = no limit.")
    seed: int = Field(0, ge=0, description="Seed of the weights, the order of the photos and every random choice.")
    workers: Workers = Field(
        "auto", description="Processes that load photos; 0 = training process, auto = by the processors, at most 16."
    )
    ema: Fraction = Field(
        0.0, description="Decay per step of an averaged copy of the weights, which is used; 0 = none."
    )
    precision: Precision = Field("auto", description="Numbers in training; auto = bf16 on CUDA, float32 on the CPU.")
    save_every: Positive = Field(500, description="Steps between checkpoints.")
    validate_on: Positive = Field(100, description="Images of the validation set scored at each checkpoint.")
    metric: Metric = Field("ap", description="Validation score by which the best checkpoint is chosen.")
    patience: int = Field(
        0, ge=0, description="Validations of a stage without a better score after which training stops; 0 = never."
    )
    log_every: Positive = Field(20, description="Steps between rows of metrics.")
    stages: tuple[Stage, ...] = Field((Stage(),), min_length=1, description="The stages, in order.")


class PredictConfig(_Section):
    """From the network's output to predictions."""

    score: Literal["product", "objectness"] = Field(
        "product", description="Objectness (v1, v2: class probability) times mean confidence inside, or alone."
    )
    min_score: Share = Field(0.05, description="Version v1, v2: smallest class probability of a box.")
    box_nms: Share = Field(0.7, description="Version v1, v2: IoU of box NMS in each class, before masks are predicted.")
    nms: float = Field(0.5, ge=0, le=1, description="Duplicates: IoU of amodal masks above this; 1 = no mask NMS.")
    visible_nms: Share = Field(0.3, description="Duplicates: IoU of visible masks above this as well; 0 = any.")
    duplicate_factor: Share = Field(0.05, description="Factor on the score of duplicates (mask NMS); 0 removes them.")
    max_detections: Positive = Field(100, description="Largest number of instances per image.")
    decoding: DecodingRule = Field("sinkhorn", description="Joint decoding of all instances' levels; none: each alone.")
    hidden_threshold: Annotated[float, Field(ge=0.1, le=0.5)] = Field(
        0.4, description="Joint decoding: confidence above which a hidden part is inside."
    )


class CompletionConfig(_Section):
    """Completion of given masks (sln complete)."""

    prior_steps: int = Field(
        0, ge=0, description="Steps of training a shape prior on the masks of the cache, after the network; 0 = none."
    )
    prior_weight: Share = Field(0.4, description="Weight of the shape prior beside the head; tuned.")
    prompted_weight: Share = Field(0.6, description="Weight of the prediction with prompts beside that without; tuned.")
    extent_confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.4, description="Confidence above which an object extends to a cell; tuned."
    )


class Config(_Section):
    """All settings.

    Examples:
        >>> import sln
        >>> config = sln.load_config("tiny", settings=["train.steps=100"])
        >>> config.train.steps, config.head.kind
        (100, 'sln')
    """

    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    detector: DetectorConfig = DetectorConfig()
    layering: LayeringConfig = LayeringConfig()
    proposals: ProposalConfig = ProposalConfig()
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()
    completion: CompletionConfig = CompletionConfig()

    def __repr__(self) -> str:
        backbone = self.encoder.backbone or f"ResNet-{self.encoder.depth}"
        parts = f"{self.data.size} px, {backbone}, detector {self.detector.version}, head {self.head.kind}"
        return f"Config({parts}, {self.train.steps:,} steps; model_dump() shows all)"

    @model_validator(mode="after")
    def _check(self) -> "Config":
        problems = [*self._detector_problems(), *self._training_problems()]
        if self.head.out % self.head.roi:
            problems.append(f"head.out ({self.head.out}) is not a multiple of head.roi ({self.head.roi})")
        if self.encoder.dilation and self.encoder.depth < 50:
            problems.append("encoder.dilation needs encoder.depth 50 or more")
        if self.proposals.background_iou > self.proposals.foreground_iou:
            problems.append("proposals.background_iou is above proposals.foreground_iou")
        prompts = [stage_settings(self.train, stage).prompts for stage in self.train.stages]
        if self.completion.prior_steps and not (self.head.prompts and any(prompts)):
            problems.append("completion.prior_steps needs head.prompts and train.prompts")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _training_problems(self) -> Iterator[str]:
        train = self.train
        for batch in dict.fromkeys(stage.batch or train.batch for stage in train.stages):
            if batch % train.accumulate:
                yield f"train.batch ({batch}) is not a multiple of train.accumulate ({train.accumulate})"
        fixed = [stage.steps for stage in train.stages if stage.steps]
        if sum(fixed) > train.steps or (len(fixed) == len(train.stages) and sum(fixed) < train.steps):
            yield f"train.steps is {train.steps}, but the steps of train.stages are {sum(fixed)}: change one of them"
        elif train.steps < len(train.stages):
            yield f"train.steps ({train.steps}) are fewer than the {len(train.stages)} stages"
        elif 0 in (steps := steps_of(train)):
            stage = train.stages[steps.index(0)].name
            yield f"stage {stage} has no step: its share of train.steps ({train.steps}) is too small"

    def _detector_problems(self) -> Iterator[str]:
        if self.detector.version != "paper" and len(self.proposals.sizes) != 5:
            yield f"proposals.sizes has {len(self.proposals.sizes)} sizes, the pyramid five levels"
        if self.encoder.backbone and not self.encoder.backbone.startswith("timm:"):
            yield f"encoder.backbone is timm:NAME or empty, found {self.encoder.backbone!r}"
        if self.encoder.backbone and (self.detector.version == "paper" or self.detector.weights):
            yield "encoder.backbone needs detector.version v1 or v2, and no detector.weights"
        if self.detector.weights and (self.encoder.weights or self.detector.version == "paper"):
            yield "detector.weights needs detector.version v1 or v2, and includes the encoder's weights"
        pretrained = self.encoder.weights or self.detector.weights
        if self.encoder.frozen and not (pretrained or self.train.init):
            yield "encoder.frozen needs encoder.weights, detector.weights or train.init: a random backbone stays random"
        if self.train.init and pretrained:
            yield "train.init starts from weights of your own: leave out encoder.weights and detector.weights"
        ids = [category.id for category in self.detector.categories]
        if len(set(ids)) < len(ids):
            yield "detector.categories has the same id twice"


def steps_of(train: TrainConfig) -> list[int]:
    """Steps of each stage; together they are ``train.steps``."""
    rest = train.steps - sum(stage.steps or 0 for stage in train.stages)
    shares = [0.0 if stage.steps else stage.share for stage in train.stages]
    ends = [round(part / (sum(shares) or 1) * rest) for part in accumulate(shares)]
    divided = (stop - start for start, stop in pairwise([0, *ends]))
    return [stage.steps or steps for stage, steps in zip(train.stages, divided, strict=True)]


def stage_settings(train: TrainConfig, stage: Stage) -> TrainConfig:
    """The settings of training with those of a stage."""
    return train.model_copy(update=stage.model_dump(exclude={"name", "share", "steps"}, exclude_none=True))
