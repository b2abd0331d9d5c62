"""Scoring amodal predictions by stated protocols."""

from amodal_data.evaluation.diagnosis import Diagnosis, diagnose
from amodal_data.evaluation.predictions import Predictions, ScoredMask
from amodal_data.evaluation.report import PROTOCOLS, EvaluationReport, Protocol, evaluate
from amodal_data.evaluation.results import ResultsWriter, read_predictions, write_predictions
from amodal_data.evaluation.truth import Truth, read_truth

Prediction = ScoredMask
"""What :class:`ScoredMask` was called in version 0.1."""

__all__ = [
    "PROTOCOLS",
    "Diagnosis",
    "EvaluationReport",
    "Predictions",
    "Protocol",
    "ResultsWriter",
    "ScoredMask",
    "Truth",
    "diagnose",
    "evaluate",
    "read_predictions",
    "read_truth",
    "write_predictions",
]
