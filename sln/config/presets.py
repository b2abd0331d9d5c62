"""Where settings start from."""

from typing import Any, Literal

Preset = Literal["paper", "modern", "tiny"]

PRESETS: dict[Preset, dict[str, dict[str, Any]]] = {
    "paper": {
        "data": {"size": 1024, "crop": 1.0, "jitter": 0.0},
        "detector": {"version": "paper"},
        "layering": {"width": 256},
        "proposals": {"stride": 4, "sizes": (32, 64, 128, 256, 512), "foreground_iou": 0.7, "background_iou": 0.3},
        "head": {"layers": 2, "width": 256, "dilation": 1, "refine": True, "context": 0}
        | {"see_photo": False, "amodal": False, "prompts": False},
        "loss": {"sem_dist": 1.0, "box": 1.0},
        "predict": {"nms": 0.6, "visible_nms": 0.0, "duplicate_factor": 0.0, "decoding": "none"},
        "train": {"steps": 40000, "batch": 2, "lr": 0.2, "rois": 64}
        | {"stages": [{"name": name} for name in ("glm", "rpn", "ilm", "joint")]},
    },
    "modern": {},
    "tiny": {
        "data": {"size": 96, "crop": 1.0, "jitter": 0.1},
        "encoder": {"depth": 10, "channels": 32},
        "detector": {"version": "v1", "channels": 64, "hidden": 256, "sampled": 64},
        "layering": {"width": 64},
        "proposals": {"stride": 4, "sizes": (12, 24, 44, 72, 96), "width": 96, "before_nms": 400},
        "head": {"width": 64, "samples": 1},
        "train": {"steps": 1500, "batch": 8, "rois": 8, "prompts": 2, "workers": 0, "save_every": 200, "log_every": 10}
        | {"optimizer": "adamw", "lr": 1.5e-3, "weight_decay": 0.01},
    },
}  # What each preset changes from the default, which is ``modern``
