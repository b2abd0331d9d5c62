"""Weights of others to start from: torchvision's Mask R-CNN or ResNet, bodies of timm. Names and shapes must fit."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sln.config import Category, Config
from sln.errors import WeightsError
from sln.network.sln import SLN
from sln.weights.efficientnet import is_efficientnet, timm_names
from sln.weights.files import check_tensors, read_content, tensors_of

_PARTS = {
    "backbone.body.": "encoder.backbone.",
    "backbone.fpn.": "encoder.fpn.",
    "rpn.head.": "proposals.head.",
    "roi_heads.box_head.": "boxes.head.",
    "roi_heads.box_predictor.": "boxes.predictor.",
}
"""Where the parts of torchvision's Mask R-CNN live here; its mask head has no counterpart"""
_UNUSED = ("roi_heads.mask_head.", "roi_heads.mask_predictor.")
_PREDICTOR = "boxes.predictor."
_OLD_NAMES = ((r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
              (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"))  # fmt: skip
"""As torchvision called them before its version 0.13"""
_COUNTED = "num_batches_tracked"


def load_pretrained(model: SLN, config: Config) -> Iterator[str]:
    """Fill a network with the pretrained weights of its settings; yields lines that say what was taken and what not.

    Raises :class:`WeightsError` if names or shapes differ, before anything is changed.
    """
    if config.detector.weights:
        yield from _load_detector(model, config)
    elif config.encoder.backbone and config.encoder.weights:
        yield _load_timm(model.encoder.backbone, config.encoder.backbone.removeprefix("timm:"), config.encoder.weights)
    elif config.encoder.weights:
        yield load_backbone(model.encoder.backbone, config.encoder.weights, config.encoder.depth)


def load_backbone(body: nn.Module, weights: str, depth: int) -> str:
    """Fill a ResNet from ``weights``: a torchvision checkpoint (``backbone.body.*`` of Mask R-CNN, or a plain ResNet),
    or ``imagenet``. Returns one line that says what was loaded; raises :class:`WeightsError` if names or shapes differ.
    """
    if weights == "imagenet":
        from torchvision.models import get_model_weights

        if depth == 10:
            raise WeightsError(
                "there are no ImageNet weights for a ResNet of 10 layers", fix="encoder.depth 18 or more"
            )
        found: Any = get_model_weights(f"resnet{depth}").DEFAULT.get_state_dict(progress=False)
        place = f"torchvision resnet{depth}"
    else:
        found, place = read_content(Path(weights)), weights
    given = _state(found, place)
    prefix = "backbone.body."
    detector = any(name.startswith(prefix) for name in given)
    own = {name.removeprefix(prefix): value for name, value in given.items() if not detector or name.startswith(prefix)}
    taken = _take(body, {name: value for name, value in own.items() if not name.startswith("fc.")}, place)
    return f"encoder: {taken} tensors from {place}{' (Mask R-CNN)' if detector else ''}"


def _load_detector(model: SLN, config: Config) -> Iterator[str]:
    """Body, pyramid, RPN and box head of torchvision's Mask R-CNN of the same version."""
    version, weights = config.detector.version, config.detector.weights
    found, place = (_downloaded(version, config.encoder.depth) if weights == "coco"
                    else (read_content(Path(weights)), weights))  # fmt: skip
    given = {_todays_name(name): value for name, value in _state(found, place).items()}
    if not any(name.startswith("roi_heads.") for name in given):
        raise WeightsError(
            "this is no Mask R-CNN of torchvision", place=place, fix="encoder.weights takes a body alone"
        )
    own, unused, strange = {}, 0, []
    for name, value in given.items():
        part = next((part for part in _PARTS if name.startswith(part)), None)
        if part is not None:
            own[_PARTS[part] + name.removeprefix(part)] = value
        elif name.startswith(_UNUSED):
            unused += 1
        else:
            strange.append(name)
    if strange:
        raise WeightsError(f"{len(strange)} tensors of no part of a Mask R-CNN ({strange[0]})", place=place)
    yield from _taken(model, config.detector.categories, own, place)
    yield f"not taken: {unused} tensors of its mask head"


def _taken(model: SLN, categories: tuple[Category, ...], own: dict[str, Tensor], place: str) -> Iterator[str]:
    """Fill the parts, the last layers of the box head only where the classes agree."""
    rows = _rows(own, categories, model.state_dict()[f"{_PREDICTOR}cls_score.bias"])
    predictor = {name: own.pop(name) for name in list(own) if name.startswith(_PREDICTOR)}
    if rows is not None:
        classes = len(predictor[f"{_PREDICTOR}cls_score.bias"])
        own |= {name: _of_rows(value, rows, classes) for name, value in predictor.items()}
    names = tuple(_PARTS.values())
    wanted = {name for name in model.state_dict() if name.startswith(names)}
    wanted = {name for name in wanted if rows is not None or not name.startswith(_PREDICTOR)}
    _take(model, own, place, wanted)
    for part in names:
        if count := sum(name.startswith(part) for name in own):
            yield f"{part.rstrip('.')}: {count} tensors from {place}"
    if rows is None:
        yield "not taken: the last layers of its box head, whose classes are others"


def _rows(own: Mapping[str, Tensor], categories: tuple[Category, ...], bias: Tensor) -> list[int] | None:
    """Which classes of the checkpoint are the network's, background first: all, if there are as many; those of the same
    names, if they are COCO's 91; None = they do not agree.
    """
    found = own.get(f"{_PREDICTOR}cls_score.bias")
    if found is None or found.ndim != 1:
        return None
    if len(found) == 91:
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

        known = MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
        names = [category.name for category in categories]
        if names and all(name in known for name in names):
            return [0, *(known.index(name) for name in names)]
    return list(range(len(bias))) if len(found) == len(bias) else None


def _of_rows(value: Tensor, rows: list[int], classes: int) -> Tensor:
    """The rows of some of the ``classes``, of which each has one (scores) or four (boxes)."""
    if value.shape[0] % classes:
        return value  # of no such shape, which is said when shapes are checked
    return value.view(classes, -1, *value.shape[1:])[rows].flatten(0, 1)


def _downloaded(version: str, depth: int) -> tuple[Any, str]:
    from torchvision.models import get_model_weights

    if depth != 50:
        raise WeightsError("torchvision's Mask R-CNN has a ResNet of 50 layers", fix="encoder.depth 50")
    name = "maskrcnn_resnet50_fpn" + ("_v2" if version == "v2" else "")
    return get_model_weights(name).DEFAULT.get_state_dict(progress=False), f"torchvision {name}"


def _load_timm(body: Any, name: str, weights: str) -> str:
    """Fill a body of timm from its own download (``pretrained``) or a local checkpoint of the whole model."""
    import timm

    path = None if weights == "pretrained" else Path(weights)
    if path is not None and not path.is_file():
        raise WeightsError("there is no such checkpoint", place=weights)
    overlay = {} if path is None else _checkpoint(name, path)
    at = list(body.feature_info.out_indices)
    try:
        full = timm.create_model(
            name, features_only=True, pretrained=True, pretrained_cfg_overlay=overlay, out_indices=at
        )
    except Exception as error:  # whatever timm makes of a foreign or damaged file
        said = str(error).splitlines()[0][:200]
        raise WeightsError(f"timm cannot take these weights: {said}", place=weights) from error
    place = weights if path is not None else f"timm {name}"
    return f"encoder: {_take(body, full.state_dict(), place)} tensors from {place}"


def _checkpoint(name: str, path: Path) -> dict[str, Any]:
    """A local checkpoint as timm takes it: as a file, or, where names are others, as what is in it."""
    try:
        found = {} if path.suffix == ".safetensors" else _state(read_content(path), str(path))
    except WeightsError:  # timm says what is wrong with it
        found = {}
    if not is_efficientnet(found):
        return {"file": str(path)}
    import timm

    return {"state_dict": timm_names(found, timm.create_model(name).state_dict())}


def _state(found: Any, place: str) -> dict[str, Tensor]:
    """The state dict in a file: as it is, or under ``model``, as torchvision's training scripts write it."""
    if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
        found = found["model"]
    return tensors_of(found, place)


def _take(module: nn.Module, given: Mapping[str, Tensor], place: str, only: set[str] | None = None) -> int:
    """Fill a module (or the names ``only``) with exactly what is given; counters of batches aside. Returns how many."""
    wanted = {name: tensor for name, tensor in module.state_dict().items() if only is None or name in only}
    wanted = {name: tensor for name, tensor in wanted.items() if not name.endswith(_COUNTED)}
    own = {name: tensor for name, tensor in given.items() if not name.endswith(_COUNTED)}
    check_tensors(wanted, own, place)
    module.load_state_dict(own, strict=False)
    return len(own)


def _todays_name(name: str) -> str:
    for old, new in _OLD_NAMES:
        name = re.sub(old, new, name)
    return name
