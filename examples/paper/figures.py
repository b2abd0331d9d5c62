"""Draw Figures 1, 2, 5 and 6 of the paper from this run's predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from plan import NETWORKS, TITLES, Plan

import amodal_data as ad
import sln
from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import Truth, read_truth
from amodal_data.inspector.drawing.colors import IDENTITY, distinct_hues, level_colors, sem_dist_colors
from amodal_data.inspector.drawing.labels import sem_dist_legend, striped_legend, swatches
from amodal_data.inspector.drawing.panels import as_image, dim, draw_count_map, draw_instances, draw_outline
from amodal_data.inspector.drawing.sheets import PANEL_WIDTH, Panel, panel_sheet, panel_size
from amodal_data.inspector.layered_predictions import layered_predictions, match_predictions
from amodal_data.io.images import read_photo
from amodal_data.io.pictures import save_picture
from amodal_data.masks.rle import iou
from amodal_data.readers.discovery import PhotoFinder
from sln.inference.predictor import prepare_photo
from sln.network.glm import STRIDE
from sln.ordering.order_net import PairMaps
from sln.ordering.pair_maps import predicted_maps

MOST_INSTANCES = 8
"""Images with more instances are too crowded to look at."""
ROWS = 4
"""Images in Figures 5 and 6."""
Picture = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """A validation image: its photo and its true targets."""

    image_id: int
    file: Path
    truth: ad.LayeredTargets

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width of its panels."""
        return panel_size(self.truth.size, PANEL_WIDTH)

    @cached_property
    def photo(self) -> Picture:
        """The photo at the size of a panel."""
        return np.asarray(Image.fromarray(read_photo(self.file)).resize(self.shape[::-1]), np.float64)

    @property
    def image(self) -> Panel:
        """The photo as a panel."""
        return Panel(as_image(self.photo), self.file.name)

    def matches(self, predictions: Sequence[ad.ScoredMask]) -> list[ad.ScoredMask | None]:
        """Return the prediction of each true instance, of largest IoU and at least 0.3; None if there is none."""
        rows = match_predictions(iou(self.truth.rles(), [mask.amodal for mask in predictions]))
        return [None if row is None else predictions[row] for row in rows]

    def at_panel(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Sample maps [..., H, W] at the size of a panel, the nearest pixel."""
        rows, columns = (
            ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(self.shape, maps.shape[-2:], strict=True)
        )
        return maps[..., rows[:, None], columns]


def choose_scenes(plan: Plan, dataset: str, rows: int) -> tuple[list[Scene], Truth]:
    """Return the images with the most hidden pixels among those of few instances, by the ground truth alone."""
    cache = plan.cache(dataset, "val")
    hidden = {}
    for image in read_truth(cache).images:
        if len(image.targets.names) <= MOST_INSTANCES and len(image.targets.pairs):
            areas, visible = image.targets.areas()
            hidden[image.image_id] = (areas - visible).sum() / np.prod(image.targets.size)
    ids = sorted(hidden, key=lambda image_id: (-hidden[image_id], image_id))[:rows]
    truth, finder = read_truth(cache, only=ids), PhotoFinder([plan.folders[dataset]])
    scenes = {image.image_id: image for image in truth.images}
    return [Scene(i, Path(str(finder.find(scenes[i].file_name))), scenes[i].targets) for i in ids], truth


def draw_figures(plan: Plan, dataset: str) -> dict[str, Any]:
    """Draw Figures 1, 2 and 5 (COCOA) or 6 (D2SA) into ``figures/``."""
    scenes, truth = choose_scenes(plan, dataset, ROWS)
    pictures = {}
    if not scenes:
        print("  no image has overlapping objects, and few enough to draw")
    elif dataset == "cocoa":
        predictions = read_predictions(plan.predictions("sln", dataset), truth).images
        pairs = [(scene, scene.matches(predictions.get(scene.image_id, ()))) for scene in scenes]
        scene, matches = max(pairs, key=lambda pair: sum(match is not None for match in pair[1]))
        pictures = {"figure1": pipeline(plan, scene, matches), "figure2": relative_depth(scene, matches)}
    if scenes:
        pictures["figure5" if dataset == "cocoa" else "figure6"] = comparison(plan, dataset, scenes, truth)
    for name, picture in pictures.items():
        save_picture(picture, plan.workspace.path("figures", f"{name}.png"))
    return {"images": [scene.image_id for scene in scenes]}


def comparison(plan: Plan, dataset: str, scenes: Sequence[Scene], truth: Truth) -> Image.Image:
    """Figures 5 and 6: the predictions that match true instances, in the colors of these, and the ground truth."""
    sources: dict[str, Any] = {}
    if dataset == "cocoa":
        sources = {"AmodalMask": plan.released["AmodalMask"].val} if "AmodalMask" in plan.released else {}
        sources |= {NETWORKS["arcnn"]: plan.predictions("arcnn", dataset)}
    sources |= {NETWORKS["sln"]: plan.predictions("sln", dataset)}
    images = {name: read_predictions(path, truth).images for name, path in sources.items()}
    rows = []
    for scene in scenes:
        matched = {name: scene.matches(masks.get(scene.image_id, ())) for name, masks in images.items()}
        rows.append([scene.image, *(_matched(scene, masks) for masks in matched.values()), _true(scene)])
    return panel_sheet(rows, [f"{TITLES[dataset]} image", *sources, "ground truth"], {len(sources) + 1: striped_legend})


def _true(scene: Scene) -> Panel:
    view = scene.truth.resized(scene.shape)
    return Panel(as_image(draw_instances(scene.photo, view)), f"{len(scene.truth.names)} instances")


def _matched(scene: Scene, matches: Sequence[ad.ScoredMask | None]) -> Panel:
    """Draw the matched predictions as amodal masks, each in the color of its true instance."""
    hues = [hue for hue, mask in zip(distinct_hues(scene.truth.table), matches, strict=True) if mask is not None]
    masks = [mask for mask in matches if mask is not None]
    view = layered_predictions(masks, scene.truth.size).resized(scene.shape)
    picture = as_image(draw_instances(scene.photo, view, hues=hues))
    return Panel(picture, f"{len(masks)} of {len(matches)} instances matched")


def front_and_back(truth: ad.LayeredTargets, matches: Sequence[ad.ScoredMask | None]) -> tuple[int, int]:
    """Return the pair of largest overlap, of pairs that both have predictions if there are any."""
    amodal = truth.amodal()
    overlaps = {(a, b): int((amodal[a] & amodal[b]).sum()) for a, b in truth.pairs.tolist()}
    return max(overlaps, key=lambda pair: (all(matches[n] is not None for n in pair), overlaps[pair]))


def pipeline(plan: Plan, scene: Scene, matches: Sequence[ad.ScoredMask | None]) -> Image.Image:
    """Figure 1: image, global layering map, instance layering maps and sem-dist maps; true ones above."""
    pair = front_and_back(scene.truth, matches)
    view = scene.truth.resized(scene.shape)
    true_maps = PairMaps.from_codes(scene.truth.levels, "sem-dist", np.ones(len(matches), bool), scene.truth.pairs)
    counts = Panel(as_image(draw_count_map(scene.photo, view)), "true number of objects at a pixel")
    rows = [[scene.image, counts, *_maps_of(scene, true_maps, pair, "true")]]
    maps = predicted_maps(matches, scene.truth, "sem-dist")
    layering = Panel(global_layering(plan, scene), "as the GLM predicts it")
    rows.append([Panel(as_image(scene.photo)), layering, *_maps_of(scene, maps, pair, "predicted")])
    deepest = int(scene.truth.table.max())
    titles = ["image", "global layering map", "instance layering map, front", "instance layering map, back",
              "sem-dist map, front", "sem-dist map, back"]  # fmt: skip
    legends = {1: lambda sheet, corner: swatches(sheet, corner, "objects", range(1, deepest + 1)),
               2: lambda sheet, corner: swatches(sheet, corner, "level", range(deepest)),
               4: lambda sheet, corner: sem_dist_legend(sheet, corner, deepest - 1)}  # fmt: skip
    return panel_sheet(rows, titles, legends)


def _maps_of(scene: Scene, maps: PairMaps, pair: Sequence[int], kind: str) -> list[Panel]:
    """Draw the levels, then the sem-dist maps of some instances."""
    levels, sem_dist = [], []
    for n in pair:
        inside, m = scene.at_panel(maps.amodal[n]), scene.at_panel(maps.maps[n])
        caption = f"{kind}, instance {n}" if maps.present[n] else f"instance {n}: no matching prediction"
        codes = (1 + ad.split_sem_dist(m)[1]).astype(int)
        for panels, colors in ((levels, level_colors(codes[inside])), (sem_dist, sem_dist_colors(m[inside]))):
            picture = dim(scene.photo)
            picture[inside] = colors
            draw_outline(picture, inside)
            panels.append(Panel(as_image(picture), caption))
    return levels + sem_dist


def global_layering(plan: Plan, scene: Scene) -> Image.Image:
    """Draw the number of objects at each pixel that the GLM predicts."""
    predictor = sln.load(plan.workspace.path("runs", "sln-cocoa", "last.pt"), plan.device)
    inputs, frame = prepare_photo(read_photo(scene.file), predictor.config.data.size)
    with torch.no_grad():
        layers = predictor.model.features(predictor.to_device(inputs)).layers[0]
    height, width = (-(-side // STRIDE) for side in frame.resized)
    counts = scene.at_panel((layers.float() > 0.5).sum(0).cpu().numpy()[:height, :width])
    picture = dim(scene.photo)
    picture[counts > 0] = level_colors(counts[counts > 0])
    return as_image(picture)


def relative_depth(scene: Scene, matches: Sequence[ad.ScoredMask | None]) -> Image.Image:
    """Figure 2: sem-dist maps of two objects, R(x, y), and the masks that a falling level plane uncovers."""
    front, back = pair = front_and_back(scene.truth, matches)
    true_maps = PairMaps.from_codes(scene.truth.levels, "sem-dist", np.ones(len(matches), bool), scene.truth.pairs)
    rows = [_depth_row(scene, true_maps, pair, "true")]
    rows += [_depth_row(scene, predicted_maps(matches, scene.truth, "sem-dist"), pair, "predicted")]
    titles = ["image", "M of the front object", "M of the back object", "R(x, y)", "plane at 0", "plane below all",
              "ground truth"]  # fmt: skip
    deepest = int(scene.truth.table[:, [front, back]].max()) - 1
    legends = {1: lambda sheet, corner: sem_dist_legend(sheet, corner, deepest), 4: striped_legend}
    return panel_sheet(rows, titles, legends)


def _depth_row(scene: Scene, maps: PairMaps, pair: tuple[int, int], kind: str) -> list[Panel]:
    """Draw one row of Figure 2 from the maps of two instances."""
    parts = [ad.split_sem_dist(maps.maps[n]) for n in pair]
    parts = [(np.where(maps.amodal[n], c, 0), level) for n, (c, level) in zip(pair, parts, strict=True)]
    r = ad.relative_depth(*parts)
    picture, sign = dim(scene.photo), scene.at_panel(np.sign(r))
    for value, color in ((1, IDENTITY[0]), (-1, IDENTITY[1])):
        picture[sign == value] = color
    order = {1: "first in front", -1: "second in front", 0: "undecided"}[ad.instance_order(r)]
    codes = [np.where(maps.amodal[n], 1 + level, 0).astype(np.uint8) for n, (_, level) in zip(pair, parts, strict=True)]
    masks = [_scored(code) for code in codes]
    view = layered_predictions(masks, scene.truth.size).resized(scene.shape)
    true_codes = scene.truth.levels[list(pair)]
    true_view = layered_predictions([_scored(code) for code in true_codes], scene.truth.size).resized(scene.shape)
    return [
        scene.image if kind == "true" else Panel(as_image(scene.photo)),
        *_maps_of(scene, maps, pair, kind)[2:],
        Panel(as_image(picture), f"{order}: R > 0 orange, R < 0 blue"),
        *(Panel(as_image(draw_instances(scene.photo, view, plane, [0, 1])), kind) for plane in (0, None)),
        Panel(as_image(draw_instances(scene.photo, true_view, None, [0, 1])), "whole objects"),
    ]


def _scored(codes: NDArray[np.uint8]) -> ad.ScoredMask:
    """Return level codes of one instance as a prediction."""
    levels = tuple(ad.RLE.from_mask(codes == code) for code in range(2, int(codes.max(initial=1)) + 1))
    return ad.ScoredMask(ad.RLE.from_mask(codes > 0), 1.0, 1, ad.RLE.from_mask(codes == 1), levels)
