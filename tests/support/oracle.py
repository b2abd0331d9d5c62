"""Slow, obvious definitions that the fast routines are held against."""

import numpy as np
from pycocotools import mask as coco_mask

from amodal_data.layering.sem_dist import SAFE_CONFIDENCE, sem_dist_of_codes


def levels(amodal, visible, in_front):
    """Level codes [N, H, W] pixel by pixel from the definition; twins count once.

    amodal, visible: bool [N, H, W]; in_front[j, i] iff j is in front of i.
    """
    listed = [j for j in range(len(amodal)) if not any(are_twins(j, k, amodal, visible, in_front) for k in range(j))]
    hidden = amodal & ~visible
    codes = np.zeros(amodal.shape, np.int64)
    for i in range(len(amodal)):
        behind = sum((hidden[j] for j in listed if in_front[j, i]), np.zeros(amodal.shape[1:], int))
        codes[i] = np.where(visible[i], 1, np.where(hidden[i], 2 + behind, 0))
    return codes


def are_twins(a, b, amodal, visible, in_front):
    """Is one object listed twice, with equal masks and the same order with all others that it overlaps?"""
    touched = [i for i in range(len(amodal)) if (amodal[i] & amodal[a]).any()]
    same = all(in_front[a, i] == in_front[b, i] and in_front[i, a] == in_front[i, b] for i in touched)
    return same and np.array_equal(amodal[a], amodal[b]) and np.array_equal(visible[a], visible[b])


def painted(amodal, in_front):
    """Modal masks [N, H, W]: each amodal mask without the pixels of instances in front."""
    visible = amodal.copy()
    for i in range(len(amodal)):
        for j in range(len(amodal)):
            if in_front[j, i]:
                visible[i] &= ~amodal[j]
    return visible


def levels_by_merge(rles, n):
    """Level codes [H, W] of mask n in front-to-back order: intersect it with each mask in front by pycocotools."""
    codes = coco_mask.decode(rles[n]).astype(np.int64)
    for front in rles[:n]:
        codes += coco_mask.decode(coco_mask.merge([rles[n], front], intersect=True))
    return codes


def box(mask):
    """x0, y0, x1, y1 of a bool [H, W] mask, half-open; zeros if empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [0] * 4 if not len(rows) else [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def even_odd(points, size):
    """Pixels whose centre lies inside a polygon by the crossing rule, bool [H, W]."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    inside = np.zeros(size, bool)
    corners = np.asarray(points, float).reshape(-1, 2)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 <= y) != (y1 <= y)
        inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def decode_string(counts):
    """Run lengths of one compressed COCO string, character by character."""
    runs, position = [], 0
    while position < len(counts):
        value, k, continues = 0, 0, True
        while continues:
            char = counts[position] - 48
            value |= (char & 31) << (5 * k)
            continues = bool(char & 32)
            position, k = position + 1, k + 1
        if char & 16:
            value -= 1 << (5 * k)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def pixel_order(m_a, m_b, c=0.5):
    """Eq. 4-5 pixel by pixel on two sem-dist maps."""
    r = np.zeros(m_a.shape, np.int64)
    for pixel in np.ndindex(m_a.shape):
        conf_a, conf_b = m_a[pixel] - np.floor(m_a[pixel]), m_b[pixel] - np.floor(m_b[pixel])
        if conf_a * conf_b > c * c:
            r[pixel] = int(np.floor(m_a[pixel]) - np.floor(m_b[pixel]))
    return r


def roi_levels(view, boxes, instances, out):
    """Level codes of P boxes on a grid of ``out x out`` cell centers, uint8 [P, out, out]; 0 outside the image.

    boxes: [P, 4] as x0, y0, x1, y1 in pixels of the view, half-open; instances: [P], the instance of each box.
    """
    steps = (np.arange(out) + 0.5) / out
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    x = np.floor(corners[:, 0, None] + steps * (corners[:, 2] - corners[:, 0])[:, None]).astype(np.int64)
    y = np.floor(corners[:, 1, None] + steps * (corners[:, 3] - corners[:, 1])[:, None]).astype(np.int64)
    regions, inside = view.regions_at(y[:, :, None], x[:, None, :])
    return view.table[regions, np.asarray(instances, np.int64)[:, None, None]] * inside


def completion(codes, grids):
    """The figures of protocol completion from pixels: true level codes [N, H, W], and the grid of each prediction."""
    rows = []
    for code, grid in zip(codes, grids, strict=True):
        if not code.any():
            continue
        true, hidden, visible = code > 0, code > 1, grid.inside & (grid.level == 0)
        parts = {"full": (grid.inside, true)}
        if hidden.any():
            parts |= {"occ_gt_visible": (grid.inside & (code != 1), hidden)}
            parts |= {"occ_own_visible": (grid.inside & ~visible, hidden)}
        shares = (hidden.sum() / (true.sum() + 1e-6), (grid.inside & ~visible).sum() / (grid.inside.sum() + 1e-6))
        m = sem_dist_of_codes(grid.confidence[true].astype(float), grid.level[true] + grid.inside[true])
        error = np.abs(m - (SAFE_CONFIDENCE - (code[true] - 1.0))).mean()
        rows.append((parts, (shares[0] >= 0.05) == (shares[1] >= 0.05), error))
    figures = {"instances": len(rows), "occluded": sum(len(parts) > 1 for parts, _, _ in rows)}
    figures |= {
        name: np.mean([row[k] for row in rows]) for k, name in ((1, "occlusion_accuracy"), (2, "sem_dist_error"))
    }
    for name in ("full", "occ_gt_visible", "occ_own_visible"):
        pairs = [((a & b).sum(), (a | b).sum()) for a, b in (row[0][name] for row in rows if name in row[0])]
        figures[f"mIoU_{name}"] = np.mean([shared / union if union else 0 for shared, union in pairs])
        figures[f"pooled_IoU_{name}"] = sum(pair[0] for pair in pairs) / sum(pair[1] for pair in pairs)
    return figures
