"""``sln config``: all settings, with their meaning."""

from amodal_cli.shared import options
from amodal_cli.shared.terminal import print_json


def config(
    preset: options.PresetOption = None,
    config_file: options.Config = None,
    settings: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Print all settings as commented TOML, ready for --config.

    Environment variables set them too: SLN_TRAIN__STEPS=500 sets train.steps.

    Examples: sln config --preset tiny --set train.steps=500 > tiny.toml
    """
    from sln.config import commented, load_config

    values = load_config(preset, config_file, settings or [])
    if as_json:
        print_json({"schema": "sln/config/1", **values.model_dump(mode="json")})
    else:
        print(commented(values), end="")
