"""What ``pyproject.toml`` says of the package is what the package is."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
# imported where they are installed: kernels (comes with PyTorch for CUDA), another segmenter
OPTIONAL = {"triton", "jieba"}


def imported_packages(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def distribution_name(requirement):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_to_cite_is_that_of_the_package(project):
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    in_bibtex = re.search(r"version = \{(.*)\}", (REPOSITORY / "docs/questions.md").read_text(encoding="utf-8"))[1]
    assert cited["version"] == in_bibtex == project["version"]


def test_what_is_imported_is_declared(project):
    requirements = [*project["dependencies"], *project["optional-dependencies"]["scale"]]
    declared = {distribution_name(requirement) for requirement in requirements}
    files = [*REPOSITORY.glob("*.py"), *(REPOSITORY / "src").rglob("*.py")]
    imported = {name for file in files for name in imported_packages(file)}
    owners = packages_distributions()
    undeclared = {
        name
        for name in imported - sys.stdlib_module_names - OPTIONAL - {"flash"}
        if not declared & {distribution_name(owner) for owner in owners[name]}
    }
    assert not undeclared
