"""The form: fields on the left, the answer beside them; on a phone, below."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import gradio as gr

from bone_age.serving.desk import Desk
from bone_age.serving.page.examples import Example
from bone_age.serving.page.replying import reply_to

_ANSWERED_AT_ONCE, _WAITING = 2, 16  # people; the desk has a queue of its own for what they ask
_SILENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_HEADER = """<header class="ba-header"><h1>Bone age</h1>
<p>An estimate from a radiograph of the hand, with how sure it is and where the model looked.</p>
<p class="ba-notice"><strong>Not a medical device.</strong> For research, teaching and engineering. Nobody's treatment,
and no decision about anybody's age in law, may rest on an answer.</p></header>"""
_SEX = """<p class="ba-hint">Never guessed. Left open, it is taken from a DICOM file that names it.</p>"""
_AGE = """<h2 class="ba-label">Age of the child <span>optional</span></h2>
<p class="ba-hint">Adds the growth chart. Dates, or the age in years and months; for one radiograph at a time.</p>"""
_EXAMPLES = """<h2 class="ba-label">Or try a drawn hand</h2>
<p class="ba-hint">Drawn by a program, not X-rayed; what is answered means nothing for a child.</p>"""
_TROUBLE = """<div class="ba-trouble" role="alert"></div>"""  # filled by the script
_NOTHING_YET = """<div class="ba-empty"><p>Choose a radiograph and the child's sex, then estimate. The answer appears
here.</p></div>"""
_FOOTER = """<footer><p>Uploads are used for the answer only, never shown to anybody else, and deleted after ten
minutes. For programs there is a <a href="docs">REST API</a>.</p></footer>"""


def build_form(desk: Desk, examples: tuple[Example, ...]) -> gr.Blocks:
    """The page as Gradio's blocks; they hold no state, so that nothing can pass from one person to another.

    Gradio all the same keeps what the last 10,000 visitors saw, pictures included; here, of as many as it serves.
    """
    page: gr.Blocks
    with gr.Blocks(title="Bone age", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(_HEADER, elem_id="top")
        with gr.Row(elem_id="columns", equal_height=False):
            with gr.Column(elem_id="fields", min_width=300):
                fields = _fields()
                ask = gr.Button("Estimate bone age", variant="primary", elem_id="ask")
                gr.HTML(_EXAMPLES)
                with gr.Row(elem_id="examples"):
                    buttons = [
                        gr.Button(example.label, elem_id=f"example-{number}", min_width=80)
                        for number, example in enumerate(examples)
                    ]
            with gr.Column(elem_id="result", min_width=300):
                gr.HTML(_TROUBLE, elem_id="trouble")
                shown = [gr.HTML(_NOTHING_YET, elem_id="answer"), gr.HTML("", elem_id="report")]
        gr.HTML(_FOOTER, elem_id="foot")

        async def reply(*filled: Any) -> AsyncIterator[tuple[Any, ...]]:
            async for html in reply_to(desk, *filled):
                yield tuple(gr.skip() if part is None else part for part in html)

        limits: dict[str, Any] = {"concurrency_id": "answers", "concurrency_limit": _ANSWERED_AT_ONCE}
        ask.click(reply, fields, shown, trigger_mode="always_last", **limits, **_SILENT)
        for button, example in zip(buttons, examples, strict=True):
            button.click(partial(_fill_in, example), None, fields, **_SILENT).then(
                reply, fields, shown, **limits, **_SILENT
            )
    page.state_session_capacity = _ANSWERED_AT_ONCE + _WAITING
    page.queue(max_size=_WAITING, api_open=False)
    return page


def _fields() -> list[Any]:
    """Files, sex, date of birth, examination date, years, months: in the order that `read_form` takes them."""
    date: dict[str, Any] = {"placeholder": "YYYY-MM-DD", "max_lines": 1, "min_width": 130}
    files = gr.File(label="Radiographs: PNG, JPEG, DICOM", file_count="multiple", elem_id="files", height=150)
    sex = gr.Radio([("Girl", "F"), ("Boy", "M")], label="Sex", elem_id="sex", value=None)
    gr.HTML(_SEX, elem_id="sex-hint")
    with gr.Column(elem_id="age"):
        gr.HTML(_AGE)
        with gr.Row():
            birth = gr.Textbox(label="Date of birth", elem_id="birth", **date)
            taken = gr.Textbox(label="Examination date", elem_id="taken", **date)
        with gr.Row():
            years = gr.Textbox(label="Age in years", elem_id="years", max_lines=1, min_width=130)
            months = gr.Textbox(label="and months", elem_id="months", max_lines=1, min_width=130)
    return [files, sex, birth, taken, years, months]


def _fill_in(example: Example) -> tuple[Any, ...]:
    years, months = divmod(example.age_months, 12)
    return [str(example.file)], example.sex, "", "", str(years), str(months)
