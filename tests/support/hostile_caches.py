"""Attacked caches with repaired checksums, and a slow reader that trusts nothing."""

import hashlib
import json
import zlib

import h5py
import numpy as np

COLUMNS = ("runs/region", "runs/length", "levels", "flags", "instances", "pairs", "text")
BLOCK = 512


def repair(path):
    """Recompute the checksum of every image and the digest of the file, as far as possible."""
    try:
        with h5py.File(path, "r+") as file:
            rows, ptr = file["images"][:], file["ptr"][:]
            for k in range(min(len(rows), len(ptr) - 1)):
                crc = zlib.crc32(rows[k].tobytes()[:-4])
                for name in COLUMNS:
                    crc = zlib.crc32(file[name][int(ptr[k][name]) : int(ptr[k + 1][name])].tobytes(), crc)
                rows["crc32"][k] = crc
            file["images"][...] = rows
    except Exception:  # the attack left nothing to repair
        pass
    raw = path.read_bytes()
    digest = hashlib.sha256(raw[BLOCK:]).hexdigest()
    path.write_bytes(f"amodal-targets\nversion 1\nsha256 {digest}\n".encode().ljust(BLOCK, b"\0") + raw[BLOCK:])


def _field(name, values, column="images"):
    def attack(file, rng):
        data = file[column][:]
        data[name][rng.integers(len(data))] = values[rng.integers(len(values))]
        file[column][...] = data

    return attack


def _values(column, values):
    def attack(file, rng):
        data = file[column][:]
        data.reshape(-1)[rng.integers(data.size)] = values[rng.integers(len(values))]
        file[column][...] = data

    return attack


def _pointer(file, rng):
    ptr = file["ptr"][:]
    name = COLUMNS[rng.integers(len(COLUMNS))]
    ptr[name][rng.integers(len(ptr))] += rng.choice([-(2**40), -1, 1, 7, 2**40])
    file["ptr"][...] = ptr


def _all_pointers(file, rng):
    ptr = file["ptr"][:]
    ptr[COLUMNS[rng.integers(len(COLUMNS))]] = rng.choice([0, 5, 2**62])
    file["ptr"][...] = ptr


def _replace(file, name, data, **how):
    del file[name]
    file.create_dataset(name, data=data, **how)


def _other_kind(file, rng):
    name = [*COLUMNS, "images", "ptr", "findings"][rng.integers(10)]
    kind = rng.integers(4)
    data = np.zeros((7, 7), "<f4") if kind == 0 else np.zeros(0, "u1") if kind == 1 else np.zeros((), "<i8")
    _replace(file, name, data if kind < 3 else file[name][:].tobytes().hex())


def _other_length(file, rng):
    name = COLUMNS[rng.integers(len(COLUMNS))]
    data = file[name][:]
    _replace(file, name, data[: rng.integers(len(data))] if rng.random() < 0.5 else np.concatenate([data, data]))


def _announced(file, rng):
    name = ["ptr", "images", *COLUMNS][rng.integers(9)]
    kind, shape = file[name].dtype, file[name].shape[1:]
    del file[name]
    chunks = (4096, *shape)
    file.create_dataset(
        name, (2**30, *shape), kind, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
    )


def _link(file, rng):
    name = [*COLUMNS, "images", "ptr", "findings"][rng.integers(10)]
    if rng.random() < 0.5:
        file.move(name, "elsewhere")
        file[name] = h5py.SoftLink("/elsewhere")
    else:
        del file[name]
        file[name] = h5py.ExternalLink("/etc/hostname", "/")


def _external(file, rng):
    name = ["findings", "text", "levels"][rng.integers(3)]
    length = len(file[name])
    del file[name]
    file.create_dataset(name, (length,), "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _virtual(file, rng):
    name = ["levels", "text", "findings"][rng.integers(3)]
    length = len(file[name])
    del file[name]
    layout = h5py.VirtualLayout((length,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (length,))
    file.create_virtual_dataset(name, layout)


def _attribute(file, rng):
    name = list(file.attrs)[rng.integers(len(file.attrs))]
    values = [None, 7, -1, "{", "[" * 100_000, "[]", '{"a": 1}', "7", np.zeros(5), '[{"name": "a", "sha256": 5}]']
    value = values[rng.integers(len(values))]
    del file.attrs[name]
    if value is not None:
        try:
            file.attrs[name] = value
        except OSError:  # too large for an attribute
            file.attrs[name] = "[" * 30_000


def _shard(file, rng):
    numbers = [0, -1, 5, 10**9, "x", None][rng.integers(6)]
    file.attrs["shard"] = json.dumps({"start": numbers, "stop": 5, "total": 9})


def _findings(file, rng):
    line = {"code": "area-differs", "file": "a", "image_id": 1, "region": 0, "message": "x"}
    key = list(line)[rng.integers(5)]
    bad = [None, 5, "no", [1], {}][rng.integers(5)]
    texts = [
        json.dumps({**line, key: bad}),
        "{",
        "[" * 5000,
        "null",
        "5",
        '"x"',
        "\ud800".encode("utf-8", "replace").decode(),
    ]
    text = np.frombuffer(texts[rng.integers(len(texts))].encode() + b"\n", np.uint8)
    _replace(file, "findings", text, chunks=(len(text),), compression="gzip", compression_opts=1, shuffle=True)


def _pairs(file, rng):
    data = file["pairs"][:]
    if len(data):
        k = rng.integers(len(data))
        data[k] = data[k][::-1] if rng.random() < 0.5 else data[rng.integers(len(data))]
        file["pairs"][...] = data


def _consistent(file, rng):
    """Another valid scene: only a comparison with the source shows the difference."""
    data = file["instances"][:]
    name = ["annotation_id", "category_id", "region_index", "order"][rng.integers(4)]
    data[name][rng.integers(len(data))] += 1 + rng.integers(5)
    file["instances"][...] = data


def _moved_boundary(file, rng):
    """A pixel moves to another region, so areas no longer match."""
    data = file["runs/length"][:]
    k = rng.integers(len(data) - 1)
    if data[k] > 1:
        data[k] -= 1
        data[k + 1] += 1
        file["runs/length"][...] = data


ATTACKS = {
    "height": _field("height", [0, -1, 1, 2**31 - 1, -(2**31)]),
    "width": _field("width", [0, -1, 1, 2**31 - 1]),
    "regions": _field("regions", [0, -1, 1, 2, 65_535, 2**31 - 1]),
    "image id": _field("id", [0, -1, 2**62]),
    "run length": _values("runs/length", [0, 1, 65_535]),
    "run region": _values("runs/region", [0, 1, 65_535, 77]),
    "level": _values("levels", [0, 1, 2, 3, 255]),
    "flags": _values("flags", [0, 1, 2, 255]),
    "area": _field("area", [0, -1, 2**62], "instances"),
    "visible area": _field("visible_area", [0, -1, 7], "instances"),
    "rate": _field("occlusion_rate", [np.nan, np.inf, -1, 0.5], "instances"),
    "deepest": _field("deepest_level", [-9, 300, 1], "instances"),
    "stuff": _field("is_stuff", [1, 2, 255], "instances"),
    "text": _values("text", [0, 255, 65, 27]),
    "pair": _values("pairs", [-1, 0, 1, 2, 2**31 - 1]),
    "pairs": _pairs,
    "pointer": _pointer,
    "pointers": _all_pointers,
    "kind": _other_kind,
    "length": _other_length,
    "announced": _announced,
    "link": _link,
    "external": _external,
    "virtual": _virtual,
    "attribute": _attribute,
    "shard": _shard,
    "findings": _findings,
    "consistent": _consistent,
    "boundary": _moved_boundary,
}


def attack(source, path, seed):
    """Write a copy of a cache with one random attack and repaired checksums; returns the name of the attack."""
    rng = np.random.default_rng(seed)
    name = list(ATTACKS)[seed % len(ATTACKS)]
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        ATTACKS[name](file, rng)
        if rng.random() < 0.2:  # a second attack
            second = list(ATTACKS)[rng.integers(len(ATTACKS))]
            try:
                ATTACKS[second](file, rng)
            except (KeyError, ValueError, TypeError, OSError, IndexError, AttributeError, MemoryError):  # nothing left
                second = ""
            name += f" + {second}" if second else ""
    repair(path)
    return name


def read_plainly(path, index):
    """Id, texts, the code of every pixel and pairs of an image, read from the columns without any check."""
    with h5py.File(path) as file:
        row, ptr = file["images"][index], file["ptr"][:]
        part = {name: file[name][ptr[index][name] : ptr[index + 1][name]] for name in COLUMNS}
    n, height, width = len(part["instances"]), int(row["height"]), int(row["width"])
    codes = np.zeros((n, width * height), np.uint8)
    start = 0
    for region, length in zip(part["runs/region"].tolist(), part["runs/length"].tolist(), strict=True):
        for instance in range(n):
            codes[instance, start : start + length] = part["levels"][region * n + instance]
        start += length
    texts = bytes(part["text"]).decode().split("\0")
    return int(row["id"]), texts, codes.reshape(n, width, height).transpose(0, 2, 1), part["pairs"].tolist()
