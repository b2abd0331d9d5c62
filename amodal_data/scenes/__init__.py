"""Annotated images: scenes, the occlusion order of their instances, and findings."""
