"""The reference of the study file: what it lists may be written, and each key is explained."""

import re
import sys

import jsonschema
import pytest
from conftest import ROOT

from twophase.commands.keys import KEYS
from twophase.commands.schema import inheriting, schema
from twophase.errors import StudyError
from twophase.study import studyfile
from twophase.study.model import Study
from twophase.study.records import Record


@pytest.fixture(scope="module")
def page():
    """The reference as the site has it."""
    sys.path.insert(0, str(ROOT / "docs/hooks"))
    import keys

    text = (ROOT / "docs/reference/study.md").read_text()
    yield re.sub(r"^!!! records (\S+)$", keys.described, text, flags=re.M)
    sys.path.remove(str(ROOT / "docs/hooks"))


def _listed(page):
    """The keys of each record, with the other cells of their rows."""
    found, record = {}, None
    for line in page.splitlines():
        if line.startswith("### "):
            record = found.setdefault(line[4:], {})
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            record[cells[0].strip("` ")] = cells[1:]
    return found


def test_every_key_that_may_be_written_is_listed_with_a_sentence_and_an_example(page):
    listed = _listed(page)
    file = schema()
    written = {**file["$defs"], "Study": file}
    del written["JsonValue"]
    assert listed.keys() == {name for name in written if name != "JsonValue"}
    for record, options in written.items():
        assert listed[record].keys() == options["properties"].keys(), record
        for key, cells in listed[record].items():
            assert len(cells[0]) > 10, (record, key)
            assert cells[0].endswith("."), (record, key)
            assert cells[1].startswith("`"), (record, key)


def test_nothing_is_listed_that_is_refused(page, raw, write_study):
    listed = _listed(page)
    assert "Swept" not in listed
    assert "name" not in listed["Study"]
    assert "image_size" not in listed["MLP"].keys() | listed["Own"].keys()
    classes = {each.__name__: each for each in inheriting(Record)}
    for record, keys in listed.items():
        fields = classes[record].model_fields
        known = {field.alias or name for name, field in fields.items()}
        assert keys.keys() - known <= set(studyfile.SHARED if record == "Study" else ()), record
    with pytest.raises(StudyError, match="name"):
        studyfile.load(write_study({**raw, "name": "mine"}))


def test_every_example_may_be_written():
    file = schema()
    for record, options in {**file["$defs"], "Study": file}.items():
        for key, option in options.get("properties", {}).items():
            own = {**option, "$defs": file["$defs"]}
            for example in option["examples"]:
                assert not list(jsonschema.Draft202012Validator(own).iter_errors(example)), key
                if record == "SGD" and key == "lr":
                    assert list(jsonschema.Draft202012Validator(own).iter_errors(-example))


def test_no_sentence_is_left_of_a_key_that_is_gone():
    classes = {each.__name__: each for each in inheriting(Record)}
    for record, keys in KEYS.items():
        fields = classes[record].model_fields
        names = {field.alias or name for name, field in fields.items()}
        names |= set(studyfile.SHARED) if record == "Study" else set()
        assert keys.keys() <= names, record
    assert KEYS["Study"].keys() == Study.model_fields.keys() - {"name"}


def test_what_readers_could_not_find_is_explained(page):
    (means, *_) = _listed(page)["Chaos"]["barrier_batch_norm"]
    assert "`recalibrate` measures them anew" in means
    assert "cross-entropy" in page.split("### ")[0]
