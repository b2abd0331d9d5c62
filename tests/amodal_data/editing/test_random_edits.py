"""Thousands of random edits, each against a file that is drawn that way, and undone to the start."""

import numpy as np
import pytest
from support.editing import DrawnImage, edits, random_event, random_step, shown_levels

from amodal_data import write_cocoa
from amodal_data.editing.journal import journal_path, open_journal
from amodal_data.editing.session import EditingSession
from amodal_data.editing.source import open_source

NAMES = ["cup", "box", "", "ΔΩ <b>"]


@pytest.fixture
def cocoa(tmp_path):
    return write_cocoa(tmp_path / "cocoa", 3, seed=5, size=(120, 160), instances=(6, 9), photos=False)


def test_levels_equal_those_of_a_file_drawn_that_way_after_every_edit(cocoa):
    count = edits(120)
    source, rng = open_source(cocoa), np.random.default_rng(11)
    with open_journal(journal_path(cocoa), source.origin) as journal:
        session = EditingSession(source, journal)
        drawn = [DrawnImage(cocoa, image_id) for image_id in source.scenes.image_ids]
        shown = [session.document(place) for place in range(len(drawn))]
        start, instances = [answer["document"]["truth"] for answer in shown], [drawing.regions for drawing in drawn]
        kinds, changed = set(), 0
        for _ in range(count):
            place = int(rng.integers(len(drawn)))
            before = shown_levels(shown[place])
            event = random_step(rng, shown[place], NAMES)
            if not rng.integers(400):  # begin again, with all instances
                event = {"do": "undo"} if shown[place]["undo"] else event
                while shown[place]["undo"] > 1:
                    shown[place] = session.edit(place, shown[place]["revision"], event)
                    drawn[place].apply(event)
            shown[place] = session.edit(place, shown[place]["revision"], event)
            drawn[place].apply(event)
            levels = shown_levels(shown[place])
            assert (levels == drawn[place].levels()).all(), event
            names = [one["name"] for one in shown[place]["document"]["truth"]["instances"]]
            assert names == [drawn[place].regions[n].get("name", "") for n in shown[place]["positions"]]
            kinds.add(event["do"])
            changed += levels.shape != before.shape or (levels != before).any()
        assert kinds == {"move", "swap", "rename", "outline", "delete", "draw", "undo", "redo"} and changed > count / 2
        for place, answer in enumerate(shown):
            while answer["undo"]:
                answer = session.edit(place, answer["revision"], {"do": "undo"})
            assert answer["document"]["truth"] == start[place] and len(answer["positions"]) == len(instances[place])


def test_undo_and_redo_of_random_edits_give_the_start_and_the_end_again(cocoa):
    count = edits(60)
    source, rng = open_source(cocoa), np.random.default_rng(3)
    with open_journal(journal_path(cocoa), source.origin) as journal:
        session = EditingSession(source, journal)
        answers = [session.document(0)]
        for _ in range(count):
            answers.append(session.edit(0, answers[-1]["revision"], random_event(rng, answers[-1], NAMES)))
        last = answers[-1]
        for step, states in (("undo", answers[-2::-1]), ("redo", answers[1:])):
            for state in states:
                last = session.edit(0, last["revision"], {"do": step})
                assert last["document"]["truth"] == state["document"]["truth"] and last["stack"] == state["stack"]
        assert (last["undo"], last["redo"], last["revision"]) == (count, 0, 3 * count)
    with open_journal(journal_path(cocoa), source.origin) as journal:  # the next session has all of it
        again = EditingSession(source, journal).document(0)
        assert again["document"]["truth"] == last["document"]["truth"] and again["undo"] == count
