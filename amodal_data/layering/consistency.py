"""Checksums of an image: what the file says of its regions against what the order gives.

``area`` and ``occlude_rate`` cost nothing to compare. Only where one disagrees are the image's stored
masks decoded; a stored visible mask that differs then wins over the order, and a finding says so.
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
    """Findings about ``bbox`` values more than 1 px off; ``boxes`` is asked only if the file has any."""
    said = [(n, i.declared.box) for n, i in enumerate(scene.instances) if i.declared.box is not None]
    if not said:
        return []
    numbers = [n for n, _ in said]
    x, y, width, height = np.array([box for _, box in said]).T
    ours = boxes()[0][numbers]
    off = np.abs(np.stack([x, y, x + width, y + height], axis=1) - ours).max(axis=1) > 1
    return [
        _finding("box-differs", scene, numbers[k], f"{list(said[k][1])}, the mask spans {ours[k].tolist()} (xyxy)")
        for k in np.flatnonzero(off).tolist()
    ]


def checked_visible(
    scene: Scene, areas: Areas, visible_areas: Areas, modal_rle: Callable[[int], RLE]
) -> tuple[list[RLE | None] | None, tuple[Finding, ...]]:
    """Visible masks that must replace the ones from the order, None = nothing to replace; and findings.

    ``areas``, ``visible_areas`` (int64 [N]) and ``modal_rle`` are what the order gives.
    """
    findings = check_figures(scene, areas, visible_areas)
    if not (findings or _unchecked(scene)):
        return None, ()
    visible: list[RLE | None] = [instance.visible for instance in scene.instances]
    replaced = False
    for n, (shown, hidden) in enumerate(_stored(scene, findings)):
        if shown is None:
            continue
        if visible[n] is None and (wrong := differing_pixels(shown, modal_rle(n))):
            findings.append(_finding("stored-mask-differs", scene, n, f"{wrong} px"))
            visible[n], replaced = shown, True
        if hidden is not None and (gap := _inconsistent_pixels(scene.instances[n].amodal, shown, hidden)):
            findings.append(_finding("stored-masks-inconsistent", scene, n, f"{gap} px"))
    return (visible if replaced else None), tuple(findings)


def _finding(code: str, scene: Scene, n: int, message: str) -> Finding:
    return Finding(code, Place(scene.source, scene.image_id, scene.instances[n].region_index), message)


def check_figures(scene: Scene, areas: Areas, visible_areas: Areas) -> list[Finding]:
    """Findings about ``area`` and ``occlude_rate`` values that these areas (int64 [N]) contradict."""
    rates = occlusion_rates(areas, visible_areas)
    declared = [(i.declared.area, i.declared.occlusion_rate) for i in scene.instances]
    said_area, said_rate = np.array(declared, np.float64).reshape(-1, 2).T
    # None became NaN, which compares False: what is not said cannot be wrong
    off_area = np.abs(said_area - areas) > 1
    off_rate = np.abs(said_rate - rates) > np.minimum(1e-6, 0.5 / (areas + 1))
    if not (off_area | off_rate).any():
        return []
    return [
        *(
            _finding("area-differs", scene, n, f"{said_area[n]:g}, the mask has {areas[n]}")
            for n in np.flatnonzero(off_area).tolist()
        ),
        *(
            _finding("occlusion-rate-differs", scene, n, f"{said_rate[n]:g}, the masks give {rates[n]:g}")
            for n in np.flatnonzero(off_rate).tolist()
        ),
    ]


def _unchecked(scene: Scene) -> bool:
    """Is there a stored mask for which the file gives no occlusion rate to check it by?"""
    return any(
        i.declared.occlusion_rate is None
        and (i.declared.hidden is not None or (i.visible is None and i.declared.visible is not None))
        for i in scene.instances
    )


def _stored(scene: Scene, findings: list[Finding]) -> list[tuple[RLE | None, RLE | None]]:
    """The stored (visible, hidden) masks of each instance; a malformed one counts as missing."""
    raw = [mask for i in scene.instances for mask in (i.declared.visible, i.declared.hidden)]
    present = [at for at, mask in enumerate(raw) if mask is not None]
    masks: list[RLE | None] = [None] * len(raw)
    for at, mask in zip(present, parse_rles([raw[at] for at in present], [scene.size] * len(present)), strict=True):
        if isinstance(mask, RLE):
            masks[at] = mask
        else:
            findings.append(_finding("stored-mask-malformed", scene, at // 2, mask.message))
    for n, one in enumerate(scene.instances):
        said = one.declared
        if said.visible is None and said.hidden is None and said.occlusion_rate == 0:
            masks[2 * n] = one.amodal  # COCOA stores no masks where it says that nothing is hidden
    return list(zip(masks[0::2], masks[1::2], strict=True))


def _inconsistent_pixels(amodal: RLE, visible: RLE, hidden: RLE) -> int:
    """Pixels where visible and hidden overlap, or where together they are not the amodal mask."""
    lengths, regions, bits = partition_masks([amodal, visible, hidden], amodal.size)
    wrong = (bits[:, 1] & bits[:, 2]) | ((bits[:, 1] | bits[:, 2]) != bits[:, 0])
    return int(lengths[wrong[regions]].sum(dtype=np.int64))
