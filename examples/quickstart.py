"""Make a synthetic scene, build its targets and draw them. Nothing is downloaded.

python examples/quickstart.py [OUT_DIR]
"""

import sys
from pathlib import Path

import amodal_data as ad


def main(folder: Path) -> None:
    """Write a synthetic scene, compute its levels and draw it."""
    annotations = ad.write_cocoa(folder, 1, seed=11, split="train", force=True)
    scene = ad.read_cocoa(annotations)[0]
    targets = ad.layer_scene(scene)

    print(f"{scene.file_name}: {len(scene.instances)} instances, {len(targets.table)} regions")
    print(f"pixels at level 0, 1, 2, ...: {targets.level_pixels().tolist()}")
    print(f"levels {targets.levels.shape}, count map {targets.count_map().shape}")

    # Eq. 4-5: which of two overlapping instances is in front, from their sem-dist maps alone
    confidence, level = ad.split_sem_dist(targets.sem_dist())
    right = sum(
        ad.instance_order(ad.relative_depth((confidence[front], level[front]), (confidence[back], level[back]))) == 1
        for front, back in targets.pairs
    )
    print(f"order read from sem-dist maps: right for {right} of {len(targets.pairs)} overlapping pairs")

    cache_path = folder / "train.h5"
    ad.build_targets([scene], cache_path, force=True)
    cache = ad.TargetCache(cache_path)
    photo = folder / "train2014" / scene.file_name
    ad.contact_sheet([(*cache.read(0), photo)]).save(folder / "quickstart.png")
    print(f"picture: {folder / 'quickstart.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart"))
