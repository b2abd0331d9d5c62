"""Pages for users read well: short sentences, few figures, no riddles, code that is never cut off."""

import importlib
import re

import pytest
from support.commands import ROOT

PAGES = [ROOT / "README.md", *(p for p in sorted(ROOT.glob("docs/**/*.md")) if "development" not in p.parts)]
LONGEST, LONG, MOST_LONG = 40, 25, 0.15
"""Words of any sentence at most, words of a long sentence, share of long sentences at most"""
MOST_FIGURES = 5
"""Numbers in a hundred words at most, where figures are not the point"""
FIGURES_ARE_THE_POINT = ("benchmarks", "reference")
CODE_WIDTH = 88
RIDDLES = (r"\b(?:is|are|was|were) (?:told|asked|said)\b", r"\bwho (?:is|lies|stands) (?:in front|behind)\b",
           r"\bas it stands\b", r"\bit were\b", r"\bdata sets?\b", r"\bversion 0\.\d\b", r"\bwe ask for\b")  # fmt: skip
NAMED_NUMBER = re.compile(
    r"\b(?:Python|Tables?|Fig\.|Eq\.|ResNet-?|CC BY|levels?|step|version)\s*\d[\d.]*|\b(?:19|20)\d\d\b"
)


def prose(text):
    """Sentences of a page, without code, tables, headings, HTML and the targets of links."""
    text = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.S | re.M)
    text = re.sub(r"<[^>]+>|!\[[^\]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(?:\||#|!!!|===)", line)]
    text = re.sub(r"`[^`]*`", "CODE", "\n".join(lines))
    for block in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.)\s+", text):
        yield from (part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z*(\"])", " ".join(block.split())) if part)


def words(text):
    return len(re.findall(r"[A-Za-z][\w'-]*", text))


def faults(text, *, figures=True):
    """What is hard to read in a page, in words."""
    sentences = list(prose(text))
    lengths = [words(sentence) for sentence in sentences]
    found = [f"{n} words: {s[:80]}" for n, s in zip(lengths, sentences, strict=True) if n > LONGEST]
    if sum(n > LONG for n in lengths) > MOST_LONG * len(lengths):
        found.append("many long sentences")
    joined = " ".join(sentences)
    numbers = re.findall(r"(?<![\w.])[-+]?\d*\.?\d+", NAMED_NUMBER.sub("", joined))
    if figures and 100 * len(numbers) > MOST_FIGURES * sum(lengths):
        found.append(f"{len(numbers)} numbers in {sum(lengths)} words")
    return found + [match[0] for riddle in RIDDLES for match in re.finditer(riddle, joined, re.I)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_reads_well(page):
    assert not faults(page.read_text(), figures=not set(FIGURES_ARE_THE_POINT) & set(page.parts))


IMPERATIVE = re.compile(r"(Build|Check|Choose|Compute|Find|Look|Predict|Read|Repeat|Score|See|Segment|Show|Train)\b")


def says_what_you_can_do(text):
    """Does the first sentence say what one can do after reading, or what to look up here?"""
    first = next(prose(re.sub(r"<!--.*?-->", "", text)), "")
    is_said = "you can" in first or first.startswith(("After this ", "This table shows"))
    return is_said or IMPERATIVE.match(first) is not None


def test_the_first_sentence_of_every_page_says_what_you_can_do_after_reading(site_pages):
    pages = {
        page.name: page.read_text() for page in (*ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md")
    } | site_pages
    assert not [name for name, text in pages.items() if not says_what_you_can_do(text)]
    assert not says_what_you_can_do("# Levels\n\nA level is a number.")


@pytest.fixture
def site_pages(monkeypatch):
    """The pages that the site generates: address and text."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    hooks = importlib.import_module("hooks")
    commands = {uri: text for _, uri, text in hooks._command_pages()}
    python = {topic: f"# {title}\n\n{intro}" for topic, (title, intro, _) in hooks.TOPICS.items()}
    notebooks = {f"{name}.md": str(hooks._notebook(name)[f"notebooks/{name}.md"]) for name in hooks.NOTEBOOKS}
    return {"settings.md": hooks._settings(), "findings.md": hooks._findings(), **commands, **python, **notebooks}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_is_not_cut_off(page):
    for language, block in re.findall(r"^ *```(\w*).*?\n(.*?)^ *```", page.read_text(), re.S | re.M):
        if language in ("sh", "python", "json"):  # output is as wide as the programs print it
            wide = [line for line in block.splitlines() if len(line) > CODE_WIDTH]
            assert not wide, wide


def test_the_rules_find_what_they_are_made_for():
    assert faults("It " + "goes on and " * 14 + "ends.")
    assert faults("We have 1, 2, 3, 4 and 5 of 6.") and not faults("We have 1, 2 and 3.", figures=False)
    assert faults("Look at it as it stands.") == ["as it stands"]
    assert not faults("Read the file. It has `9 9 9 9` in it.\n\n```text\n" + "1 " * 100 + "\n```\n")
