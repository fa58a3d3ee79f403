"""Deploys this app as a Hugging Face Space: its files, its README and the push."""

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
FOLDERS = ("lightreasoner", "ui", "assets")  # all files except hidden and generated ones
FILES = ("app.py", "LICENSE")
LEFTOVERS = {".pyc", ".pyi"}
#: Replaced as a whole by a push, so that files deleted here are deleted there, too.
REPLACED = [f"{folder}/**" for folder in FOLDERS]
#: ZeroGPU's versions; the tests do not run with them.
ZERO_PYTHON, ZERO_TORCH = "3.12.12", "2.11.0"
CUDA = "cu130"  # the build of PyTorch for Spaces with a GPU
ABOUT = """
# LightReasoner Studio

See where a stronger language model knows more than a weaker one, token by token.
The expert solves a problem, the amateur predicts the same tokens, and each token is coloured by KL(expert ‖ amateur).

The project's docs/deploy.md describes the limits of this Space; the method is
[LightReasoner](https://arxiv.org/abs/2510.07962).
"""


@dataclass(frozen=True)
class Plan:
    """A Space to push. `files`: path in the Space → its text, or the local file to copy."""

    repo: str
    sdk: str
    hardware: str | None
    private: bool
    files: dict[str, str | Path]

    @property
    def size(self) -> int:
        return sum(size_of(content) for content in self.files.values())


def plan(repo: str, sdk: str = "docker", hardware: str | None = None, private: bool = False) -> Plan:
    """The Space to push, planned without requests to the Hub. Raises UserError."""
    if not REPO.fullmatch(repo):
        raise UserError(f"{repo!r:.100} is not a Space; give OWNER/NAME with letters, digits and - _ . only.")
    if sdk not in SDKS:
        raise UserError(f"The SDK {sdk!r:.20} is not supported; choose {' or '.join(SDKS)}.")
    if hardware == ZERO and sdk != "gradio":
        raise UserError("ZeroGPU only runs Gradio Spaces; add --sdk gradio.")
    return Plan(repo, sdk, hardware, private, files(sdk, hardware))


def front_matter(sdk: str, hardware: str | None = None) -> str:
    """The YAML block of a Space's README, by which the Hub builds and runs it."""
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
    """Path in the Space → its text, or the local file to copy."""
    contents: dict[str, str | Path] = {"README.md": front_matter(sdk, hardware) + ABOUT}
    for path in sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        if path.is_file() and path.suffix not in LEFTOVERS and not hidden:
            contents[path.relative_to(ROOT).as_posix()] = path
    contents |= {name: ROOT / name for name in FILES}
    if sdk == "docker":
        contents |= {".dockerignore": ROOT / ".dockerignore", "requirements.txt": ROOT / "requirements.txt"}
        contents["Dockerfile"] = dockerfile(hardware)
    else:
        contents["requirements.txt"] = gradio_requirements(hardware)
    return dict(sorted(contents.items()))


def on_cpu(hardware: str | None) -> bool:
    return hardware is None or hardware.startswith("cpu")


def dockerfile(hardware: str | None) -> str:
    """The project's Dockerfile with the build of PyTorch for the hardware."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return text if on_cpu(hardware) else text.replace("ARG TORCH=cpu\n", f"ARG TORCH={CUDA}\n", 1)


def requirements() -> tuple[list[str], list[str]]:
    """The pins of requirements.txt: of the app's imports, and of their dependencies."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    own, _, dependencies = text.partition("\n\n")
    return tuple([line for line in part.splitlines() if re.match(r"[A-Za-z]", line)] for part in (own, dependencies))


def pinned(package: str) -> str:
    return next(line.partition("==")[2] for line in requirements()[0] if line.startswith(f"{package}=="))


def gradio_requirements(hardware: str | None) -> str:
    """requirements.txt of a Gradio Space. It pins the app's imports only, since a Gradio Space installs packages with
    other versions of their dependencies (Gradio's extra "mcp" conflicts with the pinned pydantic)."""
    own, head = requirements()[0], []
    if hardware == ZERO:
        own = [f"torch=={ZERO_TORCH}" if line.startswith("torch==") else line for line in own]
    elif on_cpu(hardware):
        head = ["--extra-index-url https://download.pytorch.org/whl/cpu"]
    return "\n".join([*head, *own, ""])


def size_of(content: str | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content.encode())


def push(planned: Plan, token: str | None = None) -> str:
    """Create the Space if it is missing and push the files in one commit. Returns its address. Raises UserError.

    token: None uses the token of the environment or of `hf auth login`.
    """
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    if not token:
        raise UserError("No Hugging Face token was found; run `hf auth login`, or set HF_TOKEN to a write token.")
    api = HfApi(token=token)
    with hub_errors(planned.repo, kind="Space"):
        known = api.repo_exists(planned.repo, repo_type="space")
        if known and planned.private and not api.space_info(planned.repo).private:
            raise UserError(f"{planned.repo} exists and is public; make it private in its settings, then push again.")
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
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, folder / name)
        else:
            (folder / name).write_text(content, encoding="utf-8")
