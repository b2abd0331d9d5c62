"""Check the torch installation before torch is imported."""

from importlib.util import find_spec

from amodal_data.io.environment import torch_problem
from sln.errors import MachineError


def require_torch(*, vision: bool = True) -> None:
    """Raise :class:`MachineError` if torch or torchvision is missing, or their versions do not match.

    vision: is torchvision needed too? Completing masks by a shape prior works without it.
    """
    if not vision and find_spec("torch") is not None and find_spec("torchvision") is None:
        return
    problem = torch_problem()
    if not problem and (find_spec("torch") is None or find_spec("torchvision") is None):
        problem = "torch and torchvision are installed but cannot be found"
    if problem:
        raise MachineError(problem, fix='pip install "amodal-data[sln]"')
