"""Inspect amodal data: statistics, contact sheets, pages for a browser."""

from amodal_data.inspector.page import write_page
from amodal_data.inspector.page_data import PageImage

__all__ = ["PageImage", "write_page"]
