"""What users install: the wheel has everything, and works far from the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lapilli

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("pictures", "ir", "model", "quantize", "export", "simulators", "costs", "deploy")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_holds_every_tracked_file_of_the_package(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True
    )
    tracked = {f"lapilli/{line}" for line in listed.stdout.splitlines()}
    surveys = {name for name in tracked if name.startswith("lapilli/deploy/surveys/")}
    assert len(tracked) > 60
    assert surveys
    assert {n for n in zipfile.ZipFile(wheel).namelist() if n.split("/")[1] in FOLDERS} == (
        tracked - surveys
    )


def test_the_demo_runs_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies come from this environment; lapilli itself must be the wheel's."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    found = [sys.executable, "-c", "import lapilli; print(lapilli.__file__)"]
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(found, capture_output=True, text=True, cwd=work, env=env, check=True)
    assert str(site) in where.stdout
    done = subprocess.run(
        [sys.executable, "-m", "lapilli", "demo", "--no-lava", "--json"],
        check=False,
        capture_output=True,
        text=True,
        cwd=work,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    for model in json.loads(done.stdout)["models"]:
        assert model["exact"]
        assert model["float_right"] >= 0.97 * model["images"]
        assert model["float_right"] - model["int_right"] <= 2
        for simulator in ("reference", "event-driven"):
            assert model["simulators"][simulator]["compared"] > 60_000_000
            assert model["simulators"][simulator]["mismatches"] == 0
        assert all((work / file).is_file() for file in model["files"])
        page = work / model["report"]
        told = json.loads(page.with_suffix(".json").read_text())
        assert told["verdict"] == "exact"
        assert told["sections"]["accuracy"]["accuracy"]["integer"]["top1"] == model["int_right"]


def test_these_tests_run_on_the_editable_install() -> None:
    assert Path(str(lapilli.__file__)).parent == ROOT / "src" / "lapilli"
