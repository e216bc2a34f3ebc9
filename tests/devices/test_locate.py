"""Which files are read, in which order, and when."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from delegraph.core.devices import ENVIRONMENT, load, locate, paths, use
from delegraph.core.errors import InvalidDevices


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty config directory of the user's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name: str(tmp_path / "config" / name))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    folder = tmp_path / "config" / "delegraph"
    folder.mkdir(parents=True)
    return folder


def _launch(path: Path, ns: int) -> Path:
    path.write_text(f"version: 1\nprofiles: {{coral-usb: {{launch_ns: {ns}}}}}\n")
    return path


def test_later_places_win(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load().profiles["coral-usb"]
    assert shipped.launch_ns == 270000
    _launch(config / "devices.yaml", 1)
    assert load().profiles["coral-usb"].launch_ns == 1
    monkeypatch.setenv(ENVIRONMENT, str(_launch(tmp_path / "environment.yaml", 2)))
    assert load().profiles["coral-usb"].launch_ns == 2
    named = _launch(tmp_path / "named.yaml", 3)
    changed = load(named).profiles["coral-usb"]
    assert changed.launch_ns == 3
    assert changed.ops == shipped.ops and changed.digest != shipped.digest
    assert [path.name for path in paths(named)] == ["devices.yaml", "devices.yaml", "environment.yaml", "named.yaml"]


def test_a_file_for_the_whole_process(config: Path, tmp_path: Path) -> None:
    use(_launch(tmp_path / "named.yaml", 4))
    try:
        assert load().profiles["coral-usb"].launch_ns == 4
    finally:
        use(None)
    assert load().profiles["coral-usb"].launch_ns == 270000


def test_an_unchanged_file_is_read_once(config: Path) -> None:
    assert load() is load()
    _launch(config / "devices.yaml", 5)
    assert load().profiles["coral-usb"].launch_ns == 5


def test_named_files_have_to_be_there(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidDevices, match="expected a file, found none of that name; name another file"):
        load(tmp_path / "none.yaml")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none.yaml"))
    with pytest.raises(InvalidDevices, match=f"correct the environment variable {ENVIRONMENT}"):
        load()


def test_errors_name_the_users_file(config: Path) -> None:
    (config / "devices.yaml").write_text("version: 1\nprofiles: {coral-usb: {launch_ns: soon}}\n")
    with pytest.raises(
        InvalidDevices, match=r"config/delegraph/devices.yaml:2: profiles.coral-usb.launch_ns: expected"
    ):
        load()


def test_nothing_is_read_before_it_is_asked_for() -> None:
    code = "import sys, delegraph, delegraph.core.devices; print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.strip() == "False"


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


def test_reading_the_shipped_file_is_quick() -> None:
    best = 1.0
    load()
    for _ in range(5):
        locate._known.clear()
        start = time.process_time()
        load()
        best = min(best, time.process_time() - start)
    assert best < 0.05
