"""Training: from a cache and photos to a run directory. Looking at runs needs no torch."""

from sln.runs import Run, list_runs

__all__ = ["Run", "list_runs"]
