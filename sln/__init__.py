"""The Semantics Layering Network: sem-dist maps, trained on caches of :mod:`amodal_data` and run on photos.

Names are loaded when first used; only settings (:class:`Config`) work without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sln.config import Config, load_config
    from sln.data.samples import CachedTargets
    from sln.evaluate import evaluate_model
    from sln.network.model import SLN, build
    from sln.predicting.prediction import Prediction
    from sln.predicting.predictor import Predictor, load
    from sln.training.fit import Sources, fit, resume

__all__ = [
    "SLN",
    "CachedTargets",
    "Config",
    "Prediction",
    "Predictor",
    "Sources",
    "build",
    "evaluate_model",
    "fit",
    "load",
    "load_config",
    "resume",
]

_HOMES = {
    "SLN": "network.model",
    "CachedTargets": "data.samples",
    "Config": "config",
    "Prediction": "predicting.prediction",
    "Predictor": "predicting.predictor",
    "Sources": "training.fit",
    "build": "network.model",
    "evaluate_model": "evaluate",
    "fit": "training.fit",
    "load": "predicting.predictor",
    "load_config": "config",
    "resume": "training.fit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sln' has no attribute {name!r}")
    from importlib import import_module

    from sln.machine import needs_torch

    if _HOMES[name] != "config":
        needs_torch()
    return getattr(import_module(f"sln.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
