"""A server of the editing page in a thread, and edits as somebody makes them who knows only the file."""

import base64
import copy
import json
import os
import threading
from contextlib import contextmanager

import numpy as np

from amodal_data import layer_scene, read_cocoa
from amodal_data.editing.journal import journal_path, open_journal
from amodal_data.editing.server import EditingServer
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source


def edits(count):
    """How many random edits a test makes; more with the environment variable EDITS."""
    return int(os.environ.get("EDITS", count))


@contextmanager
def serving(path, propose=None, **options):
    """The editing server of a file, with the photos beside it; options: see :func:`open_source`."""
    source = open_source(path, **options)
    with open_journal(journal_path(path), source.origin) as journal:
        session = EditingSession(source, journal, [path.parent], propose=propose)
        with EditingServer(session) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()


class DrawnImage:
    """One image of a COCOA file whose regions are changed by hand: masks, names and order, nothing that follows."""

    def __init__(self, path, image_id):
        content = json.loads(path.read_text())
        (row,) = [row for row in content["annotations"] if row["image_id"] == image_id]
        kept = ("segmentation", "order", "name", "isStuff")
        regions = {n: {key: region[key] for key in kept if key in region} for n, region in enumerate(row["regions"])}
        self.images, self.image_id = [i for i in content["images"] if i["id"] == image_id], image_id
        self.path, self.states, self.place = path.with_name("drawn.json"), [regions], 0

    def apply(self, event):
        """Take an event of a journal."""
        if event["do"] in ("undo", "redo"):
            self.place += 1 if event["do"] == "redo" else -1
            return
        regions = copy.deepcopy(self.states[self.place])
        n = event.get("instance")
        if event["do"] == "draw":
            n = max([len(self.states[0]) - 1, *regions]) + 1
            regions[n] = {"segmentation": event["polygons"][0], "order": 0, "name": event["name"]}
        if event["do"] in ("draw", "move"):
            order = sorted(regions, key=lambda m: (regions[m]["order"], m))
            order.remove(n)
            order.insert(len(order) if event["before"] is None else order.index(event["before"]), n)
            for rank, m in enumerate(order):
                regions[m]["order"] = rank + 1
        elif event["do"] == "swap":
            one, other = regions[n], regions[event["other"]]
            one["order"], other["order"] = other["order"], one["order"]
        elif event["do"] == "delete":
            del regions[n]
        elif event["do"] == "rename":
            regions[n]["name"] = event["name"]
        elif event["do"] == "outline":
            polygons = event["polygons"]
            regions[n]["segmentation"] = polygons[0] if len(polygons) == 1 else polygons
        else:
            raise AssertionError(event)
        self.states[self.place + 1 :] = [regions]
        self.place += 1

    @property
    def regions(self):
        """The regions by their position in the source."""
        return self.states[self.place]

    def annotation(self):
        """The annotation of the image as it is written."""
        return {"image_id": self.image_id, "regions": list(self.regions.values())}

    def levels(self):
        """Level codes of the instances, in the order of the regions, uint8 [N, H, W]."""
        self.path.write_text(json.dumps({"images": self.images, "annotations": [self.annotation()]}))
        targets = layer_scene(read_cocoa(self.path)[0])
        return targets.levels[np.argsort(targets.region_index)]


def shown_levels(answer):
    """Level codes that the page gets from the server, in the order of the source, uint8 [N, H, W]."""
    truth, shape = answer["document"]["truth"], answer["document"]["shown"]
    regions = _unpacked(truth["runs"]).reshape(shape)
    table = _unpacked(truth["table"]).reshape(-1, truth["regions"])
    return np.stack([table[n][regions] for n in np.argsort(answer["positions"])]).astype(np.uint8)


def _unpacked(text):
    """Values of runs that are packed as value, length, value, length, ..., seven bits a byte."""
    numbers, value, shift = [], 0, 0
    for byte in base64.b64decode(text):
        value, shift = value + ((byte & 127) << shift), shift + 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    return np.repeat(numbers[::2], numbers[1::2])


def bent(rng, size):
    """A random polygon inside an image, x, y, x, y, ..."""
    count = int(rng.integers(3, 20))
    angles = (np.arange(count) + rng.uniform(-0.4, 0.4, count)) * (2 * np.pi / count)  # no sliver without a pixel
    center, radius = rng.uniform(0.2, 0.8, 2) * size[::-1], rng.uniform(8, 0.4 * min(size), len(angles))
    points = center + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    return points.round(2).ravel().tolist()


def random_event(rng, shown, names):
    """An edit that the image allows; at least three instances stay."""
    positions = shown["positions"]
    instance, before = rng.choice(positions, 2, replace=False).tolist()
    kinds = ["move", "swap", "rename", "outline", "delete", "draw"]
    do = str(rng.choice(kinds, p=[0.35, 0.1, 0.15, 0.3, 0.06, 0.04]))
    if (do == "delete" and len(positions) < 4) or (do == "draw" and len(positions) > 9):
        do = "move"
    place, name = {"before": before if rng.random() < 0.9 else None}, {"name": str(rng.choice(names))}
    outline = {"polygons": [bent(rng, shown["document"]["size"])]}
    more = {"move": place, "swap": {"other": before}, "rename": name, "outline": outline, "delete": {},
            "draw": place | name | outline}  # fmt: skip
    return {"do": do, **({} if do == "draw" else {"instance": instance}), **more[do]}


def random_step(rng, shown, names):
    """A random edit, or a step back or forth along those that were made."""
    steps = [name for name, share in (("undo", 0.2), ("redo", 0.1)) if shown[name] and rng.random() < share]
    return {"do": steps[0]} if steps else random_event(rng, shown, names)
