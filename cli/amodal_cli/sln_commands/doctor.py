"""``sln doctor``: whether this machine can train."""

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_result


def doctor(device: options.Device = "auto", as_json: options.Json = False) -> None:
    """Check whether this machine can train: torch and torchvision, the device, bf16.

    Examples: sln doctor
    """
    from sln.runtime.environment import require_torch

    require_torch()
    from importlib.metadata import version

    import torch

    from sln.runtime.device import pick_device

    chosen = pick_device(device)
    cuda = chosen.type == "cuda"
    facts = {
        "torch": version("torch"),
        "torchvision": version("torchvision"),
        "device": torch.cuda.get_device_name(chosen) if cuda else f"cpu, {torch.get_num_threads()} threads",
        "bf16": torch.cuda.is_bf16_supported() if cuda else False,
    }
    text = "\n".join(f"{name:<12} {value}" for name, value in facts.items())
    print_result(text, {"schema": "sln/doctor/1", **facts}, as_json=as_json)
