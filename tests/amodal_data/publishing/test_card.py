"""Cards and Croissant metadata of caches and composed sets."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from support.scenes import make_scene, modal_photos, random_masks

import amodal_data as ad
from amodal_data.errors import SelectionError
from amodal_data.publishing.card import croissant, dataset_card
from amodal_data.publishing.description import describe_dataset
from amodal_data.synthetic.composing.arrangement import SceneSpec
from amodal_data.synthetic.composing.object_bank import build_object_bank
from amodal_data.synthetic.composing.scene_writer import compose


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    file = modal_photos(tmp_path_factory.mktemp("photos"))
    folder = tmp_path_factory.mktemp("composed") / "set"
    compose(build_object_bank(file, [file.parent]), folder, 6, spec=SceneSpec(size=(96, 128), objects=(2, 5)), seed=1)
    return folder


def test_the_card_of_a_cache_has_statistics_and_gaps_to_fill_in(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [make_scene(random_masks(rng, 4, (40, 50))) for _ in range(3)]
    ad.build_targets(scenes, tmp_path / "val.h5")
    described = describe_dataset(tmp_path / "val.h5")
    card = dataset_card(described, license="cc-by-4.0")
    summary = described.summary
    assert card.startswith("---\nlicense: cc-by-4.0\n") and f"{summary.instances} instances" in card
    assert all(f"| {level} | {n:,} |" in card for level, n in enumerate(summary.level_pixels))
    assert hashlib.sha256((tmp_path / "val.h5").read_bytes()).hexdigest() in card
    assert card.count("FILL IN") == 4 and dataset_card(described).count("FILL IN") == 6
    assert "{" not in card.partition("scene spec")[0]
    metadata = croissant(described, url="https://example.org/val")
    assert (
        metadata["conformsTo"].endswith("croissant/1.0") and "recordSet" not in metadata and "license" not in metadata
    )
    assert [file["encodingFormat"] for file in metadata["distribution"]] == ["application/x-hdf5"]


def test_the_card_of_a_composed_set_has_licenses_and_record_sets(composed):
    described = describe_dataset(composed)
    card = dataset_card(described)
    assert sum(n for _, n in described.licenses) == described.summary.images == 6
    assert {row for row, _ in described.licenses} <= {"4", "6"} and "donor.license" in card and "scene spec" in card
    metadata = croissant(described)
    document = json.loads((composed / "instances.json").read_text())
    for records, key in zip(metadata["recordSet"], ("images", "annotations"), strict=True):
        names = [field["source"]["extract"]["jsonPath"].rpartition(".")[2] for field in records["field"]]
        assert all(name in row for row in document[key] for name in names)


def test_the_command_writes_both_and_replaces_nothing(composed, tmp_path, run_process):
    command = ["amodal-data", "card", composed, "-o", tmp_path / "out"]
    result = run_process(*command)
    assert result.returncode == 0 and "places to fill in" in result.stderr and result.stdout == ""
    assert json.loads((tmp_path / "out" / "croissant.json").read_text())["datePublished"]
    repeated = run_process(*command)
    assert repeated.returncode == 2 and "--force" in repeated.stderr
    assert run_process(*command, "--force").returncode == 0
    with pytest.raises(SelectionError, match="no composed set"):
        describe_dataset(tmp_path)
    with pytest.raises(SelectionError, match="neither a cache nor"):
        describe_dataset(composed / "instances.json")
    assert describe_dataset(composed).sha256 == hashlib.sha256((composed / "instances.json").read_bytes()).hexdigest()
    shutil.copytree(composed, tmp_path / "odd")
    (tmp_path / "odd" / "compose.json").write_text("[]")
    with pytest.raises(SelectionError, match="compose did not write"):
        describe_dataset(tmp_path / "odd")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlcroissant_reads_the_metadata(composed, tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant")
    metadata = croissant(
        describe_dataset(composed), license="cc-by-4.0", url="https://example.org", published="2026-01-02"
    )
    (composed / "croissant.json").write_text(json.dumps(metadata))
    read = mlcroissant.Dataset(str(composed / "croissant.json"))
    assert not read.metadata.issues.errors and not read.metadata.issues.warnings
    document = json.loads((composed / "instances.json").read_text())
    ids = [record["images/id"] for record in read.records("images")]
    assert ids == [record["id"] for record in document["images"]]
    assert len(list(read.records("instances"))) == len(document["annotations"])
