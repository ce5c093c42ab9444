"""The report: self-contained, escaped, complete."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bone_age.errors import InputError
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.report import report_html, write_report
from bone_age.governance.gate import Decision, Gate, Outcome

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Collects text, attributes and ids, and notices a tag that is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]


PASSED = Gate(name="test_mae", figure=8.13, bound=9.0, meaning="test MAE, months", evidence="test/metrics.json")
MISSING = Gate(name="latency", figure=None, bound=1.5, meaning="not measured")
STALE = Gate(
    name="onnx_agrees", figure=0.01, bound=0.05, meaning="largest difference", problem="stale: of another model"
)
NO_NUMBER = Gate(name="test_r2", figure=math.nan, bound=0.9, rule="at least", meaning="R²")
OVERRIDDEN = Gate(
    name="worst_subgroup_mae",
    figure=15.0,
    bound=14.0,
    meaning="worst band",
    overridden_by="A. <b>Roe</b>",
    override_reason="few toddlers",
)


def decided(comparison: Comparison, outcome: Outcome, *gates: Gate, standing: tuple[str, ...] = ()) -> Comparison:
    model = comparison.best
    decision = Decision(
        outcome=outcome,
        version=3,
        architecture=model.architecture,
        test_mae=model.test.metrics.mae.value,
        gates=gates,
        reason="; ".join(map(str, gates)),
        policy_digest="ab" * 32,
        previous_champion=None,
        standing_overrides=standing,
    )
    return comparison.decided(decision)


@pytest.fixture
def pictures(comparison: Comparison) -> dict[str, bytes]:
    names = ("loss_curves", "predicted_against_true", "bland_altman", "error_by_age", "subgroups", "interval_coverage")
    paths = [f"{model.name}/{name}.png" for model in comparison.models for name in names]
    return dict.fromkeys(["comparison.png", *paths], b"\x89PNG")


@pytest.fixture
def page(comparison: Comparison, pictures: dict[str, bytes]) -> Page:
    return Page(report_html(comparison, pictures))


def test_what_users_wrote_is_shown_and_never_run(page: Page) -> None:
    assert not [tag for tag, _, _ in page.attributes if tag in ("script", "b", "i")]
    for written in ("<script>alert(1)</script>", "thin band <i>F</i>", "/models/<b>resnet</b>.h5"):
        assert written in page.text


def test_the_page_needs_no_other_host(page: Page) -> None:
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert all(link.startswith("#") for link in page.values("href"))
    assert not re.search(r"https?://", page.text)


def test_every_link_of_the_contents_has_its_place(page: Page) -> None:
    assert {link.removeprefix("#") for link in page.values("href")} <= set(page.values("id"))
    assert len(page.values("id")) == len(set(page.values("id")))


def test_synthetic_data_is_marked_before_any_figure(page: Page) -> None:
    assert page.text.index("SYNTHETIC IMAGES") < page.text.index("Test MAE")


def test_the_page_says_what_it_is_not(page: Page) -> None:
    assert "Not a medical device" in page.text


def test_every_table_of_figures_names_its_test_set(page: Page) -> None:
    assert page.text.count("hands, test split, n = 60") >= 1 + 2 * 3


def test_the_table_shows_each_model_and_the_baseline(comparison: Comparison, page: Page) -> None:
    for evaluation in (*(model.test for model in comparison.models), comparison.baseline):
        mae = evaluation.metrics.mae
        assert f"{mae.value:.1f} [{mae.lo:.1f}, {mae.hi:.1f}]" in page.text
    assert page.text.count("best on validation") == 1
    assert "Baseline: mean for that sex" in page.text


def test_the_decision_is_told_with_figure_bound_verdict_and_evidence_of_each_gate(
    comparison: Comparison, pictures: dict[str, bytes]
) -> None:
    assert "No decision yet" in Page(report_html(comparison, pictures)).text
    promoted = Page(report_html(decided(comparison, "promoted", PASSED), pictures)).text
    assert "Promoted. Version 3 (xception_multi)" in promoted
    assert "test_mae 8.13 at most 9 passed test MAE, months test/metrics.json" in promoted
    refused = Page(report_html(decided(comparison, "not promoted", PASSED, MISSING, STALE, NO_NUMBER), pictures)).text
    assert "Not promoted. Version 3" in refused
    assert "latency missing at most 1.50 FAILED not measured evidence.json" in refused
    assert "onnx_agrees 0.01 at most 0.05 FAILED largest difference; stale: of another model" in refused
    assert "test_r2 nan at least 0.90 FAILED" in refused


def test_a_version_that_awaits_approval_is_told_as_such(comparison: Comparison, pictures: dict[str, bytes]) -> None:
    awaiting = Page(report_html(decided(comparison, "awaits approval", PASSED), pictures))
    assert "Awaits approval. Version 3" in awaiting.text
    assert "decision yes" in awaiting.values("class")


def test_an_override_is_told_with_who_and_why(comparison: Comparison, pictures: dict[str, bytes]) -> None:
    page = Page(report_html(decided(comparison, "already champion", PASSED, OVERRIDDEN), pictures))
    assert "worst_subgroup_mae 15 at most 14 overridden worst band; overridden by A. <b>Roe</b>: few toddlers" in (
        page.text
    )
    assert "Overridden." not in page.text


def test_overrides_by_which_the_champion_serves_are_told_in_reports_about_others(
    comparison: Comparison, pictures: dict[str, bytes]
) -> None:
    standing = (f"champion version 2: {OVERRIDDEN}",)
    page = Page(report_html(decided(comparison, "not promoted", MISSING, standing=standing), pictures))
    assert "Overridden. The champion serves although it did not pass every gate: champion version 2:" in page.text
    assert "overridden by A. <b>Roe</b>: few toddlers" in page.text


def test_files_appear_whole_and_figures_are_strict_json(comparison: Comparison, tmp_path: Path) -> None:
    one = replace(comparison, models=comparison.models[:1], ablations=())
    html = write_report(decided(one, "promoted", PASSED, NO_NUMBER), tmp_path / "night")
    document = json.loads((tmp_path / "night" / "report.json").read_text(), parse_constant=pytest.fail)
    assert document["schema_version"] == 1
    assert [model["name"] for model in document["models"]] == ["xception_multi"]
    assert document["models"][0]["test"]["mae"] == comparison.models[0].test.metrics.mae.value
    assert document["decision"]["outcome"] == "promoted"
    assert [gate["verdict"] for gate in document["decision"]["gates"]] == ["passed", "FAILED"]
    assert document["decision"]["gates"][1]["figure"] is None
    assert document["best_on_validation"] == document["candidate"] == "xception_multi"
    written = {str(path.relative_to(html.parent)) for path in html.parent.rglob("*") if path.is_file()}
    assert {"report.html", "report.json", "plots/comparison.png", "plots/xception_multi/loss_curves.png"} <= written
    assert not [name for name in written if name.endswith(".part")]
    assert html.stat().st_size < 5_000_000
    Page(html.read_text(encoding="utf-8"))


def test_a_folder_that_cannot_be_written_is_an_input_error(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "night").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(comparison, tmp_path / "night")
