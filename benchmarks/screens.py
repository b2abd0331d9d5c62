"""Take screenshots of an inspector page: every view, on a desktop and a phone, light and dark.

python benchmarks/screens.py page.html out [--hash image=3]    (needs playwright and Chromium)
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

VIEWS = ("photo", "instances", "layers", "levels", "semdist", "relative", "exploded")
SIZES = {"desk": (1440, 900), "phone": (390, 844)}


def shoot(page_file: Path, out: Path, address: str) -> None:
    """Write one PNG per view, size and color scheme."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for name, (width, height) in SIZES.items():
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                for view in VIEWS:
                    page.goto("about:blank")
                    page.goto(f"file://{page_file.resolve()}#{address}&view={view}")
                    page.wait_for_function("() => document.documentElement.dataset.ready")
                    page.screenshot(path=out / f"{view}_{name}_{scheme}.png")
                context.close()
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hash", default="")
    arguments = parser.parse_args()
    shoot(arguments.page, arguments.out, arguments.hash)
