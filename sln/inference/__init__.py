"""From photos to predictions, and what is made of them: values, pictures, pages, folders of results."""

from sln.inference.prediction import Prediction
from sln.inference.predictor import Photo, Predictor, load

__all__ = ["Photo", "Prediction", "Predictor", "load"]
