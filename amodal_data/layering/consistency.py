"""Compare the stored masks, areas and rates of an image with what its order gives.

``area`` and ``occlude_rate`` are checksums that cost nothing to compare. Stored masks are decoded only for images where
one of them disagrees. A stored visible mask that differs then wins over the order, and a finding reports it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from amodal_data.layering.partition import partition_masks
from amodal_data.masks.rle import RLE, parse_rles
from amodal_data.masks.windows import differing_pixels
from amodal_data.scenes.findings import Finding, Place
from amodal_data.scenes.scene import Scene

Areas = NDArray[np.int64]


def occlusion_rates(areas: Areas, visible_areas: Areas) -> NDArray[np.float64]:
    """Hidden share of each instance as COCOA computes it, ``hidden / (area + 1e-6)``, float64 [N]."""
    return (areas - visible_areas) / (areas + 1e-6)


def check_boxes(scene: Scene, boxes: Callable[[], tuple[NDArray[np.int32], NDArray[np.int32]]]) -> list[Finding]:
    """Findings about ``bbox`` values more than 1 px off; ``boxes`` is called only if the file has any."""
    declared = {n: i.declared.box for n, i in enumerate(scene.instances) if i.declared.box is not None}
    if not declared:
        return []
    x, y, width, height = np.array(list(declared.values())).T
    computed = boxes()[0][list(declared)]
    wrong = np.abs(np.stack([x, y, x + width, y + height], axis=1) - computed).max(axis=1) > 1
    return [
        _finding("box-differs", scene, n, f"{list(box)}, the mask spans {corners} (xyxy)")
        for (n, box), corners, differs in zip(declared.items(), computed.tolist(), wrong, strict=True)
        if differs
    ]


def check_visible_masks(
    scene: Scene, areas: Areas, visible_areas: Areas, modal_rle: Callable[[int], RLE]
) -> tuple[list[RLE | None] | None, tuple[Finding, ...]]:
    """Visible masks that must replace those of the order (None = nothing to replace), and findings.

    ``areas``, ``visible_areas`` (int64 [N]) and ``modal_rle`` are what the order gives.
    """
    findings = check_areas(scene, areas, visible_areas)
    unchecked = any(  # the file stores a mask without an occlusion rate to check it by
        i.declared.occlusion_rate is None
        and (i.declared.hidden is not None or (i.visible is None and i.declared.visible is not None))
        for i in scene.instances
    )
    if not (findings or unchecked):
        return None, ()
    masks: list[RLE | None] = [instance.visible for instance in scene.instances]
    replaced = False
    for n, (visible, hidden) in enumerate(_stored_masks(scene, findings)):
        if visible is None:
            continue
        if masks[n] is None and (wrong := differing_pixels(visible, modal_rle(n))):
            findings.append(_finding("stored-mask-differs", scene, n, f"{wrong} px"))
            masks[n], replaced = visible, True
        if hidden is not None and (wrong := _inconsistent_pixels(scene.instances[n].amodal, visible, hidden)):
            findings.append(_finding("stored-masks-inconsistent", scene, n, f"{wrong} px"))
    return (masks if replaced else None), tuple(findings)


def _finding(code: str, scene: Scene, n: int, message: str) -> Finding:
    return Finding(code, Place(scene.source, scene.image_id, scene.instances[n].region_index), message)


def check_areas(scene: Scene, areas: Areas, visible_areas: Areas) -> list[Finding]:
    """Findings about ``area`` and ``occlude_rate`` values that these areas (int64 [N]) contradict."""
    rates = occlusion_rates(areas, visible_areas)
    declared = [(i.declared.area, i.declared.occlusion_rate) for i in scene.instances]
    declared_areas, declared_rates = np.array(declared, np.float64).reshape(-1, 2).T
    # a missing value is NaN, which compares False and so is never wrong
    wrong_areas = np.abs(declared_areas - areas) > 1
    wrong_rates = np.abs(declared_rates - rates) > np.minimum(1e-6, 0.5 / (areas + 1))
    return [
        *(
            _finding("area-differs", scene, n, f"{declared_areas[n]:g}, the mask has {areas[n]}")
            for n in np.flatnonzero(wrong_areas).tolist()
        ),
        *(
            _finding("occlusion-rate-differs", scene, n, f"{declared_rates[n]:g}, the masks give {rates[n]:g}")
            for n in np.flatnonzero(wrong_rates).tolist()
        ),
    ]


def _stored_masks(scene: Scene, findings: list[Finding]) -> list[tuple[RLE | None, RLE | None]]:
    """The stored (visible, hidden) masks of each instance; a malformed one counts as missing."""
    raw = [mask for i in scene.instances for mask in (i.declared.visible, i.declared.hidden)]
    present = [k for k, mask in enumerate(raw) if mask is not None]
    masks: list[RLE | None] = [None] * len(raw)
    for k, mask in zip(present, parse_rles([raw[k] for k in present], [scene.size] * len(present)), strict=True):
        if isinstance(mask, RLE):
            masks[k] = mask
        else:
            findings.append(_finding("stored-mask-malformed", scene, k // 2, mask.message))
    for n, instance in enumerate(scene.instances):
        declared = instance.declared
        if declared.visible is None and declared.hidden is None and declared.occlusion_rate == 0:
            masks[2 * n] = instance.amodal  # COCOA stores no masks if nothing is hidden
    return list(zip(masks[0::2], masks[1::2], strict=True))


def _inconsistent_pixels(amodal: RLE, visible: RLE, hidden: RLE) -> int:
    """Pixels where visible and hidden overlap, or where together they are not the amodal mask."""
    lengths, regions, bits = partition_masks([amodal, visible, hidden], amodal.size)
    wrong = (bits[:, 1] & bits[:, 2]) | ((bits[:, 1] | bits[:, 2]) != bits[:, 0])
    return int(lengths[wrong[regions]].sum(dtype=np.int64))
