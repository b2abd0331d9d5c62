from .completion.adapters import from_detections
from .completion.completer import Completer, complete
from .completion.visible_prompts import Prompts
from .config.loading import load_config
from .config.sections import Config
from .data.dataset import CachedTargets
from .evaluation.evaluate import evaluate_model
from .inference.prediction import Prediction
from .inference.predictor import Predictor, load
from .network.sln import SLN, build
from .training.fit import Sources, fit, resume

__all__ = [
    "SLN",
    "CachedTargets",
    "Completer",
    "Config",
    "Prediction",
    "Predictor",
    "Prompts",
    "Sources",
    "build",
    "complete",
    "evaluate_model",
    "fit",
    "from_detections",
    "load",
    "load_config",
    "resume",
]
