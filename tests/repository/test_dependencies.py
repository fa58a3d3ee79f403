"""No package that is installed with the app has a known hole, as far as the advisory services can be asked."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lightreasoner.settings import ROOT


def holes(report: dict) -> list[str]:
    """Package, version and advisory of each hole in a report of pip-audit's."""
    found = [(of["name"], of.get("version"), hole) for of in report["dependencies"] for hole in of.get("vulns", ())]
    return [f"{name} {version}: {hole['id']}, mended in {hole['fix_versions']}" for name, version, hole in found]


def test_a_hole_is_seen():
    hole = {"id": "PYSEC-2023-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
    sound, skipped = {"name": "a", "version": "1.0", "vulns": []}, {"name": "c", "skip_reason": "not found"}
    report = {"dependencies": [sound, {"name": "b", "version": "1.0", "vulns": [hole]}, skipped], "fixes": []}
    assert holes(report) == ["b 1.0: PYSEC-2023-1, mended in ['2.0']"]


@pytest.mark.parametrize("requirements", ["requirements.txt", "requirements-ray.txt"])
def test_nothing_that_is_installed_has_a_known_hole(requirements):
    words = ["-r", requirements, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [sys.executable, "-m", "pip_audit", *words, "--timeout", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if not done.stdout:
        assert "ConnectionError" in done.stderr or "Timeout" in done.stderr or "ServiceError" in done.stderr, (
            done.stderr
        )
        pytest.skip("no advisory service can be reached from here")
    report = json.loads(done.stdout)
    asked = [of for of in report["dependencies"] if "skip_reason" not in of]
    if not asked:
        pytest.skip("the package index that is reached from here has no advisories")
    assert not holes(report)
