"""The Semantics Layering Network: predict whole objects, their visibility levels and depth order from a photo.

Public names are loaded when first used; ``__init__.pyi`` lists them with their homes. Only the settings work without
torch.
"""

from typing import Any

import lazy_loader

_SETTINGS = ("Config", "load_config")
_MASKS_ONLY = ("Completer", "Prediction", "Prompts", "complete", "from_detections")  # They work without torchvision

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__ and name not in _SETTINGS:
        from sln.runtime.environment import require_torch

        require_torch(vision=name not in _MASKS_ONLY)
    return _load(name)
