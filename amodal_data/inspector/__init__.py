"""Inspect amodal data: statistics, contact sheets, pages for a browser."""
