"""The house rules, read from the source: who imports whom, who may know what, and the size of things."""

import ast
import fnmatch
import functools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("ladder", "fitting", "configs", "launch")
ARROWS = {
    "ladder": {"ladder"},
    "fitting": {"fitting"},
    "configs": {"configs", "ladder"},
    "launch": {"launch", "configs", "fitting", "ladder"},
}
# The packages of a room, and modules at its top, from the ground up: none imports one that comes later. What is not
# named here (errors, config, sizes ...) is the ground.
LAYERS = {
    "ladder": ("model", "optim", "parallel", "rundir", "data", "evaluation", "convert", "monitor", "loop", "replay"),
    "fitting": (
        *("laws", "solvers", "tables", "inference", "forecasting", "loss_laws", "bhagia2024"),
        *("bench", "report", "studies", "api"),
    ),
    "configs": (),
    "launch": (
        "run_log",
        "epochs",
        "plan",
        "ladder_file",
        "emit",
        "prepare",
        "verify",
        "data",
        "fetch",
        "aot",
        "backends",
        "scheduler",
        "trackers",
        "doctor",
        "page",
        "sealed",
        "demo",
        "study",
        "cli",
    ),
}
MOST_FILES = 14  # in a folder
# A package and the only files that may import it, wherever in the file.
KNOWN_BY = {
    "orbax": {"ladder/rundir/checkpoint.py"},
    "grain": {"ladder/data/corpus.py", "ladder/data/batches.py"},
    "tensorflow_datasets": {"ladder/data/records.py", "ladder/data/texts/tfds_source.py"},
    "jaxopt": {"fitting/solvers/levenberg_marquardt.py"},
    "gguf": {"ladder/convert/gguf.py"},
    "apache_beam": {"ladder/data/sharded/pipeline.py"},
    "tensorflow": set(),
    "torch": set(),
    "pickle": set(),
    "cloudpickle": set(),
}
NO_JAX_AT_TOP = {
    f"ladder/{name}.py" for name in ("config", "sizes", "topologies", "rundir/record", "errors", "data/tokenizer")
}
HEAVY = {"jax", "flax", "optax", "orbax", "tensorflow_datasets", "grain", "jaxopt"}
OPTIONAL = {"kubernetes", "apache_beam", "google", "gguf", "wandb", "tensorboardX", "trackio"}
FORBIDDEN_CALLS = {"yaml.load", "os.system", "pickle.load", "pickle.loads", "eval", "exec"}

FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}


def imported(nodes) -> set[str]:
    """Top-level packages of the import statements among `nodes`."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; the arrows are read from absolute ones"
            names.add(node.module.split(".")[0])
    return names


@functools.cache
def everywhere_imported(file: str) -> set[str]:
    return imported(ast.walk(TREES[file]))


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run at import: all but the bodies of functions."""
    found, todo = [], list(tree.body)
    while todo:
        node = todo.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found.append(node)
            todo += [child for child in ast.iter_child_nodes(node)]
    return found


def lines(path: str) -> int:
    return len((ROOT / path).read_text().splitlines())


def functions(tree: ast.Module):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_imports_follow_the_arrows():
    for file in TREES:
        rooms = everywhere_imported(file) & {*ROOMS, "tests", "tools"}
        assert rooms <= ARROWS[file.split("/")[0]], f"{file} imports {rooms}"


def layer(module: str) -> tuple[str, int]:
    """(room, floor) of "room.package.module"; 0 is the ground."""
    room, *rest = module.split(".")
    return room, 1 + LAYERS[room].index(rest[0]) if rest and rest[0] in LAYERS[room] else 0


def modules_imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ROOMS}


def test_no_arrow_inside_a_room_runs_upwards():
    for file, tree in TREES.items():
        if file.endswith("__init__.py") and file.count("/") == 1:
            continue  # a room's face shows what is on all floors
        room, floor = layer(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        upwards = [name for name in modules_imported(tree) if layer(name)[0] == room and layer(name)[1] > floor]
        assert not upwards, f"{file} imports {upwards}"


def test_no_room_is_flat():
    folders = {}
    for path in FILES:
        if path.name not in ("__init__.py", "__main__.py"):
            folders.setdefault(path.parent.relative_to(ROOT).as_posix(), []).append(path.name)
    crowded = {folder: len(names) for folder, names in folders.items() if len(names) > MOST_FILES}
    assert not crowded


def test_every_package_says_in_five_lines_what_is_in_it_and_where_to_start_reading():
    for file in [file for file in TREES if file.endswith("__init__.py")]:
        docstring = ast.get_docstring(TREES[file])
        assert docstring and len(docstring.splitlines()) <= 5, file
        named = re.findall(r"(?<![*\w/])[\w/]+\.py", docstring)
        assert named and all((ROOT / file).parent.joinpath(name).is_file() for name in named), file


@pytest.mark.parametrize("package", KNOWN_BY)
def test_only_its_files_know_a_package(package):
    knowing = {file for file in TREES if package in everywhere_imported(file)}
    assert knowing <= KNOWN_BY[package]


def test_what_answers_at_once_imports_nothing_heavy_at_the_top():
    for file, tree in TREES.items():
        at_top = imported(top_level(tree))
        assert not at_top & OPTIONAL, f"{file} imports an optional package at the top"
        if file in NO_JAX_AT_TOP or file.startswith(("launch/", "configs/")):
            assert not at_top & HEAVY, file


def test_no_dangerous_calls():
    for file, tree in TREES.items():
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            assert ast.unparse(call.func) not in FORBIDDEN_CALLS, f"{file}:{call.lineno}"
            shell = [k.value for k in call.keywords if k.arg == "shell"]
            assert all(ast.unparse(value) == "False" for value in shell), f"{file}:{call.lineno}: shell=True"


def test_files_and_functions_stay_small():
    for file, tree in TREES.items():
        assert lines(file) < 400, f"{file}: a second concept is hiding in it"
        for function in functions(tree):
            length = function.end_lineno - function.lineno + 1
            limit = 150 if (file, function.name) == ("ladder/loop/train.py", "train") else 60
            assert length < limit, f"{file}:{function.lineno}: {function.name} has {length} lines"


def test_the_trainer_can_be_read_in_an_afternoon():
    """The loop, the model, the optimizer and the layout on devices, and what a rung is."""
    packages = ("ladder/loop/", "ladder/model/", "ladder/optim/", "ladder/parallel/", "ladder/config.py")
    assert sum(lines(file) for file in TREES if file.startswith(packages)) < 2500


def test_every_file_that_is_no_module_is_in_the_wheel():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.*") if path.suffix not in (".py", ".pyc")]
    assert files and [path for path in files if not any(fnmatch.fnmatch(path.name, p) for p in patterns)] == []


def test_the_rules_can_fail():
    tree = ast.parse("import jax.numpy as jnp\nfrom fitting import laws\ndef f():\n    import orbax.checkpoint\n")
    assert imported(ast.walk(tree)) == {"jax", "fitting", "orbax"}
    assert imported(top_level(tree)) == {"jax", "fitting"}
    assert layer("ladder.loop.train") > layer("ladder.model.transformer") > layer("ladder.config")
    inside = ast.parse("class A:\n    import jax\nif True:\n    import grain\n")
    assert imported(top_level(inside)) == {"jax", "grain"}


def definitions(tree: ast.AST, prefix: str = "") -> set[str]:
    """Functions, classes and methods of a module: {"build", "Run", "Run.save", ...}."""
    names = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names |= {prefix + node.name} | definitions(node, f"{prefix}{node.name}.")
    return names


def test_the_architecture_page_names_functions_that_exist():
    sections = (ROOT / "docs/architecture.md").read_text().split("\n## ")
    walks = {section.split("\n")[0]: section for section in sections if re.search(r"^1\. ", section, re.M)}
    assert set(walks) == {"A batch", "A runs table", "A submitted rung", "A NaN"}
    for name, walk in walks.items():
        assert len(re.findall(r"^\d+\. ", walk, re.M)) == 10, name
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", "\n".join(sections))
    assert len(named) > 40
    missing = [f"{file}:{name}" for file, name in named if file not in TREES or name not in definitions(TREES[file])]
    assert not missing
