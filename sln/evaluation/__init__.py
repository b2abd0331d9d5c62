"""Scoring a network on a cache."""
