"""Photos with modal masks, and the objects that can be cut out of them."""

import pytest
from support.scenes import modal_photos

from amodal_data.synthetic.composing.object_bank import build_object_bank


@pytest.fixture(scope="module")
def modal(tmp_path_factory):
    return modal_photos(tmp_path_factory.mktemp("modal"))


@pytest.fixture(scope="module")
def bank(modal):
    return build_object_bank(modal, [modal.parent])
