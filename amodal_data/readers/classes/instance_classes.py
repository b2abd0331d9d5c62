"""Classes of COCO's instances for COCOA's regions of the same photos: by what both show of an object."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from amodal_data.errors import SelectionError
from amodal_data.layering.targets import layer_scene
from amodal_data.masks.rle import iou
from amodal_data.scenes.scene import Scene, Scenes


def classes_from_instances(scenes: Scenes, instances: Scenes, *, least: float = 0.5) -> Scenes:
    """The same scenes; an instance takes class and name of the one of ``instances`` (modal masks, the same image ids)
    that is most like its visible mask, by IoU from the most alike on, if that is at least ``least`` and not taken.

    The others keep theirs. Raises :class:`SelectionError` if no image is in both.
    """
    places = {image_id: at for at, image_id in enumerate(instances.image_ids)}
    if places.keys().isdisjoint(scenes.image_ids):
        raise SelectionError("no image is in both files", fix="name the COCO file of the same photos")
    digest = instances.sources[0].sha256 if instances.sources else ""
    return scenes.mapped(_Joined(instances, places, least), {"instances": digest})


@dataclass(frozen=True, slots=True)
class _Joined:
    instances: Scenes
    places: Mapping[int, int]
    least: float

    def __call__(self, scene: Scene) -> Scene:
        at = self.places.get(scene.image_id)
        theirs = () if at is None else self.instances[at].instances
        if not theirs or not scene.instances or self.instances[at or 0].size != scene.size:
            return scene
        alike = iou(layer_scene(scene).rles("modal"), [one.amodal for one in theirs])
        own = list(scene.instances)
        free = [True] * len(own), [True] * len(theirs)
        for flat in np.argsort(-alike, axis=None, kind="stable").tolist():
            n, m = divmod(flat, len(theirs))
            if alike[n, m] < self.least:
                break
            if free[0][n] and free[1][m]:
                free[0][n] = free[1][m] = False
                own[n] = replace(own[n], category_id=theirs[m].category_id, name=theirs[m].name)
        return replace(scene, instances=tuple(own))
