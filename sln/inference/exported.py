"""The network without its code: parts of fixed shapes, as programs of ``torch.export`` or ONNX files.

    trunk   photo [1, 3, side, side], float in [0, 1] -> maps, layers, boxes [A, 4] and objectness logits [A] of anchors
    boxes   maps, regions [P, 4] -> class probabilities [P, classes + 1] and moved boxes [P, classes + 1, 4]
    levels  maps, layers, photo, regions [P, 4], prompts [P, 3, S, S] -> level probabilities [P, K + 1, S, S], and what
            the head saw and said [P, f, s, s], [P, c, S, S]
    scene   those three, and maps of the others [P, K + 5, S, S] (:func:`sln.network.context.context_maps`) -> level
            probabilities of the scene pass

What has no fixed shape lies between them, in :meth:`ExportedModel.detect`: box NMS of proposals and of classes, what the
others of a photo say, and P at a time, a number of its own for each part. ``boxes`` is left out in the paper's version,
``scene`` without a scene pass. ``portable.json`` has the network's settings and the numbers above.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import roi_align

from amodal_data.io.files import open_regular, replaced, replaced_path
from sln.config import Config
from sln.errors import MachineError, WeightsError
from sln.network.box_head import BoxHead, filter_detections
from sln.network.context import ContextStage, context_maps
from sln.network.duplicates import group_duplicates
from sln.network.prompts import PROMPTS, as_channels
from sln.network.rpn import build_rpn
from sln.network.sln import SLN, Detections

Runs = Callable[..., tuple[Tensor, ...]]
_SUFFIX = {"torch": ".pt2", "onnx": ".onnx"}
SETTINGS = "portable.json"
"""The file beside the parts"""

_SCHEMA = "sln/portable/4"
_REGIONS = {"boxes": 100, "levels": 16, "context": 16}
"""P of each part: of a hundred proposals few are left where there is something"""


class _Trunk(nn.Module):
    """Body, pyramid, GLM and RPN; anchors are constants."""

    def __init__(self, model: SLN) -> None:
        super().__init__()
        self.model = model
        side = model.config.data.size
        with torch.no_grad():
            seen = model.for_proposals(model.features(torch.zeros(1, 3, side, side)))
            objectness, _ = model.proposals.head(seen)
            images = ImageList(torch.zeros(1, 3, side, side), [(side, side)])
            anchors = model.proposals.anchor_generator(images, objectness)[0]
        self.levels = [one[0].numel() for one in objectness]
        self.register_buffer("anchors", anchors)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.model.features(images)
        objectness, deltas = self.model.proposals.head(self.model.for_proposals(features))
        scores, moved = concat_box_prediction_layers(objectness, deltas)
        boxes = self.model.proposals.box_coder.decode(moved, [self.anchors])[:, 0]
        return (*features.maps[:4], features.layers, boxes, scores.flatten())


class _Boxes(nn.Module):
    """The box head."""

    def __init__(self, model: SLN, head: BoxHead) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, p2: Tensor, p3: Tensor, p4: Tensor, p5: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        pooled = on_every_level(self.model, [p2, p3, p4, p5], regions, 7, 2, aligned=False)
        logits, deltas = self.head.predictor(self.head.head(pooled))
        return logits.softmax(-1), self.head.coder.decode(deltas, [regions])


class _Levels(nn.Module):
    """The head."""

    def __init__(self, model: SLN) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        *maps, layers, photo, regions, prompts = given
        model, own = self.model, self.model.regions
        parts = [on_every_level(model, maps, regions, own.cells, own.samples, aligned=True)]
        if model.head.sees_layers:
            parts.append(on_every_level(model, [layers], regions, own.cells, own.samples, aligned=True))
        if model.head.sees_photo:
            parts.append(model.of_photos(photo, _rois(regions)))
        if model.head.prompted:
            parts.append(as_channels(prompts, own.cells))
        seen = torch.cat(parts, 1)
        logits = model.head(seen)[-1]
        return model.head.meaning(logits), seen, logits


class _Scene(nn.Module):
    """The scene pass."""

    def __init__(self, model: SLN, scene: ContextStage) -> None:
        super().__init__()
        self.head, self.scene = model.head, scene

    def forward(self, said: Tensor, seen: Tensor, logits: Tensor, maps: Tensor) -> Tensor:
        return self.head.meaning(self.scene(seen, logits, said, maps))


def on_every_level(
    model: SLN, maps: Sequence[Tensor], regions: Tensor, cells: int, samples: int, *, aligned: bool
) -> Tensor:
    """ROI-Align of regions [P, 4] in one input, each from the level of a pyramid that fits it: all are looked at on all
    levels, so that nothing depends on the numbers.
    """
    rois = _rois(regions)
    found = [roi_align(one, rois, (cells, cells), 1 / (4 * 2**at), samples, aligned) for at, one in enumerate(maps)]
    if len(found) == 1:
        return found[0]
    levels = model.level_of([regions])[:, None, None, None]
    return torch.stack([one * (levels == at) for at, one in enumerate(found)]).sum(0)


def _rois(regions: Tensor) -> Tensor:
    """Regions [P, 4] of the one input there is."""
    return torch.cat([torch.zeros_like(regions[:, :1]), regions], 1)


def export_model(model: SLN, folder: Path, form: str) -> list[str]:
    """Write the parts of a network into a folder as ``torch`` or ``onnx``, and read them back; returns their names.

    Raises :class:`MachineError` if a package for ONNX is missing.
    """
    model = model.cpu().eval()
    model.stage = "joint"
    side, own = model.config.data.size, model.regions
    trunk = _Trunk(model).eval()
    photo, region = torch.rand(1, 3, side, side), torch.tensor([[0.0, 0, side / 2, side / 2]])
    regions = region.repeat(_REGIONS["levels"], 1)
    with torch.no_grad():
        *maps, layers, _, _ = trunk(photo)
    prompts = torch.zeros(len(regions), PROMPTS, own.out, own.out)
    parts: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {"trunk": (trunk, (photo,))}
    if model.boxes is not None:
        parts["boxes"] = (_Boxes(model, model.boxes).eval(), (*maps, region.repeat(_REGIONS["boxes"], 1)))
    levels = _Levels(model).eval()
    parts["levels"] = (levels, (*maps, layers, photo, regions, prompts))
    if model.context is not None:
        with torch.no_grad():
            said, seen, logits = levels(*maps, layers, photo, regions, prompts)
        each = torch.arange(len(regions))
        others = context_maps(said, regions, torch.zeros_like(each), torch.ones(len(regions)), each, side)
        parts["context"] = (_Scene(model, model.context).eval(), (said, seen, logits, others))
    for name, (part, inputs) in parts.items():
        _write_part(part, inputs, folder / (name + _SUFFIX[form]), form)
    numbers = {name: number for name, number in _REGIONS.items() if name in parts}
    about = {"schema": _SCHEMA, "form": form, "regions": numbers, "anchors": trunk.levels, "parts": list(parts)}
    with replaced(folder / SETTINGS) as file:
        file.write(json.dumps({**about, "config": model.config.model_dump(mode="json")}, indent=1) + "\n")
    load_exported(folder)
    return [*(name + _SUFFIX[form] for name in parts), SETTINGS]


@torch.no_grad()
def _write_part(part: nn.Module, inputs: tuple[Tensor, ...], path: Path, form: str) -> None:
    program = torch.export.export(part, inputs)
    if form == "torch":
        with replaced(path, "wb") as file:
            torch.export.save(program, file)
        return
    with replaced_path(path) as temporary:
        try:
            import onnxscript  # noqa: F401  what torch.onnx stands on
        except ImportError as error:
            raise MachineError(
                "onnx and onnxscript are not installed", fix='pip install "amodal-data[onnx]"'
            ) from error
        torch.onnx.export(program, (), temporary, dynamo=True, external_data=False, verbose=False)


class ExportedModel:
    """A network from its parts: ``config`` and :meth:`detect` as :class:`sln.network.sln.SLN` has them."""

    def __init__(self, config: Config, about: dict[str, Any], parts: dict[str, Runs]) -> None:
        self.config = config
        self._regions = {name: int(about["regions"][name]) for name in parts if name != "trunk"}
        self._anchors, self._parts = list(about["anchors"]), parts
        channels = config.encoder.channels  # only its rules are used, not its weights
        self._proposals = build_rpn(channels, config.proposals, config.detector).eval()

    @torch.no_grad()
    def detect(self, images: Tensor, shown: Sequence[tuple[int, int]] | None = None) -> list[Detections]:
        """What is in each input, uint8 or float in [0, 1], [B, 3, side, side]; see :meth:`SLN.detect`."""
        side = self.config.data.size
        floats = images.float() / 255 if images.dtype == torch.uint8 else images
        return [
            self._one(one[None], size) for one, size in zip(floats, shown or [(side, side)] * len(images), strict=True)
        ]

    def _one(self, photo: Tensor, shown: tuple[int, int]) -> Detections:
        *maps, layers, boxes, objectness = self._parts["trunk"](photo)
        found, scores = self._proposals.filter_proposals(boxes[None], objectness[None], [shown], self._anchors)
        boxes, score = found[0], scores[0]
        classes = torch.zeros(len(boxes), dtype=torch.int64)
        if "boxes" in self._parts:
            rules = self.config.predict
            probabilities, moved = self._in_parts("boxes", tuple(maps), boxes)
            own = filter_detections(
                moved, probabilities, shown, least=rules.min_score, nms=rules.box_nms, most=rules.max_detections
            )
            boxes, score, classes = own
        prompts = torch.zeros(len(boxes), PROMPTS, self.config.head.out, self.config.head.out)
        said, seen, logits = self._in_parts("levels", (*maps, layers, photo), boxes, prompts)
        objects = group_duplicates(said, boxes, score, self.config.data.size)
        if "context" in self._parts:
            images = torch.zeros(len(boxes), dtype=torch.int64)
            others = context_maps(said, boxes, images, score, objects, self.config.data.size)
            (said,) = self._in_parts("context", (), said, seen, logits, others)
        return Detections(boxes, score, classes, said, objects)

    def _in_parts(self, name: str, shared: tuple[Tensor, ...], *each: Tensor) -> tuple[Tensor, ...]:
        """A part on any number of regions, after what is ``shared`` by all: as many at a time as it was made for, the
        last of them repeated.
        """
        found, regions, most = [], len(each[0]), self._regions[name]
        for at in range(0, max(1, regions), most):
            some = [_filled(one[at : at + most], most) for one in each]
            found.append(self._parts[name](*shared, *some))
        return tuple(torch.cat(several)[:regions] for several in zip(*found, strict=True))


def _filled(some: Tensor, rows: int) -> Tensor:
    """As many rows as a part was made for; without any, 1."""
    missing = rows - len(some)
    last = some[-1:] if len(some) else some.new_ones(1, *some.shape[1:])
    return torch.cat([some, last.expand(missing, *some.shape[1:])])


def load_exported(folder: Path) -> ExportedModel:
    """The network that :func:`export_model` wrote: run by torch or by onnxruntime, as the files are.

    Raises :class:`WeightsError` if it is not there or damaged, :class:`MachineError` if onnxruntime is missing.
    """
    try:
        with open_regular(folder / SETTINGS) as file:
            about = json.load(file)
        if about["schema"] != _SCHEMA:
            raise ValueError(f"schema {about['schema']!r:.40}")
        config, form = Config.model_validate(about["config"]), about["form"]
        runs = {"torch": _torch_part, "onnx": _onnx_part}[form]
        parts = {name: runs(folder / (name + _SUFFIX[form])) for name in about["parts"]}
        return ExportedModel(config, about, parts)
    except MachineError:
        raise
    except Exception as error:  # whatever these files make torch, onnxruntime or JSON say
        said = str(error).split("\n")[0][:150]
        raise WeightsError(f"no exported network that can be used: {said}", place=str(folder)) from error


def _torch_part(path: Path) -> Runs:
    part = torch.export.load(path).module()

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        found = part(*inputs)
        return found if isinstance(found, tuple) else (found,)

    return run


def _onnx_part(path: Path) -> Runs:
    try:
        import onnxruntime
    except ImportError as error:
        raise MachineError("onnxruntime is not installed", fix='pip install "amodal-data[onnx]"') from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    wanted = {name: number for number, name in enumerate(names)}

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        feed = {name: inputs[wanted[name]].numpy() for name in names}
        return tuple(torch.from_numpy(one) for one in session.run(None, feed))

    return run
