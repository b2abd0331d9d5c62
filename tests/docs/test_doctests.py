"""Examples in the help of public names run; every public class and function has one."""

import doctest
import inspect

import pytest

import amodal_data
import sln

PUBLIC = [(package, name) for package in (amodal_data, sln) for name in sorted(package.__all__)]
DOCUMENTED = [(package, name) for package, name in PUBLIC if callable(getattr(package, name))]


def examples(value):
    finder = doctest.DocTestFinder(recurse=True)
    tests = finder.find(value, value.__qualname__, globs={}) if hasattr(value, "__qualname__") else []
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("package, name", PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_examples_of_public_names_run(package, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for test in examples(getattr(package, name)):
        output = []
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
        assert not output, "".join(output)


@pytest.mark.parametrize("package, name", DOCUMENTED, ids=lambda value: getattr(value, "__name__", value))
def test_every_public_class_and_function_has_an_example(package, name):
    assert doctest.DocTestParser().get_examples(inspect.getdoc(getattr(package, name)) or ""), name
