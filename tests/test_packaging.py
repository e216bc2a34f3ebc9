"""The wheel and the sdist as users get them: built, installed in a clean virtual environment, and run there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.packaging


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.fixture(scope="module")
def environment(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a clean virtual environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("venv")
    _run(sys.executable, "-m", "venv", folder, cwd=folder)
    (wheel,) = dist.glob("*.whl")
    _run(folder / "bin" / "pip", "install", "--quiet", wheel, cwd=folder)
    return folder / "bin"


def test_wheel_from_sdist_is_the_wheel_from_the_tree(dist: Path, tmp_path: Path) -> None:
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (one,), (other,) = dist.glob("*.whl"), tmp_path.glob("*.whl")
    with zipfile.ZipFile(one) as a, zipfile.ZipFile(other) as b:
        assert sorted(a.namelist()) == sorted(b.namelist())
        assert {n: a.read(n) for n in a.namelist() if "RECORD" not in n} == {
            n: b.read(n) for n in b.namelist() if "RECORD" not in n
        }


def test_wheel_holds_one_package_and_all_of_it(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"delegraph"}
    wanted = {"delegraph/py.typed", "delegraph/devices.yaml", "delegraph/core/model/schema.fbs"}
    for folder in ("core", "delegates", "partitioner"):
        wanted |= {
            f"delegraph/{path.relative_to(ROOT)}"
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    assert wanted <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


def test_sdist_holds_what_the_tests_need(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "tests/test_tiny.py", "core/model/schema.fbs", "devices.yaml"} <= names


def test_the_command_line_runs_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    import delegraph as dg

    assert _run(environment / "delegraph", "--version", cwd=tmp_path).split()[-1] == dg.__version__
    assert '"reference"' in _run(environment / "delegraph", "devices", "--json", cwd=tmp_path)
    assert "reference" in _run(environment / "delegraph", "demo", cwd=tmp_path)


def test_the_library_runs_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    code = "import delegraph as dg, pathlib; print(dg.__version__, pathlib.Path(dg.__file__).parent)"
    version, folder = _run(environment / "python", "-c", code, cwd=tmp_path).split(maxsplit=1)
    assert "site-packages" in folder and version


def test_types_reach_the_user(environment: Path, tmp_path: Path) -> None:
    """mypy finds a seeded error in a user's script through the installed package."""
    (tmp_path / "user.py").write_text("import delegraph as dg\nm: int = dg.compile('x.tflite')\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", str(environment / "python"), "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert 'expression has type "CompiledModel", variable has type "int"' in done.stdout


def test_editable_install_sees_new_files(tmp_path: Path) -> None:
    """From a copy of the tree: a new module is importable without another install."""
    tree = tmp_path / "tree"
    _run("git", "clone", "--quiet", ROOT, tree, cwd=tmp_path)
    _run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    _run(tmp_path / "venv" / "bin" / "pip", "install", "--quiet", "--editable", tree, cwd=tmp_path)
    (tree / "core" / "brand_new.py").write_text("VALUE = 42\n")
    code = "from delegraph.core.brand_new import VALUE; print(VALUE)"
    assert _run(tmp_path / "venv" / "bin" / "python", "-c", code, cwd=tmp_path).strip() == "42"
