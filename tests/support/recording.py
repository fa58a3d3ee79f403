"""Record the first minute on the page as an animated picture: the example, a run of one's own, a dataset that grows.

python -m tests.support.recording [OUT.webp]      default: docs/img/first-minute.webp; one of .gif is larger
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from lightreasoner.settings import ROOT
from tests.support.browser import App, Inspect, launch_chromium

OUT = ROOT / "docs" / "img" / "first-minute.webp"
LARGEST = 2_000_000  # bytes
VIEWPORT, WIDTH = {"width": 1280, "height": 800}, 960  # pixels: of the page, and of the picture
QUALITIES = (70, 55, 40, 25)  # of a WebP file: the first with which it is small enough


class Recorder:
    """Frames with their durations. A picture that equals the one before lengthens that one."""

    def __init__(self, page: Page):
        self.page, self.frames, self.durations = page, [], []

    def shoot(self, seconds: float) -> None:
        """One frame of what is seen now, which stays for so long."""
        image = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
        if self.frames and image.tobytes() == self.frames[-1].tobytes():
            self.durations[-1] += round(1000 * seconds)
        else:
            self.frames.append(image)
            self.durations.append(round(1000 * seconds))

    def watch(self, until, each: float = 0.4, most: int = 40) -> None:
        """A frame every so many seconds until until() is true."""
        for _ in range(most):
            self.shoot(each)
            if until():
                return
            self.page.wait_for_timeout(1000 * each)

    def save(self, out: Path) -> int:
        """Write the animation; its bytes. Raises SystemExit where it is too large."""
        out.parent.mkdir(parents=True, exist_ok=True)
        first, *others = self.frames
        more = {"save_all": True, "append_images": others, "duration": self.durations, "loop": 0}
        for quality in QUALITIES:
            first.save(out, **more, **({"quality": quality, "method": 4} if out.suffix == ".webp" else {}))
            if out.stat().st_size <= LARGEST:
                return out.stat().st_size
        raise SystemExit(f"{out} has {out.stat().st_size:,} bytes, over {LARGEST:,}; record fewer frames.")


def record(recorder: Recorder, url: str) -> None:
    """What is done in the first minute."""
    page = recorder.page
    tab = Inspect(page).open(url)
    page.wait_for_timeout(1500)
    recorder.shoot(2.5)  # a finished trace is there at once
    tab.selected.first.focus()
    for _ in range(3):
        page.keyboard.press("n")
        page.wait_for_timeout(500)
        recorder.shoot(1.4)  # the next step that diverges
    for beta in ("0.8", "1.2", "0.4"):
        tab.beta.first.fill(beta)
        page.wait_for_timeout(400)
        recorder.shoot(0.8)
    if (unfold := getattr(tab, "unfold", None)) is not None:
        unfold()
    page.get_by_role("button", name="Another problem").click()
    page.wait_for_timeout(800)
    recorder.shoot(1.2)
    tab.run_button.click()
    running = "document.body.classList.contains('lr-running')"
    page.wait_for_function(running)
    recorder.watch(lambda: not page.evaluate(running), 0.3)
    page.wait_for_timeout(1000)
    recorder.shoot(2)
    page.get_by_role("tab", name="Datasets").click()
    limit = page.locator("#lr-ds-limit input")
    expect(limit).to_be_visible()
    limit.fill("100")
    limit.blur()
    recorder.shoot(1.2)
    page.locator("#lr-ds-build").click()
    badge = page.locator('.lr-run-view[aria-label="The dataset"] .lr-badge')
    recorder.watch(lambda: badge.count() > 0 and "Done" in badge.text_content(), 0.6, 60)
    page.wait_for_timeout(1500)
    recorder.shoot(2.5)
    page.locator('.lr-run-view[aria-label="The dataset"] .lr-open').first.click()
    page.wait_for_timeout(1500)
    recorder.shoot(2.5)


def main(out: Path) -> None:
    app = App(Path(tempfile.mkdtemp())).start("--no-preload")
    try:
        with sync_playwright() as playwright:
            chromium = launch_chromium(playwright)
            recorder = Recorder(chromium.new_context(viewport=VIEWPORT, color_scheme="light").new_page())
            record(recorder, app.url)
            size = recorder.save(out)
            chromium.close()
    finally:
        app.stop()
    seconds = sum(recorder.durations) / 1000
    print(f"{out}: {len(recorder.frames)} frames, {seconds:.0f} s, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else OUT)
