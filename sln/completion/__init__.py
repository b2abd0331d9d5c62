"""Completing the masks or boxes of any detector: whole objects from visible parts."""
