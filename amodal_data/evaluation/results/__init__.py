"""Predictions in and out: results files, their companions, and values from Python."""

from amodal_data.evaluation.results.results_file import ResultsFile, ScatteredError
from amodal_data.evaluation.results.results_writer import ResultsWriter, write_predictions
from amodal_data.evaluation.results.scored_masks import ImagePredictions, Predictions, PredictionStats, ScoredMask

__all__ = [
    "ImagePredictions",
    "PredictionStats",
    "Predictions",
    "ResultsFile",
    "ResultsWriter",
    "ScatteredError",
    "ScoredMask",
    "write_predictions",
]
