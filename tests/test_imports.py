"""The import rules of the house, read from the source: which way packages point; no module works at import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bot", "dialogue", "models")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
ALLOWED_NEIGHBOURS = {"bot": {"dialogue", "models"}, "dialogue": set[str](), "models": set[str]()}
ENVIRONMENT_READERS = {"bot/settings.py"}
# What a module may do when it is imported: name things. A call there may only build a value.
STATEMENTS = (
    *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.Assign, ast.AnnAssign, ast.Expr, ast.If, ast.Try),
)
WORK = {"open", "print", "exec", "eval", "input", "basicConfig", "read_text", "read_bytes", "write_text", "mkdir"}
WORK |= {"run", "Popen", "from_pretrained", "set_num_threads", "manual_seed", "connect", "load_settings", "getenv"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_of(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    allowed = ALLOWED_NEIGHBOURS[own] | {own}
    for name in imports(path):
        if is_of(name, "visavis"):
            assert name.split(".")[1] in allowed, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_redis_and_tensors_stay_where_they_belong(path: Path) -> None:
    is_store = path.parent.name == "dialogue" and path.name.startswith("store")
    may_ask_torch = path.is_relative_to(ROOT / "models") or name_of(path) == "bot/doctor.py"
    for name in imports(path):
        assert is_store or not is_of(name, "redis"), f"{name_of(path)} imports {name}"
        if is_of(name, "torch"):
            assert may_ask_torch, f"{name_of(path)} imports {name}"
        if is_of(name, "transformers"):
            assert path.is_relative_to(ROOT / "models"), f"{name_of(path)} imports {name}"


def test_only_the_command_line_and_the_doctor_import_late_in_bot() -> None:
    allowed = {
        "cli.py",
        "cli_bench.py",
        "cli_import.py",
        "cli_photos.py",
        "cli_platforms.py",
        "cli_options.py",
        "cli_privacy.py",
        "cli_training.py",
        "doctor.py",
        "local_chat.py",
        "chat_models.py",
    }
    for path in sorted((ROOT / "bot").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        late = [
            node
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not late or path.name in allowed, f"{name_of(path)} line {late[0].lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_module_works_at_import(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        assert isinstance(node, STATEMENTS), f"{name_of(path)} line {node.lineno}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _is_main_guard(node):
            continue
        if isinstance(node, ast.Expr):
            registers_command = ast.unparse(node).startswith("app.command(")
            assert registers_command or isinstance(node.value, ast.Constant), f"{name_of(path)} line {node.lineno}"
        called = {_called(call) for call in ast.walk(node) if isinstance(call, ast.Call)}
        assert not called & WORK, f"{name_of(path)} line {node.lineno}: {called & WORK}"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to(ROOT / "bot")], ids=name_of)
def test_only_settings_read_the_environment(path: Path) -> None:
    if name_of(path) in ENVIRONMENT_READERS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("getenv", "environ"):
            source = ast.unparse(node)
            text = path.read_text(encoding="utf-8")
            assert f"{source}.setdefault(" in text, f"{name_of(path)} line {node.lineno} reads the environment"


def _is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
