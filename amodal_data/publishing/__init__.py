"""Publish a dataset: its card for people, its Croissant metadata for machines."""

from amodal_data.publishing.card import dataset_card
from amodal_data.publishing.croissant import CROISSANT, croissant
from amodal_data.publishing.description import DatasetDescription, describe_dataset

__all__ = ["CROISSANT", "DatasetDescription", "croissant", "dataset_card", "describe_dataset"]
