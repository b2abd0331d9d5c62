"""Inspect amodal data: statistics, contact sheets, pages for a browser."""

from amodal_data.inspector.contact_sheet import contact_sheet
from amodal_data.inspector.layered_predictions import layered_predictions, match_predictions
from amodal_data.inspector.page import write_page
from amodal_data.inspector.page_data import PageImage
from amodal_data.inspector.summary import Summary, most_hidden, summarize

__all__ = [
    "PageImage",
    "Summary",
    "contact_sheet",
    "layered_predictions",
    "match_predictions",
    "most_hidden",
    "summarize",
    "write_page",
]
