"""The import graph of the packages, read from their source."""

import ast
from functools import cache

from support.commands import ROOT

PACKAGES = {
    "amodal_data": ROOT / "amodal_data",
    "sln": ROOT / "sln",
    "amodal_cli": ROOT / "cli" / "amodal_cli",
}


def modules():
    """(dotted name, path) of every module."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def functions_of(tree):
    """Every node of a tree with the name of the function it stands in, "" at the top level."""

    def walk(node, function):
        for child in ast.iter_child_nodes(node):
            name = child.name if isinstance(child, ast.FunctionDef) else function
            yield child, name
            yield from walk(child, name)

    return walk(tree, "")


def is_type_checking(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path):
    """(full name, function it is imported in) of all that a file imports."""
    for node, function in functions_of(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module, function
            yield from ((f"{node.module}.{alias.name}", function) for alias in node.names)


def stub_names(package):
    """Public names of a package that loads them lazily, with the modules of its stub."""
    tree = ast.parse((PACKAGES[package] / "__init__.pyi").read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.name, f"{package}.{node.module}") for alias in node.names)


@cache
def graph():
    """{module: {imported module: functions it is imported in}}; public names count as the modules that define them."""
    known = dict(modules())
    homes = {f"{package}.{name}": home for package in ("amodal_data", "sln") for name, home in stub_names(package)}
    edges = {name: {} for name in known}
    for name, path in known.items():
        for target, function in imports(path):
            target = homes.get(target, target)
            if target in known and target != name and target not in ("amodal_data", "sln"):
                edges[name].setdefault(target, set()).add(function)
    return edges


def room(module):
    """The first-level room of a module, with its package."""
    return ".".join(module.split(".")[:2])
