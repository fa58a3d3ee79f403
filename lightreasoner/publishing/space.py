"""A Hugging Face Space of this app: which files make one, what its README tells the Hub, and pushing it."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.hub.errors import hub_errors
from lightreasoner.settings import ROOT

SDKS = ("docker", "gradio")
ZERO = "zero-a10g"  # the Hub's name for ZeroGPU
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
FOLDERS = (
    "lightreasoner",
    "ui",
    "assets",
)  # everything in them, but hidden files and what Python and Gradio leave there
FILES = ("app.py", "LICENSE")
LEFTOVERS = {".pyc", ".pyi"}
#: What a push replaces as a whole, so that a file that is gone here goes there too.
REPLACED = [f"{folder}/**" for folder in FOLDERS]
#: ZeroGPU's own versions; the app is not tested with them here.
ZERO_PYTHON, ZERO_TORCH = "3.12.12", "2.11.0"
CUDA = "cu130"  # the build of PyTorch for Spaces with a GPU
ABOUT = """
# LightReasoner Studio

See where a stronger language model knows more than a weaker one, token by token.
The expert solves a problem, the amateur reads along, and every token is coloured by KL(expert ‖ amateur).

What this Space can and cannot do is in the project's docs/deploy.md; the method is
[LightReasoner](https://arxiv.org/abs/2510.07962).
"""


@dataclass(frozen=True)
class Plan:
    """A Space to be. `files`: path in the Space → its text, or the file here that it is a copy of."""

    repo: str
    sdk: str
    hardware: str | None
    private: bool
    files: dict[str, str | Path]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size_of(content) for content in self.files.values())


def plan(repo: str, sdk: str = "docker", hardware: str | None = None, private: bool = False) -> Plan:
    """What would be pushed. Nothing is asked of the Hub. Raises UserError."""
    if not REPO.fullmatch(repo):
        raise UserError(f"{repo!r:.100} names no Space; give OWNER/NAME, letters, digits and - _ . only.")
    if sdk not in SDKS:
        raise UserError(f"The SDK {sdk!r:.20} is none of ours; take {' or '.join(SDKS)}.")
    if hardware == ZERO and sdk != "gradio":
        raise UserError("ZeroGPU runs Gradio Spaces only; add --sdk gradio.")
    return Plan(repo, sdk, hardware, private, files(sdk, hardware))


def front_matter(sdk: str, hardware: str | None = None) -> str:
    """What the README of a Space begins with: the Hub builds and runs it by this."""
    lines = ["title: LightReasoner Studio", "emoji: 🔦", "colorFrom: indigo", "colorTo: yellow"]
    if sdk == "docker":
        lines += ["sdk: docker", "app_port: 7860"]
    else:
        python = ZERO_PYTHON if hardware == ZERO else "3.11"
        lines += ["sdk: gradio", f"sdk_version: {pinned('gradio')}", f'python_version: "{python}"', "app_file: app.py"]
    lines += ["license: apache-2.0", "short_description: Expert and amateur, token by token"]
    lines += ["hf_oauth: true", "hf_oauth_scopes:", "  - contribute-repos"]
    if hardware:
        lines.append(f"suggested_hardware: {hardware}")
    return "\n".join(["---", *lines, "---", ""])


def files(sdk: str, hardware: str | None = None) -> dict[str, str | Path]:
    """Path in the Space → its text, or the file here that it is a copy of."""
    found: dict[str, str | Path] = {"README.md": front_matter(sdk, hardware) + ABOUT}
    for path in sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        if path.is_file() and path.suffix not in LEFTOVERS and not hidden:
            found[path.relative_to(ROOT).as_posix()] = path
    found |= {name: ROOT / name for name in FILES}
    if sdk == "docker":
        found |= {".dockerignore": ROOT / ".dockerignore", "requirements.txt": ROOT / "requirements.txt"}
        found["Dockerfile"] = dockerfile(hardware)
    else:
        found["requirements.txt"] = gradio_requirements(hardware)
    return dict(sorted(found.items()))


def on_cpu(hardware: str | None) -> bool:
    return hardware is None or hardware.startswith("cpu")


def dockerfile(hardware: str | None) -> str:
    """Ours, with the build of PyTorch that the hardware needs."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return text if on_cpu(hardware) else text.replace("ARG TORCH=cpu\n", f"ARG TORCH={CUDA}\n", 1)


def requirements() -> tuple[list[str], list[str]]:
    """The pins of requirements.txt: what the app imports, and what those bring along."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    own, _, brought = text.partition("\n\n")
    return tuple([line for line in part.splitlines() if re.match(r"[A-Za-z]", line)] for part in (own, brought))


def pinned(package: str) -> str:
    """The version that requirements.txt pins."""
    return next(line.partition("==")[2] for line in requirements()[0] if line.startswith(f"{package}=="))


def gradio_requirements(hardware: str | None) -> str:
    """Only what the app imports is pinned: a Gradio Space installs packages of its own beside it, with other versions
    of what is brought along (Gradio's extra "mcp" refuses the pydantic that we pin)."""
    own, head = requirements()[0], []
    if hardware == ZERO:
        own = [f"torch=={ZERO_TORCH}" if line.startswith("torch==") else line for line in own]
    elif on_cpu(hardware):
        head = ["--extra-index-url https://download.pytorch.org/whl/cpu"]
    return "\n".join([*head, *own, ""])


def size_of(content: str | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content.encode())


def push(planned: Plan, token: str | None = None) -> str:
    """Create the Space where it is not there yet, and push the files in one go; its address. Raises UserError.

    token: the one to use; None takes that of the environment or of `hf auth login`.
    """
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    if not token:
        raise UserError("No Hugging Face token was found; run `hf auth login`, or set HF_TOKEN to a write token.")
    api = HfApi(token=token)
    with hub_errors(planned.repo, kind="Space"):
        known = api.repo_exists(planned.repo, repo_type="space")
        if known and planned.private and not api.space_info(planned.repo).private:
            raise UserError(f"{planned.repo} is there and public; make it private in its settings, then push again.")
        if not known:
            api.create_repo(
                planned.repo,
                repo_type="space",
                space_sdk=planned.sdk,
                private=planned.private,
                space_hardware=planned.hardware,
            )
        with tempfile.TemporaryDirectory(prefix="lightreasoner-space-") as folder:
            lay_out(planned.files, Path(folder))
            api.upload_folder(
                repo_id=planned.repo,
                repo_type="space",
                folder_path=folder,
                commit_message="Deploy LightReasoner Studio",
                delete_patterns=REPLACED,
            )
        if known and planned.hardware:
            api.request_space_hardware(planned.repo, planned.hardware)
    return f"{api.endpoint}/spaces/{planned.repo}"


def lay_out(files: dict[str, str | Path], folder: Path) -> None:
    """Write the files of a Space into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, folder / name)
        else:
            (folder / name).write_text(content, encoding="utf-8")
