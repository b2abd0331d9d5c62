"""Publish a dataset: its card for people, its Croissant metadata for machines."""
