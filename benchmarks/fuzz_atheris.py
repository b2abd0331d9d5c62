"""Coverage-guided fuzzing of the RLE decoder and the readers, with atheris.

    pip install atheris          # not a dependency of this project
    python benchmarks/fuzz_atheris.py -max_total_time=1800 CORPUS_DIR

CORPUS_DIR is filled with generated files first. Any error but AmodalError counts as a crash, and so does a mask that
a character-by-character decoder reads differently.
"""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

with atheris.instrument_imports(include=["amodal_data"]):
    from amodal_data import read_annotations
    from amodal_data.errors import AmodalError, MaskError
    from amodal_data.layering.targets import layer_with_findings
    from amodal_data.masks.rle import parse_rle

from support.malformed import case
from support.oracle import decode_string

PATH = Path(tempfile.mkdtemp()) / "f.json"


def decode(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    size = (provider.ConsumeIntInRange(1, 64), provider.ConsumeIntInRange(1, 64))
    counts = provider.ConsumeBytes(200)
    try:
        mask = parse_rle({"size": list(size), "counts": counts}, size)
    except MaskError:
        return
    runs = decode_string(counts)
    assert min(runs) >= 0 and sum(runs) == size[0] * size[1]
    assert mask.area == sum(runs[1::2])


def read(data: bytes) -> None:
    PATH.write_bytes(data)
    try:
        for scene in read_annotations(PATH):
            if scene.size[0] * scene.size[1] < 10**7:
                layer_with_findings(scene)
    except AmodalError:
        return


def fuzz(data: bytes) -> None:
    if data[:1] == b"{" or data[:1] == b"[":
        read(data)
    else:
        decode(data)


def main() -> None:
    corpus = Path(sys.argv[-1])
    corpus.mkdir(exist_ok=True)
    for seed in range(60):
        (corpus / f"case-{seed}").write_bytes(case(seed))
    (corpus / "rle").write_bytes(b"\x10\x10`0P00")
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
