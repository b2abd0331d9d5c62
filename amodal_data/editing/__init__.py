"""Correct annotations in the browser: edits, their journal, the server of the page."""
