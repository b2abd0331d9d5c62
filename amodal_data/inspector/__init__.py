"""Looking at amodal data: figures, pictures."""

from amodal_data.inspector.page import write_page
from amodal_data.inspector.pagedata import PageImage
from amodal_data.inspector.predicted import layered_predictions, stand_ins
from amodal_data.inspector.sheet import contact_sheet
from amodal_data.inspector.summary import Summary, summarise

__all__ = [
    "PageImage",
    "Summary",
    "contact_sheet",
    "layered_predictions",
    "stand_ins",
    "summarise",
    "write_page",
]
