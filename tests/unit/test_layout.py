"""What may import what, and what no file of the project may hold."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LOCKS = [*(PROJECT / "requirements").glob("*.txt"), *(PROJECT / "benchmarks" / "peers").glob("*.txt")]
PACKAGES = ("contract", "runtime", "producer", "consumers")
MAY_IMPORT = {
    "contract": {"contract"},
    "runtime": {"contract", "runtime"},
    "producer": {"contract", "runtime", "producer"},
    "consumers": {"contract", "runtime", "consumers"},
}
SKIPPED = {
    ".git",
    ".venv",
    ".stack",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    "__pycache__",
    "data",
}


def imports(path: Path) -> Iterator[str]:
    """Give the full name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> list[Path]:
    """Give every module of a package."""
    found = sorted((PROJECT / package).rglob("*.py"))
    assert found
    return found


def files() -> list[Path]:
    """Give every file that belongs to the project: what git knows or would take, or, without git, all there is."""
    run = subprocess.run(
        ["git", "-C", PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if run.returncode == 0:
        return sorted(path for name in run.stdout.decode().split("\0") if name and (path := PROJECT / name).is_file())
    return sorted(
        path for path in PROJECT.rglob("*") if path.is_file() and not SKIPPED & set(path.relative_to(PROJECT).parts)
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_run_one_way(package: str) -> None:
    """`schemas ← contract ← runtime ← producer | consumers`, also inside functions."""
    for path in modules(package):
        ours = {name.split(".")[0] for name in imports(path)} & {*PACKAGES, "scripts", "stack", "tests", "benchmarks"}
        assert ours <= MAY_IMPORT[package], path


def test_the_contract_opens_no_broker_connection() -> None:
    """Of confluent_kafka it imports only serialization and the schema registry."""
    for path in modules("contract"):
        for name in imports(path):
            assert not name.startswith("confluent_kafka") or name.startswith(
                ("confluent_kafka.serialization.", "confluent_kafka.schema_registry.")
            ), f"{path} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_only_settings_read_the_environment(package: str) -> None:
    """The edge of a command hands it over; nothing else knows that there is one."""
    reading = {
        str(path.relative_to(PROJECT))
        for path in modules(package)
        if re.search(r"\benviron\b|\bgetenv\b", path.read_text("utf-8"))
    }
    assert reading <= {"runtime/settings.py", "runtime/command.py", "runtime/health.py"}


@pytest.mark.parametrize("package", [*PACKAGES, "scripts", "stack"])
def test_every_module_says_why_it_exists(package: str) -> None:
    for path in modules(package):
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_the_packages_import_without_a_server_and_without_the_tests_tools() -> None:
    """A service starts with what requirements/runtime.txt holds."""
    code = (
        "import sys, json; import producer.waiter, consumers.cook, consumers.manager; "
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert not {"pytest", "hypothesis", "tests", "testcontainers", "mypy"} & set(json.loads(run.stdout))


def test_no_file_names_a_package_registrys_host_or_a_path_of_one_machine() -> None:
    """The registry is the business of whoever builds: configured there, never here."""
    names = (
        "pypi org",
        "files pythonhosted",
        "registry npmjs",
        "crates io",
        "repo maven",
        "repo1 maven",
        "proxy golang",
    )
    hosts = [re.escape(name.replace(" ", ".")) for name in names]
    paths = ["/" + name + "/" for name in ("work", "root", "home/[a-z]+")] + ["/tmp/" + "w/"]  # noqa: S108 - looked for
    forbidden = re.compile("|".join([*hosts, *(rf"(?<![\w.$}}*)\"-]){path}" for path in paths)]))
    found = {
        str(path.relative_to(PROJECT)): match[0]
        for path in files()
        if (match := forbidden.search(path.read_bytes().decode("utf-8", "replace")))
    }
    assert found == {}


def test_no_lock_file_that_holds_addresses() -> None:
    names = {"uv.lock", "poetry.lock", "pylock.toml", "package-lock.json", "Pipfile.lock"}
    assert [path for path in files() if path.name in names] == []
    for path in LOCKS:
        assert not re.search(r"://|--(extra-)?index-url|--find-links", path.read_text("utf-8")), path


def test_requirements_are_locked_with_hashes() -> None:
    for path in LOCKS:
        entries = re.split(r"\n(?=\S)", path.read_text("utf-8").strip())
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries if not entry.startswith("#")), path
