"""What is counted: one module a protocol, and the types of errors."""

from amodal_data.evaluation.protocols.amodal import AmodalTally
from amodal_data.evaluation.protocols.cocoeval import CocoTally
from amodal_data.evaluation.protocols.completion import CompletionTally
from amodal_data.evaluation.protocols.error_types import TYPES, Diagnosis, ErrorTally
from amodal_data.evaluation.protocols.order import OrderTally, PairSet

__all__ = [
    "TYPES",
    "AmodalTally",
    "CocoTally",
    "CompletionTally",
    "Diagnosis",
    "ErrorTally",
    "OrderTally",
    "PairSet",
]
