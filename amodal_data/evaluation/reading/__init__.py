"""Predictions in and out: results files, their companions, and values from Python."""

from amodal_data.evaluation.reading.predictions import ImagePredictions, Predictions, ScoredMask, Seen
from amodal_data.evaluation.reading.results import ResultsFile, ScatteredError
from amodal_data.evaluation.reading.writing import ResultsWriter, write_predictions

__all__ = [
    "ImagePredictions",
    "Predictions",
    "ResultsFile",
    "ResultsWriter",
    "ScatteredError",
    "ScoredMask",
    "Seen",
    "write_predictions",
]
