"""Exported models: the network as parts of fixed shapes, ONNX files.

    trunk    photo [1, 3, side, side], float in [0, 1] -> maps, layers, boxes [A, 4] and objectness logits [A]
             of anchors
    boxes    maps, ROIs [P, 4] -> class probabilities [P, classes + 1] and moved boxes [P, classes + 1, 4]
    levels   maps, layers, photo, ROIs [P, 4], prompts [P, 3, S, S] -> level probabilities [P, K + 1, S, S],
             pooled input [P, f, s, s] and logits [P, c, S, S] of the head
    context  those three and maps of the others [P, K + 5, S, S] (:func:`sln.network.context.context_maps`) -> level
             probabilities

Everything without a fixed shape lies between the parts, in :meth:`ExportedModel.detect`: NMS of proposals and classes,
the maps of the others, and any number of ROIs, P at a time. ``boxes`` is missing in the paper's version, ``context``
without a context stage. ``exported.json`` holds the network's settings and the numbers above. The parts run the
network's own modules (:class:`sln.network.roi_pool.RoIPool` with ``static`` shapes).

Exported parts are code, so they run only where a user names ``exported.json``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from amodal_data.io.files import open_regular, replaced_path, write_text
from sln.config import Config
from sln.errors import MachineError, WeightsError
from sln.network.box_head import BoxHead, filter_detections
from sln.network.build import build_rpn
from sln.network.context import ContextStage, context_maps
from sln.network.duplicates import group_duplicates
from sln.network.roi_pool import PROMPT_MAPS, Features, ROIs
from sln.network.sln import SLN, Detections
from sln.network.targets import Sizes

Program = Callable[..., tuple[Tensor, ...]]
SETTINGS = "exported.json"  # The file beside the parts
_SCHEMA = "sln-exported/1"
# P of each part: of a hundred proposals only few remain where an object is
_ROIS = {"boxes": 100, "levels": 16, "context": 16}


class _Trunk(nn.Module):
    """Encoder, GLM and RPN; anchors are constants."""

    def __init__(self, model: SLN) -> None:
        super().__init__()
        self.model = model
        side = model.config.data.size
        with torch.no_grad():
            inputs = model.rpn_input(model.features(torch.zeros(1, 3, side, side)))
            objectness, _ = model.rpn.head(inputs)
            images = ImageList(torch.zeros(1, 3, side, side), [(side, side)])
            anchors = model.rpn.anchor_generator(images, objectness)[0]
        self.anchor_counts = [level[0].numel() for level in objectness]
        self.register_buffer("anchors", anchors)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.model.features(images)
        objectness, deltas = self.model.rpn.head(self.model.rpn_input(features))
        logits, moved = concat_box_prediction_layers(objectness, deltas)
        boxes = self.model.rpn.box_coder.decode(moved, [self.anchors])[:, 0]
        return (*features.maps[:4], features.layers, boxes, logits.flatten())


class _Boxes(nn.Module):
    """The box head."""

    def __init__(self, head: BoxHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, p2: Tensor, p3: Tensor, p4: Tensor, p5: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.head([p2, p3, p4, p5], [boxes])
        return logits.softmax(-1), self.head.decode(deltas, [boxes])


class _Levels(nn.Module):
    """ROI pooling and the ROI head."""

    def __init__(self, model: SLN) -> None:
        super().__init__()
        self.roi_pool, self.roi_head = model.roi_pool, model.roi_head

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        *maps, layers, photo, boxes, prompts = inputs
        rois = ROIs.distinct(boxes, torch.zeros_like(boxes[:, 0]))
        pooled = self.roi_pool(Features(maps, layers, photo), rois, prompts)
        logits = self.roi_head(pooled)[-1]
        return self.roi_head.to_probabilities(logits), pooled, logits


class _Context(nn.Module):
    """The context stage."""

    def __init__(self, model: SLN, context: ContextStage) -> None:
        super().__init__()
        self.roi_head, self.context = model.roi_head, context

    def forward(self, probabilities: Tensor, pooled: Tensor, logits: Tensor, maps: Tensor) -> Tensor:
        return self.roi_head.to_probabilities(self.context(pooled, logits, probabilities, maps))


def export_model(model: SLN, folder: Path) -> list[str]:
    """Write the parts of a network into a folder, and load them once; returns their names.

    Raises :class:`MachineError` if a package for ONNX is missing.
    """
    model = model.cpu().eval()
    model.roi_pool.static = True
    if model.box_head is not None:
        model.box_head.static = True
    trunk = _Trunk(model).eval()
    parts = _parts(model, trunk)
    for name, (part, inputs) in parts.items():
        _write_part(part, inputs, folder / f"{name}.onnx")
    counts = {name: count for name, count in _ROIS.items() if name in parts}
    header = {"schema": _SCHEMA, "rois": counts, "anchors": trunk.anchor_counts, "parts": list(parts)}
    content = {**header, "config": model.config.model_dump(mode="json")}
    write_text(folder / SETTINGS, json.dumps(content, indent=1) + "\n")
    load_exported(folder)
    return [*(f"{name}.onnx" for name in parts), SETTINGS]


@torch.no_grad()
def _parts(model: SLN, trunk: _Trunk) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """The parts with inputs to trace them by."""
    side, out = model.config.data.size, model.roi_pool.out
    photo, box = torch.rand(1, 3, side, side), torch.tensor([[0.0, 0, side / 2, side / 2]])
    boxes = box.repeat(_ROIS["levels"], 1)
    *maps, layers, _, _ = trunk(photo)
    levels = _Levels(model).eval()
    inputs = (*maps, layers, photo, boxes, torch.zeros(len(boxes), PROMPT_MAPS, out, out))
    parts: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {"trunk": (trunk, (photo,))}
    if model.box_head is not None:
        parts["boxes"] = (_Boxes(model.box_head).eval(), (*maps, box.repeat(_ROIS["boxes"], 1)))
    parts["levels"] = (levels, inputs)
    if model.context is not None:
        outputs = levels(*inputs)
        rois = ROIs.distinct(boxes, torch.zeros(len(boxes), dtype=torch.int64))
        parts["context"] = (_Context(model, model.context).eval(), (*outputs, context_maps(outputs[0], rois, side)))
    return parts


@torch.no_grad()
def _write_part(part: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    try:
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise MachineError("onnx and onnxscript are not installed", fix='pip install "amodal-data[onnx]"') from error
    with replaced_path(path) as temporary:
        torch.onnx.export(
            torch.export.export(part, inputs), (), temporary, dynamo=True, external_data=False, verbose=False
        )


class ExportedModel:
    """A network from its parts: ``config`` and :meth:`detect` as :class:`sln.network.sln.SLN` has them."""

    def __init__(self, config: Config, header: dict[str, Any], parts: dict[str, Program]) -> None:
        self.config = config
        self._counts = {name: int(header["rois"][name]) for name in parts if name != "trunk"}
        self._anchors, self._parts = list(header["anchors"]), parts
        # only the rules of the RPN are used, not its weights
        self._rpn = build_rpn(config.encoder.channels, config.proposals, config.detector).eval()

    @torch.no_grad()
    def detect(self, images: Tensor, image_sizes: Sizes | None = None) -> list[Detections]:
        """Detections in each input, uint8 or float in [0, 1], [B, 3, side, side]; see :meth:`SLN.detect`."""
        side = self.config.data.size
        floats = images.float() / 255 if images.dtype == torch.uint8 else images
        sizes = image_sizes or [(side, side)] * len(images)
        return [self._detect(photo[None], size) for photo, size in zip(floats, sizes, strict=True)]

    def _detect(self, photo: Tensor, size: tuple[int, int]) -> Detections:
        side, out = self.config.data.size, self.config.head.out
        *maps, layers, anchors, objectness = self._parts["trunk"](photo)
        (boxes,), (scores,) = self._rpn.filter_proposals(anchors[None], objectness[None], [size], self._anchors)
        classes = torch.zeros(len(boxes), dtype=torch.int64)
        if "boxes" in self._parts:
            probabilities, moved = self._run("boxes", tuple(maps), boxes)
            boxes, scores, classes = filter_detections(moved, probabilities, size, self.config.predict)
        prompts = torch.zeros(len(boxes), PROMPT_MAPS, out, out)
        levels, pooled, logits = self._run("levels", (*maps, layers, photo), boxes, prompts)
        objects = group_duplicates(levels, boxes, scores, side)
        if "context" in self._parts:
            rois = ROIs(boxes, torch.zeros(len(boxes), dtype=torch.int64), objects, scores)
            (levels,) = self._run("context", (), levels, pooled, logits, context_maps(levels, rois, side))
        return Detections(boxes, scores, classes, levels, objects)

    def _run(self, name: str, shared: tuple[Tensor, ...], *rows: Tensor) -> tuple[Tensor, ...]:
        """A part on any number of ROIs, after its ``shared`` inputs: as many at a time as it was exported for."""
        outputs, total, count = [], len(rows[0]), self._counts[name]
        for start in range(0, max(1, total), count):
            inputs = [_fill(column[start : start + count], count) for column in rows]
            outputs.append(self._parts[name](*shared, *inputs))
        return tuple(torch.cat(columns)[:total] for columns in zip(*outputs, strict=True))


def _fill(rows: Tensor, count: int) -> Tensor:
    """``count`` rows: the last one repeated, or ones where there is none."""
    last = rows[-1:] if len(rows) else rows.new_ones(1, *rows.shape[1:])
    return torch.cat([rows, last.expand(count - len(rows), *rows.shape[1:])])


def load_exported(folder: Path) -> ExportedModel:
    """The network that :func:`export_model` wrote, run by onnxruntime.

    Raises :class:`WeightsError` if it is missing or damaged, :class:`MachineError` if onnxruntime is missing.
    """
    try:
        with open_regular(folder / SETTINGS) as file:
            header = json.load(file)
        if header["schema"] != _SCHEMA:
            raise ValueError(f"schema {header['schema']!r:.40}")
        if not set(header["parts"]) <= {"trunk", *_ROIS}:
            raise ValueError("it names parts that no network has")
        parts = {name: _onnx_part(folder / f"{name}.onnx") for name in header["parts"]}
        return ExportedModel(Config.model_validate(header["config"]), header, parts)
    except MachineError:
        raise
    except Exception as error:  # whatever these files make onnxruntime or JSON say
        message = str(error).split("\n")[0][:150]
        raise WeightsError(f"not a usable exported model: {message}", place=str(folder)) from error


def _onnx_part(path: Path) -> Program:
    try:
        import onnxruntime
    except ImportError as error:
        raise MachineError("onnxruntime is not installed", fix='pip install "amodal-data[onnx]"') from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=False)}
        return tuple(torch.from_numpy(output) for output in session.run(None, feed))

    return run
