"""Evaluate a network on a cache."""
