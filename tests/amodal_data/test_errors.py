"""Errors say what is wrong, where, and what to do: with options in commands, with arguments in Python."""

import pytest

from amodal_data.errors import AmodalError, LayoutError


@pytest.mark.parametrize("fix, python", [
    ("pass --masks modal or --masks amodal", 'pass masks="modal" or masks="amodal"'),
    ("--force replaces it", "force=True replaces it"),
    ("name one: --annotations", "name one: annotations=..."),
    ("use --format NAME, or --no-stream", 'use form="NAME", or no_stream=...'),
    ("predict with --min-score 0.5", "predict with min_score=0.5"),
    ("--set train.workers=0", "the setting train.workers=0"),
    ("sort - or not", "sort - or not"),
])  # fmt: skip
def test_remedies_are_in_the_words_of_the_caller(fix, python, monkeypatch):
    error = LayoutError("wrong", place="a.json", fix=fix)
    assert str(error) == f"wrong\n  at:  a.json\n  fix: {python}" and error.fix == fix
    monkeypatch.setattr(AmodalError, "in_command", True)
    assert str(error) == f"wrong\n  at:  a.json\n  fix: {fix}"
