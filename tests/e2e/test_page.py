"""The page as people use it: a real browser before a real server, the reference model, drawn hands."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pypdf import PdfReader

from bone_age.data.synthetic import render_hand
from bone_age.serving.answering import answer_in_full
from bone_age.serving.predictor import Answered
from bone_age.serving.references import REFERENCE_MODEL, load_predictor
from tests.browser import SCREENSHOTS, RunningServer, Visit, chromium, running_server

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
NOBODY = "Mustermann_Erika_1998"

Visitor = Callable[..., Page]
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("page")
    with running_server(folder) as started:
        yield started
    assert not list(started.temporary.rglob("bone-age-page-*")), "uploads go with the server"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Iterator[Visitor]:
    """Opens the page for one more person; whatever a test does, nothing may be asked of other hosts or go wrong."""
    visits: list[Visit] = []

    def open_page(size: str = "desktop", scheme: str = "light", tolerated: tuple[str, ...] = ()) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            is_mobile=size == "phone",
            accept_downloads=True,
        )
        page = context.new_page()
        page.on("filechooser", lambda chooser: None)  # set up now: a first key press may else come before it is
        visits.append(Visit(page, server.url, tolerated))
        page.goto(f"{server.url}/")
        expect(page.locator("#ask")).to_be_visible()
        expect(page.locator("#birth input")).to_have_attribute("type", "date")
        return page

    yield open_page
    for visited in visits:
        visited.page.context.close()
        assert visited.foreign() == []
        assert visited.complaints == []


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn hand under a name that must not be written down anywhere."""
    file = tmp_path_factory.mktemp("hands") / f"{NOBODY}.png"
    file.write_bytes(_png(render_hand(120, "F", 3, 512, 416)))
    return file


@pytest.fixture(scope="module")
def expected(hand: Path) -> Answered:
    return answer_in_full(load_predictor(str(REFERENCE_MODEL)), hand, "F", 102.0)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _choose(page: Page, *files: Path) -> None:
    page.locator("#files input[type=file]").first.set_input_files(list(files))
    for file in files[:3]:
        expect(page.locator("#files .file-preview")).to_contain_text(file.stem[:8])


def _answered(page: Page) -> str:
    page.locator("#ask").click()
    expect(page.locator("#ba-headline")).to_be_visible()
    return page.locator("#ba-headline").inner_text()


def _ask(page: Page, file: Path, sex: str = "Girl", age: tuple[str, str] | None = ("8", "6")) -> str:
    _choose(page, file)
    page.get_by_label(sex, exact=True).check()
    if age is not None:
        page.locator("#years input").fill(age[0])
        page.locator("#months input").fill(age[1])
    return _answered(page)


def _problem(page: Page) -> str:
    page.locator("#ask").click()
    expect(page.locator(".ba-problem")).to_be_visible()
    return page.locator(".ba-problem").inner_text()


def _report_is_ready(page: Page) -> None:
    expect(page.locator("#report a")).to_be_visible()


def _keep(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def test_an_upload_is_answered_with_the_months_of_the_model_and_its_interval(
    visit: Visitor, hand: Path, expected: Answered
) -> None:
    page = visit()
    assert _ask(page, hand) == expected.prediction.bone_age
    answer = page.locator("#answer").inner_text()
    for months in (expected.prediction.bone_age_months, expected.prediction.lower_months):
        assert f"{months:.1f}" in answer
    assert "90 % interval" in answer
    assert "reference model answered" in answer
    assert "Not a medical device" in page.locator("#top").inner_text()
    _report_is_ready(page)
    _keep(page, "desktop")


def test_the_growth_chart_is_shown_for_a_known_age_and_left_out_without_one(
    visit: Visitor, hand: Path, expected: Answered
) -> None:
    page = visit()
    _ask(page, hand)
    chart = page.locator("img.ba-chart")
    assert chart.evaluate("image => image.naturalWidth") > 300
    assert "an age of 102 months" in (chart.get_attribute("alt") or "")
    assert expected.prediction.growth is not None
    assert page.locator(".ba-verdict").inner_text().lower() == expected.prediction.growth.verdict
    page.locator("#years input").fill("")
    page.locator("#months input").fill("")
    page.locator("#ask").click()
    expect(page.locator(".ba-chart")).to_have_count(0)
    expect(page.locator("#ba-headline")).to_be_visible()


def test_dates_give_the_age_at_the_examination(visit: Visitor, hand: Path) -> None:
    page = visit()
    page.locator("#birth input").fill("2015-03-10")
    page.locator("#taken input").fill("2023-09-10")
    _ask(page, hand, age=None)
    assert page.locator("#ba-growth").inner_text() == "At 8 years 6 months of age"


def test_a_date_of_which_only_a_part_was_typed_is_not_left_out_without_a_word(visit: Visitor, hand: Path) -> None:
    page = visit()
    _choose(page, hand)
    page.get_by_label("Girl", exact=True).check()
    birth = page.locator("#birth input")
    expect(birth).to_have_attribute("type", "date")
    birth.focus()
    page.keyboard.type("0310")
    page.locator("#ask").click()
    expect(page.locator(".ba-trouble")).to_contain_text("A date is incomplete")
    expect(page.locator("#ba-headline, .ba-working")).to_have_count(0)
    expect(birth).to_be_focused()
    page.keyboard.type("03102015")
    page.locator("#taken input").fill("2023-09-10")
    page.locator("#ask").click()
    expect(page.locator("#ba-growth")).to_have_text("At 8 years 6 months of age")
    expect(page.locator(".ba-trouble")).to_be_empty()


def test_the_attention_slider_fades_the_colour_at_once(visit: Visitor, hand: Path) -> None:
    page = visit()
    _ask(page, hand, age=None)
    heat, slider = page.locator(".ba-heat"), page.get_by_label("Colour", exact=True)
    prepared = page.locator(".ba-stack img").first
    assert heat.get_attribute("src") != prepared.get_attribute("src")
    slider.fill("0")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0"
    slider.press("End")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "1"


def test_the_report_is_one_page_with_the_same_months(
    visit: Visitor, hand: Path, expected: Answered, tmp_path: Path
) -> None:
    page = visit()
    _ask(page, hand)
    _report_is_ready(page)
    with page.expect_download() as started:
        page.locator("#report a").click()
    started.value.save_as(tmp_path / "report.pdf")
    assert started.value.suggested_filename == "bone-age-report.pdf"
    report = PdfReader(tmp_path / "report.pdf")
    assert len(report.pages) == 1
    text = report.pages[0].extract_text()
    assert f"{expected.prediction.bone_age_months:.1f} months" in text
    assert "medical device" in text


def test_a_dicom_file_says_sex_and_age_itself_and_its_name_is_not_shown(visit: Visitor, tmp_path: Path) -> None:
    page = visit()
    _choose(page, _dicom(tmp_path / "IM000001"))
    assert re.search(r"\d+ years", _answered(page))
    answer = page.locator("#answer")
    assert "girl" in answer.locator(".ba-eyebrow").inner_text()
    assert "sex (female) was taken from the DICOM file" in answer.inner_text()
    assert "age (102 months) was taken from the DICOM file" in answer.inner_text()
    assert page.locator("#ba-growth").inner_text() == "At 8 years 6 months of age"
    _report_is_ready(page)
    assert "Mustermann" not in page.content()


def _dicom(file: Path) -> Path:
    header = FileMetaDataset()
    header.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(file), {}, file_meta=header, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    dataset.PatientName, dataset.PatientSex, dataset.PatientAge = "Mustermann^Erika", "F", "102M"
    pixels = render_hand(120, "F", 3, 512, 416)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(file, enforce_file_format=True)
    return file


def test_what_is_amiss_is_said_in_a_plain_sentence(visit: Visitor, hand: Path, tmp_path: Path) -> None:
    page = visit()
    assert _problem(page) == "Choose a radiograph first: a PNG, JPEG or DICOM file."
    _choose(page, hand)
    assert _problem_changed(page) == "Choose the child's sex; it is never guessed."
    _keep(page, "problem")
    page.get_by_label("Girl", exact=True).check()
    page.locator("#birth input").fill("2023-09-10")
    assert "The examination date is missing" in _problem_changed(page)
    page.locator("#taken input").fill("2015-03-10")
    assert _problem_changed(page) == "The date of birth lies after the examination; check both dates."
    page.locator("#taken input").fill("2024-03-10")
    page.locator("#years input").fill("9")
    assert "The dates make 6 months, but the age says 108" in _problem_changed(page)
    page.locator("#birth input").fill("")
    page.locator("#taken input").fill("")
    page.locator("#years input").fill("nine")
    assert _problem_changed(page) == "The age in years cannot be read; write a number, for example 9."
    page.locator("#years input").fill("")
    for name, content, sentence in (
        ("text.png", b"no radiograph", "The file is not a PNG, JPEG or DICOM file."),
        ("torn.png", hand.read_bytes()[:5000], "PNG is truncated."),
        ("blank.png", _png(np.full((400, 300), 128, np.uint8)), "Image is blank"),
    ):
        (tmp_path / name).write_bytes(content)
        page.locator("#files button[aria-label=Clear]").click()
        _choose(page, tmp_path / name)
        assert sentence in _problem_changed(page)
        assert "Traceback" not in page.content()


def _problem_changed(page: Page) -> str:
    before = page.locator(".ba-problem").inner_text()
    page.locator("#ask").click()
    problem = page.locator(".ba-problem")
    expect(problem).to_be_visible()
    expect(problem).not_to_have_text(before)
    return problem.inner_text()


def test_an_upload_that_is_refused_is_said_in_words_that_stay(visit: Visitor, hand: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(hand.read_bytes() + bytes(65 * 1024**2))
    page = visit(tolerated=("Failed to load resource", "Response"))
    page.locator("#files input[type=file]").first.set_input_files(large)
    trouble = page.locator(".ba-trouble")
    expect(trouble).to_contain_text("exceed the maximum allowed size of 64")
    _is_fit(page)
    expect(page.locator("#files").get_by_text("Error")).to_be_hidden()
    expect(page.locator("#files").get_by_text("Click to Upload")).to_be_visible()
    _keep(page, "refused-upload")
    page.locator("#ask").click()
    expect(page.locator(".ba-problem")).to_be_visible()
    expect(trouble).to_be_empty()


def test_several_files_give_a_table_and_a_csv_without_formulas(
    visit: Visitor, hand: Path, expected: Answered, tmp_path: Path
) -> None:
    hostile = tmp_path / "=cmd|' calc'!A0<img src=x onerror=alert(1)>.png"
    hostile.write_bytes(hand.read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no radiograph")
    page = visit()
    page.locator("#files input[type=file]").first.set_input_files([hand, hostile, broken])
    page.get_by_label("Girl", exact=True).check()
    page.locator("#years input").fill("8")
    assert _problem(page).startswith("A date of birth or age belongs to one child")
    page.locator("#years input").fill("")
    assert _answered(page) == "2 of 3 radiographs answered"
    assert page.locator(".ba-table tbody tr").count() == 3
    assert page.locator(".ba-table img").count() == 0
    assert "not a PNG, JPEG or DICOM file" in page.locator(".ba-table tr", has_text="broken.png").inner_text()
    _keep(page, "table")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download table (CSV)").click()
    started.value.save_as(tmp_path / "table.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8-sig"))))
    assert [row["sex"] for row in rows] == ["F", "F", ""]
    assert rows[0]["bone_age_months"] == f"{expected.prediction.bone_age_months:.1f}"
    assert rows[1]["bone_age_months"] == rows[0]["bone_age_months"]
    assert not [cell for row in rows for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "light")])
def test_nothing_is_wider_than_the_window_and_axe_finds_no_serious_fault(
    visit: Visitor, hand: Path, tmp_path: Path, size: str, scheme: str
) -> None:
    page = visit(size, scheme)
    _is_fit(page)
    _problem(page)
    _is_fit(page)
    _ask(page, hand)
    _report_is_ready(page)
    _is_fit(page)
    _keep(page, f"{size}-{scheme}")
    other = tmp_path / "another_radiograph_with_a_rather_long_name_that_does_not_break.png"
    other.write_bytes(hand.read_bytes())
    page.locator("#files button[aria-label=Clear]").click()
    _choose(page, hand, other)
    page.locator("#years input").fill("")
    page.locator("#months input").fill("")
    page.locator("#ask").click()
    expect(page.locator(".ba-table")).to_be_visible()
    _is_fit(page)
    _keep(page, f"{size}-{scheme}-table")


def _is_fit(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("window.innerWidth")
    found = Axe().run(page).response
    assert len(found["passes"]) > 15
    faults = [(fault["id"], [node["target"] for node in fault["nodes"]]) for fault in found["violations"]]
    assert faults == []


def test_the_keyboard_alone_is_enough(visit: Visitor, hand: Path, expected: Answered) -> None:
    page = visit()
    _tab_to(page, "#files .upload-container, #files button")
    with page.expect_file_chooser() as opened:
        page.keyboard.press("Enter")
    opened.value.set_files(hand)
    expect(page.locator("#files .file-preview")).to_be_visible()
    _tab_to(page, "#sex input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Girl", exact=True)).to_be_checked()
    _tab_to(page, "#years input")
    page.keyboard.type("8")
    _tab_to(page, "#months input")
    page.keyboard.type("6")
    _tab_to(page, "#ask")
    page.keyboard.press("Enter")
    expect(page.locator("#ba-headline")).to_be_focused()
    assert page.locator("#ba-headline").inner_text() == expected.prediction.bone_age
    _report_is_ready(page)
    _tab_to(page, "[data-attention]")
    before = page.locator("[data-attention]").input_value()
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-attention]").input_value() < before
    _tab_to(page, "#report a")


def _tab_to(page: Page, selector: str) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by the tabulator key")


def test_an_example_fills_the_form_and_is_answered(visit: Visitor) -> None:
    page = visit()
    page.get_by_role("button", name="Boy, 7 years").click()
    expect(page.locator("#ba-headline")).to_be_visible()
    expect(page.get_by_label("Boy", exact=True)).to_be_checked()
    assert page.locator("#ba-growth").inner_text() == "At 7 years 2 months of age"
    _report_is_ready(page)
    _keep(page, "example")  # docs/pictures/page.py makes README's picture of it


def test_two_people_at_once_see_their_own_answers(
    visit: Visitor, hand: Path, expected: Answered, tmp_path: Path
) -> None:
    file = tmp_path / "somebody-elses.png"
    file.write_bytes(_png(render_hand(36, "M", 8, 512, 416)))
    theirs = answer_in_full(load_predictor(str(REFERENCE_MODEL)), file, "M")
    assert theirs.prediction.bone_age != expected.prediction.bone_age
    first, second = visit(), visit()
    _choose(first, hand)
    first.get_by_label("Girl", exact=True).check()
    _choose(second, file)
    second.get_by_label("Boy", exact=True).check()
    first.locator("#ask").click()
    assert _answered(second) == theirs.prediction.bone_age
    expect(first.locator("#ba-headline")).to_have_text(expected.prediction.bone_age)
    assert "somebody-elses" not in first.content()
    third = visit()
    assert third.locator(".ba-answer").count() == 0
    assert third.locator("#files .file-preview").count() == 0


def test_no_upload_can_be_fetched_again_and_no_question_can_name_another_file(
    visit: Visitor, hand: Path, server: RunningServer
) -> None:
    with httpx.Client(base_url=server.url) as client:
        sent = client.post("/gradio_api/upload", files={"files": ("hand.png", hand.read_bytes())})
        (path,) = sent.json()
        assert Path(path).is_file()
        for address in (
            f"/gradio_api/file={path}",
            f"/gradio_api/file/{path}",
            "/gradio_api/file=/etc/passwd",
            "/gradio_api/file=http://127.0.0.1:1/",
            "/gradio_api/proxy=http://127.0.0.1:1/",
            "/gradio_api/info",
            "/gradio_api/openapi.json",
            "/gradio_api/runs",
            "/monitoring",
            "/assets/../../../../etc/passwd",
            "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/routes.py",
        ):
            assert client.get(address).status_code in (403, 404), address
        for name in (
            "/gradio_api/run/reply",
            "/gradio_api/call/reply",
            "/gradio_api/api/reply",
            "/gradio_api/component_server",
        ):
            assert client.post(name, json={"data": [], "session_hash": "x"}).status_code == 404
        for file in ("/etc/passwd", "http://127.0.0.1:1/x.png", f"{Path(path).parent}/../../../log"):
            data = {"path": file, "meta": {"_type": "gradio.FileData"}}
            question = {"data": [[data], "F", "", "", "", ""], "fn_index": 0, "session_hash": "x"}
            assert client.post("/gradio_api/queue/join", json=question).status_code == 400, file
        huge = b'{"data": ["' + b"x" * 300_000 + b'"]}'
        assert client.post("/gradio_api/queue/join", content=huge).status_code == 400


def test_the_log_holds_neither_file_names_nor_dates(visit: Visitor, hand: Path, server: RunningServer) -> None:
    page = visit()
    page.locator("#birth input").fill("2015-03-10")
    page.locator("#taken input").fill("2023-09-10")
    _ask(page, hand, age=None)
    said = server.log.read_text()
    assert NOBODY not in said
    assert "2015-03-10" not in said


def test_the_model_card_is_linked_and_shown(visit: Visitor, hand: Path) -> None:
    page = visit()
    _ask(page, hand, age=None)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="model card").click()
    card = opened.value
    card.wait_for_load_state()
    assert "bone age in months from a hand radiograph" in card.locator("h1").inner_text()
    assert card.locator("table").count() == 2
    _is_fit(card)


def test_with_a_token_set_the_page_asks_for_it(browser: Browser, hand: Path, tmp_path: Path) -> None:
    with running_server(tmp_path, BONE_AGE_API_TOKEN="a-secret-for-this-test") as guarded:
        for path in ("/", "/gradio_api/queue/data?session_hash=x", "/model-card", "/config"):
            assert httpx.get(f"{guarded.url}{path}").status_code == 401, path
        assert httpx.post(f"{guarded.url}/gradio_api/upload", files={"files": b"x"}).status_code == 401
        context = browser.new_context(http_credentials={"username": "page", "password": "a-secret-for-this-test"})
        page = context.new_page()
        page.goto(f"{guarded.url}/")
        expect(page.locator("#birth input")).to_have_attribute("type", "date")
        assert re.search(r"\d+ years", _ask(page, hand))
        context.close()
