"""Run notebooks without Jupyter. ``python tests/support/notebooks.py NOTEBOOK ...`` stores what their cells give."""

import ast
import base64
import io
import json
import os
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path

from PIL import Image


def run(path):
    """Execute the cells of a notebook in an empty folder; returns its content with the outputs of this run."""
    notebook, names, count = json.loads(Path(path).read_text()), {"__name__": "__main__"}, 0
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                cell["execution_count"] = count
                cell["outputs"] = outputs("".join(cell["source"]), names, count)
    return notebook


def outputs(source, names, count):
    """What a notebook shows below a cell: printed text, and its last value as a picture, HTML or text."""
    tree, shown = ast.parse(source), []
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        shown.append({"output_type": "stream", "name": "stdout", "text": lines})
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": count, "metadata": {}}
        shown.append({**result, "data": forms(value)})
    return shown


def forms(value):
    """A value in the forms that are stored: by type of content."""
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        value.convert("RGB").save(buffer, "JPEG", quality=85)
        text = f"<{value.width} x {value.height} image>"
        return {"image/jpeg": base64.b64encode(buffer.getvalue()).decode(), "text/plain": [text]}
    return {"text/plain": repr(value).splitlines(keepends=True)}


def picture(data):
    """The stored picture of an output, or None."""
    return Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))) if "image/jpeg" in data else None


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    for name in sys.argv[1:]:
        content = json.dumps(run(Path(name).resolve()), indent=1, ensure_ascii=False)
        Path(name).write_text(content + "\n")
