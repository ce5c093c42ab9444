"""Answers as HTML: everything inline, so that no picture of a patient lies on disk or has an address.

The template escapes what it is given; file names and messages come from strangers.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bone_age.growth import GrowthAssessment, Sex
from bone_age.growth.chart import alt_text, growth_chart
from bone_age.growth.wording import explain_age_consistency, explain_growth
from bone_age.serving.attention_picture import overlay
from bone_age.serving.desk import Reply
from bone_age.serving.page.table import Row, as_csv
from bone_age.serving.predictor import Predictor, years_and_months

_OLDEST_SHOWN_MONTHS = 228
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["years_and_months"] = years_and_months
_TEMPLATES.filters["short"] = lambda months: "{} y {} m".format(*divmod(round(months), 12))
_TEMPLATES.filters["percent_of_life"] = lambda months: round(100 * min(months / _OLDEST_SHOWN_MONTHS, 1), 2)


@dataclass(frozen=True)
class Pictures:
    """Data addresses: what the model saw, the same with its attention laid over in full, and the growth chart."""

    prepared: str
    attention: str
    growth: str | None


def show_answer(predictor: Predictor, reply: Reply, label: str) -> str:
    """One radiograph's answer in full."""
    answered, growth = reply.answered, reply.answered.prediction.growth
    sex = sex_of(reply)
    heat = cv2.cvtColor(overlay(answered.prepared, answered.attention, 1.0), cv2.COLOR_RGB2BGR)
    consistency = answered.prediction.age_consistency
    return _render(
        "answer.html.jinja",
        answer=answered.prediction,
        reply=reply,
        label=label,
        pictures=Pictures(_jpeg(answered.prepared), _jpeg(heat), _chart(growth, sex) if growth else None),
        growth_words=growth and _verdict_and_rest(explain_growth(growth)),
        growth_alternative=growth and alt_text(growth, sex),
        consistency_words=consistency and _verdict_and_rest(explain_age_consistency(consistency)),
        coverage=_coverage(predictor),
        facts=predictor.bundle.facts,
    )


def sex_of(reply: Reply) -> Sex:
    return "M" if reply.sex == "M" else "F"


def show_table(predictor: Predictor, rows: list[Row]) -> str:
    """Several radiographs' answers as a table, and the same to download."""
    table = _address("text/csv;charset=utf-8", as_csv(rows))
    return _render(
        "table.html.jinja",
        rows=rows,
        table=table,
        coverage=_coverage(predictor),
        model=predictor.name,
        standing=predictor.standing_warnings,
    )


def show_report(pdf: bytes | None) -> str:
    """The report to download; None while it is being made."""
    return _render("report.html.jinja", address=pdf and _address("application/pdf", pdf))


def show_working(what: str, share: float | None = None) -> str:
    return _render("working.html.jinja", what=what, share=share)


def show_problem(sentence: str) -> str:
    return _render("problem.html.jinja", sentence=sentence)


def _render(template: str, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(**values)


def _coverage(predictor: Predictor) -> str:
    return f"{predictor.calibration.coverage * 100:.0f}"


def _verdict_and_rest(words: str) -> tuple[str, str]:
    """`Normal: the model's ...` as the verdict alone and a sentence that follows it."""
    verdict, _, rest = words.partition(": ")
    return verdict, rest[:1].upper() + rest[1:]


def _chart(growth: GrowthAssessment, sex: Sex) -> str:
    drawn = io.BytesIO()
    growth_chart(growth, sex).savefig(drawn, format="svg")
    return _address("image/svg+xml", drawn.getvalue())


def _jpeg(image: cv2.typing.MatLike) -> str:
    return _address("image/jpeg", cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
