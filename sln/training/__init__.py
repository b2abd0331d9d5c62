"""Training: from a cache and photos to a run directory. Looking at runs needs no torch."""

from sln.training.rundir import Run, list_runs

__all__ = ["Run", "list_runs"]
