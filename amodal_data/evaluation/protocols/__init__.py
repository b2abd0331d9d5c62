"""What is counted: one module a protocol, and the types of errors."""

from amodal_data.evaluation.protocols.amodal import AmodalMetric
from amodal_data.evaluation.protocols.cocoeval import CocoMetric
from amodal_data.evaluation.protocols.completion import CompletionMetric
from amodal_data.evaluation.protocols.error_types import TYPES, Diagnosis, ErrorMetric
from amodal_data.evaluation.protocols.order import OrderMetric, PairSet

__all__ = [
    "TYPES",
    "AmodalMetric",
    "CocoMetric",
    "CompletionMetric",
    "Diagnosis",
    "ErrorMetric",
    "OrderMetric",
    "PairSet",
]
