"""The farm in a real browser: a .blend is uploaded, its frames appear, and what is made of them is taken home."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import Visitor, chromium, pictures_wanted, visitor
from support.farm import make_scene
from support.up import Up, eventually, running_board

#: Milliseconds for what Blender needs time for on a busy machine.
RENDERED = 150_000


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_board(tmp_path_factory.mktemp("farm"), console=True) as found:
        eventually(
            lambda: {slot["slot"] for slot in found.json("farm", "ls")["slots"]} >= {"blender", "ffmpeg"},
            "slots of what is installed",
        )
        yield found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames slow enough to be cancelled."""
    return make_scene(tmp_path_factory.mktemp("scene") / "turning.blend", "scene.cycles.samples = 150")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def operator(up: Up, browser: Browser) -> Iterator[Visitor]:
    console = up.runtime.console
    assert console is not None
    with visitor(browser, console.url, height=1100) as found:
        found.log_in("operator", up.password("operator"))
        yield found
        assert found.errors == []


def cells(page: Page, state: str = "") -> int:
    return page.locator(f'.cb-frames [data-state="{state}"]' if state else ".cb-frames .cb-cell").count()


@pytest.mark.timeout(400)
def test_a_file_becomes_frames_and_a_video_and_may_be_cancelled_and_taken_up_again(
    operator: Visitor, up: Up, scene: Path, tmp_path: Path
):
    page = operator.page
    operator.open("Jobs")
    page.get_by_role("button", name="Submit a job").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(scene)
    expect(dialog.get_by_text("turning.blend")).to_be_visible()
    dialog.get_by_label("What to do").click()
    page.get_by_role("option", name="Render frames, then make a video of them.").click()
    # The fields of this type are there, in front of those of the last one, once one is that no other type has.
    expect(dialog.get_by_label("Codec (optional)", exact=True)).to_have_count(1)
    frames = dialog.get_by_label("Frames (optional)", exact=True).first
    frames.fill("1-24")
    frames.press("Tab")
    dialog.get_by_role("button", name="Submit", exact=True).click()

    expect(page).to_have_url(re.compile(r"/job\?job=\d+"))
    expect(page.get_by_role("heading", name="turning.blend")).to_be_visible()
    expect(page.locator(".cb-frames .cb-cell")).to_have_count(24)
    expect(page.locator('.cb-frames [data-state="done"]').first).to_be_visible(timeout=RENDERED)
    first = page.locator(".cb-pictures img").first
    expect(first).to_be_visible(timeout=RENDERED)
    eventually(lambda: first.evaluate("image => image.naturalWidth") > 0, "a picture that is one")

    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    state = page.locator(".cb-facts .cb-status").first
    expect(state).to_have_text("cancelled")
    eventually(lambda: cells(page, "done") + cells(page, "cancelled") == 24, "the frames follow the job")
    assert 0 < cells(page, "done") < 24

    page.get_by_role("button", name="Requeue failed").click()
    expect(page.locator('.cb-frames [data-state="done"]')).to_have_count(24, timeout=RENDERED)
    expect(state).to_have_text("done", timeout=RENDERED)
    if pictures_wanted():
        operator.picture("job")

    page.locator('.cb-frames [data-act="frame:7"]').click()
    expect(page.get_by_role("heading", name="Frame 7")).to_be_visible()
    # The attempt that was cancelled may have printed nothing of this frame; the one that made it has.
    logs = page.locator(".cb-frame").get_by_role("button", name="Log of here / blender")

    def shows(number: int) -> bool:
        logs.nth(number).click()
        try:
            expect(page.get_by_test_id("stCode")).to_contain_text("frame-0007.png", timeout=10_000)
        except AssertionError:
            return False
        return True

    assert any(shows(number) for number in range(logs.count()))
    expect(page.get_by_test_id("stCode")).not_to_contain_text("frame-0008.png")
    with page.expect_download() as download:
        page.get_by_role("link", name="Video").click()
    video = tmp_path / "video.mp4"
    download.value.save_as(video)
    asked = (
        "ffprobe",
        "-v",
        "error",
        "-count_frames",
        "-show_entries",
        "stream=nb_read_frames",
        "-of",
        "csv=p=0",
        video,
    )
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "24"
    with page.expect_download() as download:
        page.get_by_role("link", name="All files (zip)").click()
    archive = tmp_path / "files.zip"
    download.value.save_as(archive)
    pictures = [name for name in zipfile.ZipFile(archive).namelist() if name.endswith(".png")]
    assert len(pictures) == 24

    page.get_by_role("button", name="Render frame 7 again").click()
    expect(state).not_to_have_text("done")
    expect(state).to_have_text("done", timeout=RENDERED)
    expect(page.locator(".cb-frame")).to_contain_text("Statedone")


def test_slots_are_seen_and_drained_and_enabled(operator: Visitor, up: Up):
    page = operator.page
    operator.open("Farm")
    slot = page.locator('.cb-slot[data-key="here/povray"]')
    expect(slot).to_contain_text("idle")
    slot.get_by_role("button", name="Drain").click()
    expect(slot).to_contain_text("disabled")
    slot.get_by_role("button", name="Enable").click()
    expect(slot).to_contain_text("idle")


def test_a_job_nobody_can_do_says_why(operator: Visitor, up: Up, scene: Path):
    made = up.cli("job", "submit", str(scene), "--frames", "1-2", "--tag", "gpu", "--name", "needs a gpu")
    assert made.returncode == 0, made.stderr
    operator.open("Jobs")
    operator.page.get_by_role("link", name="needs a gpu").click()
    expect(operator.page.get_by_text("Why is it not running?")).to_be_visible()
    expect(operator.page.locator(".cb-why")).to_contain_text("gpu")


def test_picked_jobs_are_deleted_after_a_question(operator: Visitor, up: Up, scene: Path):
    for number in (1, 2):
        up.cli("job", "submit", str(scene), "--frames", "1", "--hold", "--name", f"draft {number}")
    page = operator.page
    operator.open("Jobs")
    for number in (1, 2):
        page.get_by_role("checkbox", name=f"Pick draft {number}").click()
        expect(page.get_by_role("checkbox", name=f"Pick draft {number}")).to_be_checked()
    page.get_by_role("button", name="Delete", exact=True).click()
    sure = page.get_by_role("button", name="Delete them")
    expect(sure).to_be_visible()
    page.wait_for_timeout(2500)  # the table behind it is drawn anew meanwhile, and the question stays
    sure.click()
    expect(page.locator(".cb-jobs")).not_to_contain_text("draft")


def test_a_viewer_sees_the_farm_and_no_buttons(up: Up, browser: Browser):
    console = up.runtime.console
    assert console is not None
    with visitor(browser, console.url) as found:
        found.log_in("viewer", up.password("viewer"), "/jobs")
        expect(found.page.get_by_role("heading", name="Jobs")).to_be_visible()
        expect(found.page.locator(".cb-jobs tbody tr").first).to_be_visible()
        assert found.page.get_by_role("button", name="Submit a job").count() == 0
        assert found.page.get_by_role("checkbox").count() == 0
        found.open("Farm")
        expect(found.page.locator(".cb-slot").first).to_be_visible()
        assert found.page.locator(".cb-slot footer").count() == 0
