"""Scoring amodal predictions by stated protocols."""

from amodal_data.evaluation.diagnosis import Diagnosis, diagnose
from amodal_data.evaluation.predictions import Prediction, Predictions, read_predictions, write_predictions
from amodal_data.evaluation.report import PROTOCOLS, EvaluationReport, Protocol, evaluate
from amodal_data.evaluation.truth import Truth, read_truth

__all__ = [
    "PROTOCOLS",
    "Diagnosis",
    "EvaluationReport",
    "Prediction",
    "Predictions",
    "Protocol",
    "Truth",
    "diagnose",
    "evaluate",
    "read_predictions",
    "read_truth",
    "write_predictions",
]
