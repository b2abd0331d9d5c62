"""Classes for instances that have names only, or a twin in COCO."""

from amodal_data.classes.joining import with_classes_of
from amodal_data.classes.names import ClassNames, Coverage, as_toml, coverage, read_class_names, with_classes

__all__ = ["ClassNames", "Coverage", "as_toml", "coverage", "read_class_names", "with_classes", "with_classes_of"]
