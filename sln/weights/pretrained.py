"""Load pretrained weights: torchvision's Mask R-CNN or ResNet, and backbones of timm. Names and shapes must match."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sln.config import Category, Config
from sln.errors import WeightsError
from sln.weights.files import check_tensors, read_content, tensors_of

_PREFIXES = {
    "backbone.body.": "encoder.backbone.",
    "backbone.fpn.": "encoder.fpn.",
    "rpn.head.": "rpn.head.",
    "roi_heads.box_head.": "box_head.head.",
    "roi_heads.box_predictor.": "box_head.predictor.",
}  # Prefixes of torchvision's Mask R-CNN and the same parts here
_UNUSED = ("roi_heads.mask_head.", "roi_heads.mask_predictor.")
_PREDICTOR = "box_head.predictor."
_COCO_CLASSES = 91
_OLD_NAMES = {
    r"^rpn\.head\.conv\.(weight|bias)$": r"rpn.head.conv.0.0.\1",
    r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$": r"\1.0.\2",
}  # Names before torchvision 0.13, and since
_COUNTER = "num_batches_tracked"


def load_pretrained(model: Any, config: Config) -> Iterator[str]:
    """Load the pretrained weights that the settings name; yields one line for each part, loaded or not.

    Raises :class:`WeightsError` if names or shapes differ, before anything is changed.
    """
    if config.detector.weights:
        yield from _load_detector(model, config)
    elif config.encoder.backbone and config.encoder.weights:
        yield _load_timm(model.encoder.backbone, config.encoder.backbone.removeprefix("timm:"), config.encoder.weights)
    elif config.encoder.weights:
        yield load_backbone(model.encoder.backbone, config.encoder.weights, config.encoder.depth)


def load_backbone(backbone: nn.Module, weights: str, depth: int) -> str:
    """Load a ResNet and return one line that says what was loaded.

    weights: ``imagenet``, or a torchvision checkpoint of Mask R-CNN (``backbone.body.*``) or of a plain ResNet.
    Raises :class:`WeightsError` if names or shapes differ.
    """
    if weights == "imagenet" and depth == 10:
        raise WeightsError("there are no ImageNet weights for a ResNet of 10 layers", fix="encoder.depth 18 or more")
    state, place = _state_dict(weights, f"resnet{depth}" if weights == "imagenet" else "")
    prefix = "backbone.body."
    body = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    kept = {name: value for name, value in (body or state).items() if not name.startswith("fc.")}
    return f"encoder: {_load(backbone, kept, place)} tensors from {place}{' (Mask R-CNN)' if body else ''}"


def _load_detector(model: Any, config: Config) -> Iterator[str]:
    """Load backbone, FPN, RPN and box head from torchvision's Mask R-CNN of the same version."""
    is_download = config.detector.weights == "coco"
    if is_download and config.encoder.depth != 50:
        raise WeightsError("torchvision's Mask R-CNN has a ResNet of 50 layers", fix="encoder.depth 50")
    download = "maskrcnn_resnet50_fpn" + "_v2" * (config.detector.version == "v2") if is_download else ""
    stored, place = _state_dict(config.detector.weights, download)
    checkpoint = {_new_name(name): value for name, value in stored.items()}
    if not any(name.startswith("roi_heads.") for name in checkpoint):
        fix = "encoder.weights loads a backbone alone"
        raise WeightsError("this is not a Mask R-CNN of torchvision", place=place, fix=fix)
    unused = [name for name in checkpoint if name.startswith(_UNUSED)]
    prefixes = {name: prefix for name in checkpoint for prefix in _PREFIXES if name.startswith(prefix)}
    if unknown := [name for name in checkpoint if name not in prefixes and name not in unused]:
        raise WeightsError(f"{len(unknown)} tensors do not belong to a Mask R-CNN ({unknown[0]})", place=place)
    state = {_PREFIXES[part] + name.removeprefix(part): checkpoint[name] for name, part in prefixes.items()}
    yield from _load_parts(model, config.detector.categories, state, place)
    yield f"not loaded: {len(unused)} tensors of its mask head"


def _load_parts(model: Any, categories: tuple[Category, ...], state: dict[str, Tensor], place: str) -> Iterator[str]:
    """Load all parts; the last layers of the box head only if the classes agree."""
    rows = _class_rows(state, categories, model.state_dict()[f"{_PREDICTOR}cls_score.bias"])
    predictor = {name: state.pop(name) for name in list(state) if name.startswith(_PREDICTOR)}
    if rows is not None:
        classes = len(predictor[f"{_PREDICTOR}cls_score.bias"])
        for name, value in predictor.items():  # each class has one row (scores) or four (boxes)
            fits = value.shape[0] % classes == 0  # else the check of shapes reports it
            state[name] = value.view(classes, -1, *value.shape[1:])[rows].flatten(0, 1) if fits else value
    prefixes = tuple(prefix for prefix in _PREFIXES.values() if rows is not None or prefix != _PREDICTOR)
    _load(model, state, place, prefixes)
    for prefix in _PREFIXES.values():
        if count := sum(name.startswith(prefix) for name in state):
            yield f"{prefix.rstrip('.')}: {count} tensors from {place}"
    if rows is None:
        yield "not loaded: the last layers of its box head, which has other classes"


def _class_rows(state: Mapping[str, Tensor], categories: tuple[Category, ...], bias: Tensor) -> list[int] | None:
    """Rows of the checkpoint's classes that are the network's, background first.

    All if there are equally many; by name if the checkpoint has COCO's 91; None if the classes do not agree.
    """
    checkpoint_bias = state.get(f"{_PREDICTOR}cls_score.bias")
    if checkpoint_bias is None or checkpoint_bias.ndim != 1:
        return None
    if len(checkpoint_bias) == _COCO_CLASSES:
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

        coco_names = MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
        names = [category.name for category in categories]
        if names and all(name in coco_names for name in names):
            return [0, *(coco_names.index(name) for name in names)]
    return list(range(len(bias))) if len(checkpoint_bias) == len(bias) else None


def _load_timm(backbone: Any, name: str, weights: str) -> str:
    """Load a backbone of timm from its download (``pretrained``) or a local checkpoint of the whole model."""
    import timm

    is_local = weights != "pretrained"
    if is_local and not Path(weights).is_file():
        raise WeightsError("there is no such checkpoint", place=weights)
    options: dict[str, Any] = {"features_only": True, "out_indices": list(backbone.feature_info.out_indices)}
    options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": weights} if is_local else {}}
    try:
        models = [timm.create_model(name, **options) for copy in (1, 2)]
    except Exception as error:  # timm raises anything for a foreign or damaged file
        message = str(error).splitlines()[0][:200]
        raise WeightsError(f"timm cannot load these weights: {message}", place=weights) from error
    state, copied = (model.state_dict() for model in models)
    # timm ignores unknown names, so a tensor that it did not load is random and differs between two models
    if missing := [name for name, x in state.items() if not torch.equal(x.nan_to_num(), copied[name].nan_to_num())]:
        raise WeightsError(f"{len(missing)} tensors of {name} are not in this file ({missing[0]})", place=weights)
    place = weights if is_local else f"timm {name}"
    return f"encoder: {_load(backbone, state, place)} tensors from {place}"


def _state_dict(path: str, download: str) -> tuple[dict[str, Tensor], str]:
    """The state dict of a torchvision model to ``download`` or of a file, and the name of that place.

    A file holds it as its content, or as its entry ``model`` (torchvision's training scripts).
    """
    if download:
        from torchvision.models import get_model_weights

        return get_model_weights(download).DEFAULT.get_state_dict(progress=False), f"torchvision {download}"
    content = read_content(Path(path))
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    return tensors_of(content, path), path


def _load(module: nn.Module, state: Mapping[str, Tensor], place: str, prefixes: tuple[str, ...] = ("",)) -> int:
    """Load exactly the tensors of the ``prefixes``, batch counters aside; returns their number."""
    parts = {name: x for name, x in module.state_dict().items() if name.startswith(prefixes)}
    expected, tensors = ({k: x for k, x in part.items() if not k.endswith(_COUNTER)} for part in (parts, state))
    check_tensors(expected, tensors, place)
    module.load_state_dict(tensors, strict=False)
    return len(tensors)


def _new_name(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        name = re.sub(old, new, name)
    return name
