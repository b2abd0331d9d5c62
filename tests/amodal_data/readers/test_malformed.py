import shutil
from collections import Counter

import pytest
from support.foreign_input import check_foreign_case, foreign_case
from support.malformed import case, check_file
from support.malformed_tools import check_tool_file, tool_case

from amodal_data import read_cocoa
from amodal_data.synthetic.write_cocoa import write_cocoa


@pytest.mark.slow
def test_a_thousand_malformed_files_never_crash_or_lie(tmp_path):
    path = tmp_path / "f.json"
    outcomes = Counter()
    for seed in range(1200):
        path.write_bytes(case(seed))
        try:
            outcomes[check_file(path)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert min(outcomes[kind] for kind in ("refused", "findings", "read")) > 25, outcomes


def test_a_bad_region_in_a_hundred_leaves_the_rest(tmp_path):
    import json

    path = write_cocoa(tmp_path, 40, seed=9, size=(96, 128), photos=False)
    whole = [len(scene.instances) for scene in read_cocoa(path)]
    content = json.loads(path.read_text())
    regions = [region for annotation in content["annotations"] for region in annotation["regions"]]
    for region in regions[::100]:
        region["segmentation"][3] = float("nan")
    path.write_text(json.dumps(content))
    scenes = read_cocoa(path)
    left_out = [finding for finding in scenes.findings if finding.severity == "error"]
    assert len(left_out) == len(regions[::100]) > 2
    assert {finding.code for finding in left_out} == {"polygon-not-finite"}
    assert sum(len(scene.instances) for scene in scenes) == sum(whole) - len(left_out)


@pytest.mark.slow
def test_hundreds_of_malformed_files_of_tools_never_crash_or_lie(tmp_path):
    outcomes = Counter()
    for seed in range(800):
        folder = tmp_path / "case"
        folder.mkdir()
        try:
            outcomes[check_tool_file(*tool_case(seed, folder))] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        shutil.rmtree(folder)
    assert min(outcomes[kind] for kind in ("refused", "findings", "read")) > 25, outcomes


@pytest.mark.slow
def test_hundreds_of_odd_files_are_right_or_say_why(tmp_path):
    outcomes = Counter()
    for seed in range(900):
        folder = tmp_path / "case"
        folder.mkdir()
        try:
            outcomes[check_foreign_case(foreign_case(seed, folder), folder)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        shutil.rmtree(folder)
    assert outcomes["refused"] > 3 and min(outcomes["findings"], outcomes["read"]) > 25, outcomes
