"""Spaces: what would be pushed, and pushing it to a small Hub on a local port with the real client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from lightreasoner.errors import UserError
from lightreasoner.publishing.space import files, front_matter, plan
from lightreasoner.settings import ROOT
from tests.support import warm_app
from tests.support.browser import free_port
from tests.support.hub_stub import TOKEN, hub_stub


def facts(readme: str) -> dict:
    return yaml.safe_load(readme.split("---\n")[1])


def deploy(*words: str, **env: str) -> subprocess.CompletedProcess:
    """The command line in a process of its own, with no token but the one given."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return warm_app.command(inherited | env, "deploy-space", *words)


def test_the_readme_makes_the_repository_a_docker_space():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.startswith(front_matter("docker")), "write front_matter('docker') at the top of README.md"
    said = facts(text)
    assert said["sdk"] == "docker" and said["app_port"] == 7860
    assert len(said["short_description"]) <= 60, "the Hub takes no longer one"
    assert "EXPOSE 7860" in (ROOT / "Dockerfile").read_text()


def test_a_gradio_space_names_the_version_that_is_tested():
    said = facts(front_matter("gradio"))
    assert said["app_file"] == "app.py" and (ROOT / "app.py").is_file()
    assert f"gradio=={said['sdk_version']}\n" in (ROOT / "requirements.txt").read_text()
    assert facts(front_matter("gradio", "zero-a10g"))["python_version"] == "3.12.12"


def test_everything_that_git_has_of_the_app_and_no_secret_is_pushed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    command = ["git", "ls-files", "app.py", "lightreasoner", "ui", "assets", "LICENSE"]
    tracked = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    secret = ROOT / "ui" / ".env"
    secret.write_text("HF_TOKEN=hf_secret")
    try:
        made = files("docker")
    finally:
        secret.unlink()
    assert tracked <= set(made)
    assert set(made) - {"README.md", "Dockerfile", ".dockerignore", "requirements.txt"} == {
        name for name in made if name.split("/")[0] in ("app.py", "lightreasoner", "ui", "assets", "LICENSE")
    }
    assert not any(re.search(r"\.env|\.pyc|\.pyi|workspace/", name) for name in made)


def test_the_image_lets_in_what_a_space_gets():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    pushed = {name.split("/")[0] for name in files("docker")}
    assert "*" in ignored and allowed == pushed - {"README.md", "Dockerfile", ".dockerignore"}


def test_the_image_knows_whether_the_app_answers(app):
    """The Dockerfile's own health check, run as Docker would."""
    said = re.search(r"HEALTHCHECK.*\\\n\s+CMD (\[.+\])\n", (ROOT / "Dockerfile").read_text())
    _, *words = json.loads(said[1])  # python, which Docker looks for inside the image

    def healthy(port: int) -> bool:
        env = os.environ | {"GRADIO_SERVER_PORT": str(port)}
        return subprocess.run([sys.executable, *words], env=env, capture_output=True, timeout=60).returncode == 0

    assert healthy(app.port) and not healthy(free_port())


def test_pytorch_fits_the_hardware():
    assert "ARG TORCH=cpu\n" in files("docker")["Dockerfile"]
    assert "ARG TORCH=cu" in files("docker", "t4-small")["Dockerfile"]
    assert "whl/cpu" in files("gradio")["requirements.txt"]
    assert "whl/cpu" not in files("gradio", "t4-small")["requirements.txt"]
    zero = files("gradio", "zero-a10g")["requirements.txt"]
    assert "torch==2.11.0\n" in zero and "pydantic" not in zero and "transformers==" in zero


@pytest.mark.parametrize("repo", ["studio", "a/b/c", "../etc/x", "me/ studio", "me/--x", "", "https://x/y", "me/x\n"])
def test_a_name_that_is_none(repo):
    with pytest.raises(UserError, match="is not a Space"):
        plan(repo)


def test_a_dry_run_asks_nobody():
    done = deploy("me/studio", "--dry-run", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0 and "sdk: docker" in done.stdout and "app.py" in done.stdout
    assert "nothing was pushed" in done.stdout and "workspace" not in done.stdout


def test_zerogpu_needs_the_gradio_sdk():
    done = deploy("me/studio", "--hardware", "zero-a10g", "--dry-run")
    assert done.returncode == 2 and "--sdk gradio" in done.stderr


def test_without_a_token_it_says_where_one_comes_from(tmp_path):
    done = deploy("me/studio", HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2 and "hf auth login" in done.stderr and done.stderr.count("\n") == 1


def test_a_space_is_made_and_then_brought_up_to_date(tmp_path):
    with hub_stub() as hub:
        env = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        done = deploy("me/studio", "--private", **env)
        assert done.returncode == 0, done.stderr
        assert f"{hub.url}/spaces/me/studio" in done.stdout and TOKEN not in done.stdout + done.stderr
        key = ("spaces", "me/studio")
        assert hub.repos[key]["sdk"] == "docker" and hub.repos[key]["visibility"] == "private"
        assert facts(hub.files[key]["README.md"].decode())["sdk"] == "docker"
        assert {name: hub.files[key][name] for name in ("app.py", "ui/page.py")} == {
            name: (ROOT / name).read_bytes() for name in ("app.py", "ui/page.py")
        }
        assert set(hub.files[key]) == set(files("docker"))
        hub.files[key]["ui/gone.py"] = b"old"
        hub.files[key]["notes.md"] = b"somebody's own"
        done = deploy("me/studio", "--sdk", "gradio", "--hardware", "t4-small", **env)
        assert done.returncode == 0, done.stderr
        assert "ui/gone.py" not in hub.files[key] and "notes.md" in hub.files[key]
        assert facts(hub.files[key]["README.md"].decode())["sdk"] == "gradio"
        assert hub.repos[key]["hardware"] == "t4-small"


def test_what_the_hub_refuses_is_one_sentence(tmp_path):
    with hub_stub() as hub:
        env = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
        done = deploy("me/studio", **env, HF_TOKEN="hf_wrong")
        assert done.returncode == 2 and "401" in done.stderr and "hf_wrong" not in done.stderr
        hub.fail = 403
        done = deploy("me/studio", **env, HF_TOKEN=TOKEN)
        assert done.returncode == 2 and "write access to me" in done.stderr and "Traceback" not in done.stderr
        hub.fail = 0
        done = deploy("me/studio", "--private", **env, HF_TOKEN=TOKEN)
        assert done.returncode == 2 and "exists and is public" in done.stderr
    done = deploy("me/studio", **env, HF_TOKEN=TOKEN)
    assert done.returncode == 2 and "cannot be reached" in done.stderr
