"""Classes for instances that have names only, or a twin in COCO."""

from amodal_data.readers.classes.instance_classes import classes_from_instances
from amodal_data.readers.classes.names import ClassNames, Coverage, as_toml, coverage, read_class_names, with_classes

__all__ = [
    "ClassNames",
    "Coverage",
    "as_toml",
    "classes_from_instances",
    "coverage",
    "read_class_names",
    "with_classes",
]
