"""The table of docs/reference/readers.md is what the readers do."""

from pathlib import Path

from support.reader_properties import table


def test_the_table_of_readers_is_what_they_do(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "readers.md").read_text()
    stored = page.split("<!-- properties -->\n")[1].split("\n<!-- end -->")[0]
    assert table(tmp_path).strip() == stored
