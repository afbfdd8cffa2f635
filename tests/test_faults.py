"""The faults that `tests/trials/plant.py` plants are still faults of this code."""

import ast

from trials import plant


def test_each_fault_has_its_place_in_the_code_and_the_tests_that_catch_it():
    faults, texts, known = plant.table(), plant.code(), plant.known_tests()
    assert len({fault.name for fault in faults}) == len(faults) >= 64
    for fault in faults:
        file = plant.place(fault, texts)
        assert plant.nodes(fault, known), fault.name
        assert fault.put != fault.find, fault.name
        if file.suffix == ".py":  # a slip of thought, not of the keyboard
            ast.parse(texts[file].replace(fault.find, fault.put))
