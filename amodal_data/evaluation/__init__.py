"""Score amodal predictions with four protocols: ``amodal``, ``coco``, ``order`` and ``completion``."""

from amodal_data.evaluation.comparison import read_predictions
from amodal_data.evaluation.ground_truth import Truth, read_truth
from amodal_data.evaluation.methods import Evaluation, evaluate_all, name_methods
from amodal_data.evaluation.protocols.error_types import Diagnosis
from amodal_data.evaluation.report import PROTOCOLS, EvaluationReport, Protocol, evaluate
from amodal_data.evaluation.results.results_writer import ResultsWriter, write_predictions
from amodal_data.evaluation.results.scored_masks import Predictions, ScoredMask
from amodal_data.evaluation.tables import FORMATS, Format

__all__ = [
    "FORMATS",
    "PROTOCOLS",
    "Diagnosis",
    "Evaluation",
    "EvaluationReport",
    "Format",
    "Predictions",
    "Protocol",
    "ResultsWriter",
    "ScoredMask",
    "Truth",
    "evaluate",
    "evaluate_all",
    "name_methods",
    "read_predictions",
    "read_truth",
    "write_predictions",
]
