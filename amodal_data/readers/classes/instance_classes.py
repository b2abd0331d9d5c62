"""Take the classes of COCO's instances for COCOA's instances in the same images, by the IoU of visible masks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from amodal_data.errors import SelectionError
from amodal_data.layering.targets import layer_scene
from amodal_data.masks.rle import iou
from amodal_data.scenes.scene import Scene, Scenes


def classes_from_instances(scenes: Scenes, instances: Scenes, *, min_iou: float = 0.5) -> Scenes:
    """Take class and name of each instance from the most similar one of ``instances``, which have modal masks.

    Instances of an image with the same id are matched greedily, from the largest IoU of visible masks down to
    ``min_iou``, each at most once. An instance without a match keeps its class and name. Raises
    :class:`SelectionError` if no image is in both.
    """
    positions = {image_id: n for n, image_id in enumerate(instances.image_ids)}
    if positions.keys().isdisjoint(scenes.image_ids):
        raise SelectionError("no image is in both files", fix="name the COCO file of the same images")
    digest = instances.sources[0].sha256 if instances.sources else ""
    return scenes.mapped(_ClassMatcher(instances, positions, min_iou), {"instances": digest}, instances.categories)


@dataclass(frozen=True, slots=True)
class _ClassMatcher:
    instances: Scenes
    positions: Mapping[int, int]
    min_iou: float

    def __call__(self, scene: Scene) -> Scene:
        position = self.positions.get(scene.image_id)
        if position is None or not scene.instances:
            return scene
        other = self.instances[position]
        if not other.instances or other.size != scene.size:
            return scene
        ious = iou(layer_scene(scene).rles("modal"), [instance.amodal for instance in other.instances])
        classified = list(scene.instances)
        for flat in np.argsort(-ious, axis=None, kind="stable").tolist():
            n, k = divmod(flat, len(other.instances))
            if ious[n, k] >= self.min_iou:
                match = other.instances[k]
                classified[n] = replace(classified[n], category_id=match.category_id, name=match.name)
                ious[n], ious[:, k] = -1, -1  # each is matched once
        return replace(scene, instances=tuple(classified))
