"""The model card: what a model is, what it was trained on, how good it is for whom, and what it must not be used for.

Written from the files that lie beside it, so that it cannot say other figures than they do.
Source of the headings: Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from bone_age.evaluation.intervals import IntervalCalibration
from bone_age.imaging import PreprocessingSettings

RSNA_TERMS = (
    "The radiographs are those of the RSNA 2017 challenge (Halabi et al., *Radiology* 2019;290:498-503), whose terms "
    "allow research and education, with attribution; the weights are for the same uses."
)
_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def model_card(
    facts: dict[str, Any],
    preprocessing: PreprocessingSettings,
    calibration: IntervalCalibration,
    figures: dict[str, Any],
) -> str:
    """The card as Markdown; `facts` and `figures` are the documents of `model.json` and `metrics.json`."""

    def bounds(name: str, digits: int, of: dict[str, Any] = figures) -> str:
        if of.get(name) is None:
            return "-"
        return f"{of[name]:.{digits}f} [{of[name + '_lo']:.{digits}f}, {of[name + '_hi']:.{digits}f}]"

    names = {"none": "random weights", "imagenet": "ImageNet's weights"}
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - makes Markdown
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        facts=facts,
        preprocessing=preprocessing,
        calibration=calibration,
        figures=figures,
        bounds=bounds,
        coverage=f"coverage_{calibration.coverage * 100:g}",
        weights=names.get(facts["weights"], f"the weights file `{facts['weights']}`"),
        rsna_terms="" if facts["synthetic"] else RSNA_TERMS if facts["dataset_name"] == "rsna" else "",
    )
