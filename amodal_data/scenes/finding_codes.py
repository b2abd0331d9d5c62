"""The codes of findings: how severe each is, what it means, what this package does about it, and what you can do."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of problem.

    ``severity``: ``error`` = something was skipped or altered; ``warning`` = the file contradicts itself, and one side
    was chosen; ``info`` = worth knowing, nothing was changed. ``action``: what this package does about it. ``remedy``:
    what you can do.
    """

    severity: Severity
    meaning: str
    action: str
    remedy: str


# fmt: off
CODES: dict[str, Code] = {
    # the file
    "duplicate-id": Code(
        "error", "An id occurs more than once.", "first image kept; annotations all kept",
        "Give every image and annotation an id of its own in the tool that wrote the file."),
    "image-unknown": Code(
        "warning", "An annotation names an image that is not listed.", "annotation skipped",
        "Add the image to 'images', or correct the annotation's image_id."),
    "ids-are-text": Code(
        "info", "Image ids are texts, not numbers.", "images numbered from 1, in file order",
        "Write file_name into results: it finds the image, whatever its id."),
    "classes-renumbered": Code(
        "info", "Two files use a class id for different classes.", "classes of the later file renumbered, by name",
        "Nothing has to be done. To choose the ids yourself, pass a table of classes with --classes."),
    "class-unknown": Code(
        "warning", "The class of an instance is not among 'categories'.", "kept, without a name",
        "Add the class to the list ('categories', data.yaml, classes.txt), or correct the annotation."),
    "image-unannotated": Code(
        "info", "An image has no annotation.", "kept as an image without objects",
        "Nothing has to be done if the image shows no object."),
    "image-not-begun": Code(
        "info", "A CVAT task lists an image without shapes, or a BOP scene a photo without an entry.", "image skipped",
        "Nothing has to be done. If it shows no object, export the task as COCO, or write [] into scene_gt.json."),
    "image-size-unknown": Code(
        "error", "Neither the file nor a mask gives the image size.", "image skipped",
        "Write 'height' and 'width' (labelme: imageHeight, imageWidth) of the image into the file."),
    "annotation-malformed": Code(
        "error", "An entry is not an object with the expected fields.", "entry skipped",
        "Open the file at the place named, and correct or remove the entry."),
    "several-annotators": Code(
        "info", "Several people annotated this image.", "first annotation used",
        "Choose one with --annotator NAME, or keep all with --annotator all."),
    "size-differs": Code(
        "info", "'size' is not the number of instances.", "instances counted",
        "Nothing has to be done."),
    # the amodal mask of an instance
    "region-malformed": Code(
        "error", "An instance cannot be read.", "instance skipped",
        "Draw the instance again, or correct its entry."),
    "segmentation-missing": Code(
        "error", "An instance has no usable mask.", "instance skipped",
        "Draw a mask; a box alone says nothing about levels. In Python, pass a bool array [H, W]."),
    "shape-left-out": Code(
        "warning", "A shape has no area, or its kind is not supported.", "shape skipped",
        "Draw the object as a polygon or a mask."),
    "polygon-not-finite": Code(
        "error", "A coordinate is NaN or infinite.", "instance skipped",
        "Draw the polygon again."),
    "polygon-too-short": Code(
        "error", "A polygon has fewer than three points.", "instance skipped",
        "Draw at least three corners."),
    "polygon-odd-length": Code(
        "error", "A polygon has an odd number of values.", "last value dropped",
        "Check the last corner: an x without a y."),
    "polygon-far-outside": Code(
        "warning", "A coordinate lies beyond 16 times the longer side.", "polygon clipped to that window",
        "Check whether its coordinates belong to this image, in pixels (in fractions for YOLO)."),
    "polygon-outside": Code(
        "info", "A polygon reaches more than 1 px outside the image.", "clipped to the image",
        "Nothing has to be done if the object reaches beyond the photo."),
    "polygon-self-intersecting": Code(
        "info", "A polygon crosses or touches itself.", "filled by the even-odd rule",
        "Look at the mask with amodal-data inspect; draw it again if a part is missing."),
    "polygon-very-long": Code(
        "info", "A polygon has more than 20,000 points.", "filled, but not tested for self-intersection",
        "Simplify the polygon, or store the mask as RLE."),
    "rle-malformed": Code(
        "error", "An RLE cannot be decoded or does not fill its image.", "instance skipped",
        "Export the mask again; 'counts' must be COCO's string or a list of run lengths."),
    "rle-wrong-size": Code(
        "error", "The size of an RLE is not that of its image.", "instance skipped",
        "Export the mask at the size of its image, as [height, width]."),
    "region-empty": Code(
        "warning", "A mask covers no pixel.", "instance kept, without a target",
        "Remove the instance, or draw its mask."),
    "region-duplicate": Code(
        "info", "Two instances have the same amodal mask.", "both kept, ordered by 'order'",
        "Remove one of the two if an object was annotated twice."),
    "mask-unusable": Code(
        "error", "A picture cannot be read as a mask.", "instance skipped",
        "Save the mask as PNG with one value besides black, or read a map of instances by its pattern."),
    "mask-gray": Code(
        "warning", "A mask has gray values: a lossy format or soft edges.", "cut at the middle",
        "Save masks as PNG without smoothing to get exact pixels."),
    "mask-void": Code(
        "warning", "A map of instances has the value 255 beside objects numbered from 1.", "taken as not labeled",
        "If it is an object, give it the next number."),
    "polygon-in-fractions": Code(
        "warning", "All coordinates of a tiny polygon lie between 0 and 1.", "read as pixels",
        "If they are shares of the image, multiply x by its width and y by its height."),
    "size-exchanged": Code(
        "warning", "Polygons leave the image, but would fit if height and width were exchanged.", "read as written",
        "Look at the photo: if it is as wide as the file says it is high, exchange 'height' and 'width'."),
    "mask-at-border": Code(
        "warning", "A mask covers the whole border of its image.", "kept as it is",
        "Look at the mask: if black and white are exchanged, invert it."),
    # order
    "order-missing": Code(
        "warning", "An instance has no 'order'.", "placed behind all others, in list order",
        "Give the instance an 'order'."),
    "order-not-int": Code(
        "warning", "'order' is not an integer.", "placed behind all others, in list order",
        "Write 'order' as an integer."),
    "order-unsaid": Code(
        "warning", "The order field of an instance holds no number.", "its overlaps are ambiguous",
        "Write a number into the order field, or choose another one with --order."),
    "order-equal": Code(
        "warning", "All instances of an image have the same order, and some overlap.", "overlaps marked ambiguous",
        "Pass --order back-first if later shapes lie in front, as in CVAT, or set the order in your tool."),
    "order-open": Code(
        "info", "Two instances overlap, and their order is unknown.", "overlap marked ambiguous",
        "Give the pair an order, in the file or with --order."),
    "order-cycle": Code(
        "warning", "The order of some instances is a cycle.", "broken at its weakest evidence",
        "Look at the instances with amodal-data inspect, and correct the order of one pair."),
    "order-against-masks": Code(
        "warning", "A depth field contradicts the visible masks.", "the masks decide",
        "Correct the depth, or the visible masks."),
    "order-inconsistent": Code(
        "warning", "Two depth fields contradict each other.", "weaker field ignored",
        "Keep one of the two depth fields."),
    "order-tied": Code(
        "warning", "Two instances have the same 'order'.", "list order breaks the tie",
        "Give each instance an order of its own."),
    "order-unsorted": Code(
        "info", "Instances are not listed front to back.", "'order' decides",
        "Nothing has to be done."),
    "depth-constraint-malformed": Code(
        "warning", "'depth_constraint' is not 'a-b,c-d,...'.", "'order' decides",
        "Write it as 'front-back' pairs separated by commas, such as 1-2,1-3."),
    "depth-constraint-against-order": Code(
        "warning", "A constraint contradicts 'order' or itself.", "'order' decides",
        "Correct 'order' or the constraint."),
    # visible masks of flat layouts
    "visible-missing": Code(
        "warning", "An instance has no visible mask.", "amodal minus hidden mask, or all of it",
        "Add the visible mask if something hides the object."),
    "visible-outside-amodal": Code(
        "warning", "A visible mask reaches outside the amodal mask.", "clipped to it",
        "Extend the amodal mask so that it covers the visible one."),
    "crowd-unknown": Code(
        "info", "An annotation covers a group of objects (iscrowd).", "pixels marked unknown",
        "If these are single objects, keep them with --crowds keep, or set iscrowd to 0."),
    "instance-duplicate": Code(
        "info", "Two instances have the same amodal and visible mask.", "counted as one",
        "Remove one of the two."),
    "ids-shifted": Code(
        "info", "Image ids of two files collide.", "ids of the later file shifted",
        "Nothing has to be done. To keep the ids, read the files one by one."),
    # sources of composed scenes
    "photo-missing": Code(
        "warning", "No folder holds the image file.", "image skipped",
        "Name its folder with --images. For YOLO, put it into images/ beside labels/."),
    "photo-turned": Code(
        "info", "The EXIF data of a photo say that it is stored turned.", "turned upright",
        "Nothing has to be done if the annotations were drawn on the upright photo, as most tools show it."),
    "photo-unusable": Code(
        "warning", "An image file is damaged, or not of the annotated size.", "image skipped",
        "Copy or download the file again, or correct the size in the annotations."),
    "license-left-out": Code(
        "info", "The license of an image is not among those you allow.", "image skipped",
        "Allow the license with --licenses."),
    "photo-excluded": Code(
        "info", "A list of --exclude names the image.", "image skipped",
        "Nothing has to be done if the image belongs to a test set."),
    "exclude-unmatched": Code(
        "warning", "A list of --exclude names an image that no source has.", "name ignored",
        "Nothing has to be done if the sources lack that image. Else write its id or file name as they do."),
    "cutout-unusable": Code(
        "warning", "An image of --cutouts cannot be read, or none or all of it is transparent.", "not pasted",
        "Save it as PNG with alpha: opaque where the object is, transparent around it."),
    "donor-small": Code(
        "info", "An object has fewer pixels than --smallest.", "not pasted",
        "Lower --smallest."),
    "donor-cut": Code(
        "info", "The mask of an object ends at the image border.", "not pasted",
        "Nothing has to be done: an object that ends at the border is not whole."),
    "donor-large": Code(
        "info", "An object fills more than half of its image.", "not pasted",
        "Nothing has to be done: such an object would hide all others."),
    "donor-touched": Code(
        "info", "More of an object's outline than --contact touches other objects.", "not pasted",
        "Raise --contact; objects that something hides may be pasted then."),
    "donor-in-parts": Code(
        "info", "An object's mask has several parts, as if something hid some.", "not pasted",
        "Nothing has to be done: an object in parts is often partly hidden."),
    # prompts of a network
    "prompts-overlap": Code(
        "warning", "Two visible masks claim the same pixels.", "one of the two keeps them",
        "Nothing has to be done, or remove duplicates from the prompts."),
    # stored masks and figures, used as checksums
    "stored-mask-malformed": Code(
        "warning", "A stored mask cannot be decoded.", "treated as missing",
        "Export the mask again."),
    "stored-mask-differs": Code(
        "warning", "A stored visible mask is not the one 'order' gives.", "stored mask used",
        "Look at the instance with amodal-data inspect; correct its order or its mask."),
    "stored-masks-inconsistent": Code(
        "warning", "Visible and hidden mask do not add up to the amodal mask.", "amodal and visible mask used",
        "Export both masks again."),
    "area-differs": Code(
        "warning", "'area' is more than 1 px off.", "recomputed",
        "Nothing has to be done: the area is counted from the mask."),
    "box-differs": Code(
        "warning", "'bbox' is more than 1 px off.", "recomputed",
        "Nothing has to be done: the box is taken from the mask."),
    "occlusion-rate-differs": Code(
        "warning", "'occlude_rate' is more than 1e-6 off.", "recomputed",
        "Nothing has to be done: the rate is computed from the masks."),
    # the image as a whole
    "image-too-complex": Code(
        "error", "An image has more regions or levels than a table holds.", "image skipped",
        "Split the image, or remove instances that overlap in thousands."),
    # a cache
    "cache-damaged": Code(
        "error", "A cache differs from its checksums.", "no target of it is trusted",
        "Copy the cache again, or build it again from its annotations."),
}
# fmt: on
