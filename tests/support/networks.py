"""Small networks and targets that tests are run on."""


def small(*settings, preset="tiny"):
    from sln.config import load_config

    return load_config(preset, settings=["data.size=64", *settings], environment={})


MODERN_SMALL = (
    "encoder.depth=10", "layering.width=8", "detector.channels=8", "detector.hidden=16", "head.width=8", "train.rois=4",
)  # fmt: skip
"""For the presets ``modern`` and ``tiny``"""
FEW_DETECTIONS = "predict.max_detections=8"
"""An untrained network detects as many instances as it may, and reports and scores of 100 take seconds."""
FEW_STEPS = (*MODERN_SMALL, FEW_DETECTIONS, "train.steps=2", "train.batch=2", "train.workers=0")
PAPER_SMALL = (
    "encoder.depth=10", "encoder.channels=8", "layering.width=8", "proposals.width=8",
    "proposals.sizes=[16, 32]", "head.width=8", "train.rois=4",
)  # fmt: skip
"""For the preset ``paper``"""


def one_square(batch=2, side=64, instances=2):
    """Targets of two overlapping squares: regions 1 (none), 2 (first), 3 (second), 4 (both; the first is in front)."""
    import torch

    from sln.network.targets import Targets

    regions = torch.ones(batch, side, side, dtype=torch.int32)
    regions[:, 8:40, 8:40] += 1
    regions[:, 24:56, 24:56] += 2
    table = torch.tensor([[0, 0], [0, 0], [1, 0], [0, 1], [1, 2]], dtype=torch.uint8)[:, :instances]
    boxes = torch.tensor([[8.0, 8, 40, 40], [24, 24, 56, 56]])[:instances]
    ids = torch.arange(batch)
    present = torch.ones(batch, instances, dtype=torch.bool)
    whole = boxes.expand(batch, -1, -1).clone()
    classes = torch.zeros(batch, instances, dtype=torch.int64)
    table, known = table.expand(batch, -1, -1).clone(), torch.zeros(batch, len(table), dtype=torch.bool)
    return Targets(regions, table, known, whole, whole.clone(), classes, present, ids, ids)
