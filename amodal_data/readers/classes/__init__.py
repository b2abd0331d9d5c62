"""Classes for instances that have names only, or a twin in COCO."""

from amodal_data.readers.classes.instance_classes import with_classes_of
from amodal_data.readers.classes.names import ClassNames, Coverage, as_toml, coverage, read_class_names, with_classes

__all__ = ["ClassNames", "Coverage", "as_toml", "coverage", "read_class_names", "with_classes", "with_classes_of"]
