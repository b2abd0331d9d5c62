"""The page of twenty questions: its clicks lead from Home to a page with the answer."""

import importlib
import re

import pytest
import yaml
from markdown.extensions.toc import slugify
from support.commands import ROOT

DOCS = ROOT / "docs"
ROW = re.compile(r"^\| (.+\?) \| (.+) \| \[(.+)\]\(\.\./([^)#]+)#?([^)]*)\) \|$", re.MULTILINE)
ROWS = ROW.findall((DOCS / "development" / "questions.md").read_text())
GENERATED = {"reference/findings.md": "Findings", "reference/settings.md": "Settings"}


@pytest.fixture
def findings(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "site")
    return importlib.import_module("hooks")._findings()


def reached(clicks):
    """The page that one link of Home leads to, or a tab and a page of its list."""
    if len(clicks) == 1:
        links = re.findall(r"\[([^\]]+)\]\(([^)#]+)\)", (DOCS / "index.md").read_text())
        return {target for text, target in links if text == clicks[0]}
    tab, title = clicks
    (entries,) = [part[tab] for part in yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"] if tab in part]
    return {page for page in entries if title_of(page) == title}


def title_of(page):
    return GENERATED.get(page) or (DOCS / page).read_text().splitlines()[0].removeprefix("# ")


def section(text, anchor):
    """The part of a page below the heading with an anchor, up to the next heading; without one, the whole page."""
    parts, code = [""], False
    for line in text.splitlines(keepends=True):
        code ^= line.lstrip().startswith("```")
        if line.startswith("#") and not code:
            parts.append("")
        parts[-1] += line
    titles = {slugify(part.splitlines()[0].lstrip("# ").replace("`", ""), "-"): part for part in parts if part}
    return titles[anchor] if anchor else text


@pytest.mark.parametrize("question, clicks, answer, page, anchor", ROWS, ids=[row[0] for row in ROWS])
def test_the_answer_is_at_most_two_clicks_away(question, clicks, answer, page, anchor, findings):
    path = [clicks] if reached([clicks]) else clicks.split(", ", 1)
    assert reached(path) == {page}
    text = findings if page == "reference/findings.md" else (DOCS / page).read_text()
    assert answer.lower() in " ".join(section(text, anchor).split()).lower()


def test_there_are_twenty_questions():
    assert len(ROWS) == 20 and reached(["no such link"]) == set()
    assert section("# A\n\nb\n\n## C `d`\n\ne\n", "c-d") == "## C `d`\n\ne\n"
