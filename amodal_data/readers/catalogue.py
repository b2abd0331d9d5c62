"""Published datasets: file names, splits, counts, license, and the page to get them from.

This package downloads nothing; the facts serve to find and to recognize files.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One annotation file: name, split, number of images and objects (0 = unknown), pattern of names ("" = name)."""

    name: str
    split: str
    images: int = 0
    annotations: int = 0
    pattern: str = ""

    def split_of(self, file_name: str) -> str | None:
        """The split of a file with this name, from the pattern if ``split`` is ""; None if the name is another one."""
        match = re.fullmatch(self.pattern or re.escape(self.name), file_name)
        return match and (self.split or match["split"])


@dataclass(frozen=True, slots=True)
class Dataset:
    """One published dataset. ``photo_url``: pattern with ``{folder}`` and ``{name}``; "" = there is none."""

    title: str
    license: str
    page: str
    parts: tuple[Part, ...]
    photos: str
    photo_url: str = ""


DATASETS: dict[str, Dataset] = {
    "cocoa": Dataset(
        title="COCOA: amodal annotations of COCO 2014 (Zhu et al., CVPR 2017)",
        license="annotations: see the page; images: COCO's, each under its own Flickr license",
        page="https://github.com/Wakeupbuddy/amodalAPI",
        parts=(
            Part("COCO_amodal_train2014.json", "train", 2500),
            Part("COCO_amodal_val2014.json", "val", 1323),
            Part("COCO_amodal_test2014.json", "test", 1250),
            # BSDS-A, and other files that are named like COCOA's
            Part("BSDS_amodal_*.json", "", pattern=r"(?:COCO|BSDS)_amodal_(?P<split>[^_]+?)(?:2014)?\.json"),
        ),
        photos="COCO 2014 images in train2014/ and val2014/ beside the annotation files",
        photo_url="http://images.cocodataset.org/{folder}/{name}",
    ),
    "d2sa": Dataset(
        title="D2SA: amodal annotations of MVTec D2S (Follmann et al., WACV 2019)",
        license="CC BY-NC-SA 4.0",
        page="https://www.mvtec.com/company/research/datasets/mvtec-d2s",
        parts=(
            Part("D2S_amodal_training_rot0.json", "train", 438, 690),
            Part("D2S_amodal_augmented.json", "train", 1562, 12376),
            Part("D2S_amodal_validation.json", "val", 3600, 15654),
            Part("D2S_amodal_test_info.json", "test"),
        ),
        photos="the amodal image archive of the same page, unpacked as images/",
    ),
    "cocoa-cls": Dataset(
        title="COCOA-cls: COCOA's things with COCO's classes (Follmann et al., WACV 2019)",
        license="see the page; images: COCO's, each under its own Flickr license",
        page="https://www.mvtec.com/company/research/datasets/mvtec-d2s",
        parts=(
            Part("COCO_amodal_train2014_with_classes.json", "train"),
            Part("COCO_amodal_val2014_with_classes.json", "val", 1223),
        ),
        photos="COCO 2014 images in train2014/ and val2014/ beside the annotation files",
        photo_url="http://images.cocodataset.org/{folder}/{name}",
    ),
    "kins": Dataset(
        title="KINS: amodal annotations of KITTI (Qi et al., CVPR 2019)",
        license="see the page; images: KITTI's, CC BY-NC-SA 3.0",
        page="https://github.com/qqlu/Amodal-Instance-Segmentation-through-KINS-Dataset",
        parts=(
            Part("update_train_2020.json", "train"),
            Part("update_test_2020.json", "val"),
            Part("instances_train.json", "train"),
            Part("instances_val.json", "val"),
        ),
        photos="KITTI object images in training/image_2/ and testing/image_2/",
    ),
}
