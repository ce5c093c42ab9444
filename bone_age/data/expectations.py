"""Is this data set fit to learn from? Every rule is a Great Expectations expectation, every finding names its rows.

Great Expectations judges one column at a time. What a rule needs beyond that is worked out before and put into a
column: what is wrong with a row, in words (null where nothing is), or a figure of the whole set (the same in each row).
So all rules are in one suite, one result and one page. The library takes seconds to import: who needs the verdict and
not the judging imports `validation.py`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations.core as gxe
import numpy as np
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from bone_age.data.data_docs import DataDocsHeader, render_data_docs
from bone_age.data.image_facts import image_facts
from bone_age.data.leakage import NearDuplicate, in_another_split, near_duplicates, same_image_elsewhere
from bone_age.data.manifest import AGE_BAND_EDGES_MONTHS, MANIFEST_COLUMNS, MAX_BONE_AGE_MONTHS, Dataset, age_band
from bone_age.data.validation import DataValidation
from bone_age.settings import ValidationBounds

ERROR, WARNING = FailureSeverity.CRITICAL, FailureSeverity.WARNING

# Plausible label distributions. RSNA's training part: mean 127, SD 41, most common label (156 months) 9 %.
_MEAN_MONTHS = (24.0, 216.0)
_SD_MONTHS = (12.0, 90.0)
_SHARE_OF_MOST_COMMON_LABEL = 0.25

_NAMED_ROWS = 5
_TEXT_COLUMNS = ("image_id", "path", "sha256", "sex", "patient_id", "split", "source_row")


def validate_dataset(dataset: Dataset, bounds: ValidationBounds) -> DataValidation:
    """Judge a data set: labels, images, distribution, duplicates and, where splits are assigned, leakage.

    Decodes every image once. Nothing is raised for bad data: the verdict says what is wrong.
    """
    examined = pd.concat([dataset.table.reset_index(drop=True), image_facts(dataset)], axis=1)
    if "raw_bone_age" not in examined:
        examined["raw_bone_age"] = examined["bone_age_months"].map("{:g}".format)
    blank = examined["grey_sd"] < bounds.min_contrast  # blank images are all alike
    hashed = examined.assign(perceptual_hash=examined["perceptual_hash"].mask(blank, ""))
    pairs = near_duplicates(hashed, bounds.near_duplicate_bits)
    table = _with_findings(examined, dataset.root, pairs)
    expectations = [
        *_schema_rules(),
        *_label_rules(table),
        *_image_rules(bounds),
        *_distribution_rules(table, bounds),
        *_duplicate_rules(),
    ]
    outcome = _run(table, expectations)
    result: dict[str, Any] = outcome.to_json_dict()  # type: ignore[no-untyped-call]
    errors, warnings = _messages(result)
    header = DataDocsHeader(dataset.name, len(dataset), dataset.fingerprint, dataset.synthetic, errors, warnings)
    return DataValidation(
        passed=not errors,
        errors=errors,
        warnings=warnings,
        result=result,
        html=render_data_docs(outcome, header),
        n=len(dataset),
        fingerprint=dataset.fingerprint,
        near_duplicates=tuple(pairs),
    )


# What one column at a time cannot see --------------------------------------------------------------------------------


def _with_findings(table: pd.DataFrame, root: Path, pairs: list[NearDuplicate]) -> pd.DataFrame:
    nothing = pd.Series(None, index=table.index, dtype=object)
    reason = table["decode_error"].str.removeprefix(f"{root}/")
    hashed = table["sha256"] != ""
    split_known = bool((table["split"] != "").all())
    return table.assign(
        unreadable_file=nothing.mask(~hashed, reason.mask(reason == "", table["path"] + " cannot be read")),
        damaged_image=nothing.mask(hashed & ~table["decodes"], reason),
        min_side_px=table[["width_px", "height_px"]].min(axis=1),
        other_label=same_image_elsewhere(table, same_label=False),
        repeated_image=same_image_elsewhere(table, same_label=True),
        leaked_image=in_another_split(table, "sha256") if split_known else nothing,
        leaked_patient=in_another_split(table, "patient_id") if split_known else nothing,
        near_duplicate=_near_duplicate_of(table, [p for p in pairs if p.crosses_splits or not split_known]),
        **_figures(table),
    )


def _figures(table: pd.DataFrame) -> dict[str, float]:
    ages = table["bone_age_months"].dropna()
    n_by_sex = table["sex"][table["sex"].isin(["M", "F"])].value_counts()
    return {
        "age_span_months": float(ages.max() - ages.min()) if len(ages) else 0.0,
        "share_of_one_sex": float(n_by_sex.max() / n_by_sex.sum()) if len(n_by_sex) else 1.0,
        "share_of_most_common_age": float(ages.value_counts(normalize=True).max()) if len(ages) else 1.0,
        "empty_age_bands": float(len(_empty_bands(table))),
    }


def _empty_bands(table: pd.DataFrame) -> list[str]:
    usable = table[table["bone_age_months"].between(0, MAX_BONE_AGE_MONTHS)]
    present = {(sex, age_band(age)) for sex, age in zip(usable["sex"], usable["bone_age_months"], strict=True)}
    every = [(sex, age_band(start)) for sex in ("F", "M") for start in AGE_BAND_EDGES_MONTHS[:-1]]
    return [f"{sex} {band}" for sex, band in every if (sex, band) not in present]


def _near_duplicate_of(table: pd.DataFrame, pairs: list[NearDuplicate]) -> pd.Series:
    texts: dict[str, str] = {}
    for p in pairs:
        where = f" in {p.other_split}" if p.other_split else ""
        here = f"{p.image_id} in {p.split}" if p.split else p.image_id
        other = f"{p.other_image_id}{where} ({p.other_source_row})"
        texts.setdefault(p.source_row, f"{here} looks like {other}, {p.differing_bits} of 256 bits differ")
    return pd.Series([texts.get(row) for row in table["source_row"]], index=table.index, dtype=object)


# The rules -----------------------------------------------------------------------------------------------------------
# `meta.problem` is what a failed rule says; rows and values, or the figure, are added to it.


def _says(problem: str) -> dict[str, str]:
    return {"problem": problem}


def _schema_rules() -> Iterator[Expectation]:
    yield gxe.ExpectTableColumnsToMatchSet(
        column_set=[*MANIFEST_COLUMNS, "source_row"],
        exact_match=False,
        severity=ERROR,
        meta=_says("columns are missing; found"),
    )
    yield gxe.ExpectColumnValuesToBeOfType(
        column="bone_age_months", type_="float64", severity=ERROR, meta=_says("bone_age_months is not numeric")
    )
    for column in _TEXT_COLUMNS:
        yield gxe.ExpectColumnValuesToBeOfType(
            column=column, type_="str", severity=ERROR, meta=_says(f"{column} is not text")
        )
    for column in ("image_id", "path", "patient_id"):
        yield gxe.ExpectColumnValueLengthsToBeBetween(
            column=column, min_value=1, severity=ERROR, meta=_says(f"{column} is empty")
        )


def _label_rules(table: pd.DataFrame) -> Iterator[Expectation]:
    yield gxe.ExpectColumnValuesToBeUnique(
        column="image_id", severity=ERROR, meta=_says("image_id appears more than once")
    )
    yield gxe.ExpectColumnValuesToBeInSet(
        column="sex", value_set=["M", "F"], severity=ERROR, meta=_says("sex is neither M nor F")
    )
    yield gxe.ExpectColumnValuesToNotBeNull(
        column="bone_age_months", severity=ERROR, meta=_says("bone_age_months is no number")
    )
    yield gxe.ExpectColumnValuesToBeBetween(
        column="bone_age_months",
        min_value=0,
        max_value=MAX_BONE_AGE_MONTHS,
        severity=ERROR,
        meta=_says("bone_age_months is outside 0 to 240"),
    )
    if "chronological_age_months" in table:
        yield gxe.ExpectColumnValuesToBeBetween(
            column="chronological_age_months",
            min_value=0,
            max_value=MAX_BONE_AGE_MONTHS,
            severity=WARNING,
            meta=_says("chronological_age_months is outside 0 to 240"),
        )


def _image_rules(bounds: ValidationBounds) -> Iterator[Expectation]:
    yield gxe.ExpectColumnValuesToBeNull(
        column="unreadable_file", severity=ERROR, meta=_says("image is absent or cannot be read")
    )
    share = bounds.error_unreadable_share
    allowed = f", more than the {share:.1%} that may be left out" if share else ""
    yield gxe.ExpectColumnValuesToBeNull(
        column="damaged_image", mostly=1 - share, severity=ERROR, meta=_says(f"image does not decode{allowed}")
    )
    if share:
        yield gxe.ExpectColumnValuesToBeNull(
            column="damaged_image", severity=WARNING, meta=_says("image does not decode and will be left out")
        )
    yield gxe.ExpectColumnValuesToBeBetween(
        column="min_side_px",
        min_value=bounds.min_side_px,
        severity=ERROR,
        meta=_says(f"image's shorter side (min_side_px) is below {bounds.min_side_px} px"),
    )
    yield gxe.ExpectColumnValuesToBeBetween(
        column="grey_sd",
        min_value=bounds.min_contrast,
        severity=ERROR,
        meta=_says(f"image is blank: SD of grey levels (grey_sd) is below {bounds.min_contrast:g} of 255"),
    )


def _distribution_rules(table: pd.DataFrame, bounds: ValidationBounds) -> Iterator[Expectation]:
    for limit, severity in ((bounds.error_share_of_one_sex, ERROR), (bounds.warn_share_of_one_sex, WARNING)):
        yield gxe.ExpectColumnMaxToBeBetween(
            column="share_of_one_sex",
            max_value=limit,
            severity=severity,
            meta=_says(f"share of one sex (share_of_one_sex) is above {limit:g}"),
        )
    span = bounds.error_age_span_months
    yield gxe.ExpectColumnMinToBeBetween(
        column="age_span_months",
        min_value=span,
        severity=ERROR,
        meta=_says(f"bone ages span (age_span_months) less than {span:g} months; are they given in years?"),
    )
    yield gxe.ExpectColumnMaxToBeBetween(
        column="empty_age_bands",
        max_value=bounds.warn_empty_bands,
        severity=WARNING,
        meta=_says(f"sex and age bands without a radiograph ({', '.join(_empty_bands(table))})"),
    )
    yield gxe.ExpectColumnMaxToBeBetween(
        column="share_of_most_common_age",
        max_value=_SHARE_OF_MOST_COMMON_LABEL,
        severity=WARNING,
        meta=_says(f"share of the most common bone age is above {_SHARE_OF_MOST_COMMON_LABEL:g}"),
    )
    if table["bone_age_months"].notna().sum() < 2:
        return  # no mean and SD to judge, and errors enough
    for expectation, name, (low, high) in (
        (gxe.ExpectColumnMeanToBeBetween, "mean", _MEAN_MONTHS),
        (gxe.ExpectColumnStdevToBeBetween, "SD", _SD_MONTHS),
    ):
        yield expectation(
            column="bone_age_months",
            min_value=low,
            max_value=high,
            severity=WARNING,
            meta=_says(f"{name} of bone_age_months is outside {low:g} to {high:g}"),
        )


def _duplicate_rules() -> Iterator[Expectation]:
    for column, severity, problem in (
        ("other_label", ERROR, "one image (same sha256) has different labels"),
        ("leaked_image", ERROR, "one image (same sha256) is in two splits; remove one or give both one patient_id"),
        ("leaked_patient", ERROR, "one patient (same patient_id) is in two splits"),
        ("repeated_image", WARNING, "one image (same sha256) counts more than once"),
        ("near_duplicate", WARNING, "images look alike"),
    ):
        yield gxe.ExpectColumnValuesToBeNull(column=column, severity=severity, meta=_says(problem))


# Running them --------------------------------------------------------------------------------------------------------


def _run(table: pd.DataFrame, expectations: list[Expectation]) -> ExpectationSuiteValidationResult:
    """Great Expectations' result in the order of `expectations`, with JSON values only."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("radiographs").add_dataframe_asset("manifest")
    suite = context.suites.add(gx.ExpectationSuite(name="fit to learn from", expectations=expectations))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="data set", data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    outcome = definition.run(
        batch_parameters={"dataframe": table},
        result_format={
            "result_format": "SUMMARY",
            "unexpected_index_column_names": ["source_row", "raw_bone_age"],
            "return_unexpected_index_query": False,
        },
    )
    order = [expectation.id for expectation in suite.expectations]
    outcome.results.sort(key=lambda one: order.index(one.expectation_config.id if one.expectation_config else None))
    for one in outcome.results:
        one.result = _json_values(one.result)
    return outcome


def _json_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_values(item) for item in value]
    if isinstance(value, np.generic):
        return _json_values(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _messages(result: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Errors and warnings; a warning about what is an error already is left out."""
    errors: dict[tuple[str, str], list[str]] = {}
    warnings: dict[tuple[str, str], list[str]] = {}
    for one in result["results"]:
        if not one["success"]:
            config = one["expectation_config"]
            subject = (config["type"], config["kwargs"].get("column", ""))
            found = errors if config["severity"] == ERROR.value else warnings
            found.setdefault(subject, []).append(_message(one))
    only_warned = [message for subject, some in warnings.items() if subject not in errors for message in some]
    return tuple(message for some in errors.values() for message in some), tuple(only_warned)


def _message(one: dict[str, Any]) -> str:
    config, result = one["expectation_config"], one["result"]
    problem, column = config["meta"]["problem"], config["kwargs"].get("column", "")
    if one["exception_info"].get("exception_message"):
        return f"{problem} (cannot be checked: {_printable(one['exception_info']['exception_message'])})"
    if rows := result.get("partial_unexpected_index_list"):
        named = ", ".join(_row_and_value(row, column) for row in rows[:_NAMED_ROWS])
        more = result["unexpected_count"] - min(len(rows), _NAMED_ROWS)
        return f"{problem}: {named}" + (f" and {more} more" if more > 0 else "")
    observed = result.get("observed_value")
    return f"{problem}: {observed:.4g}" if isinstance(observed, float) else f"{problem}: {_printable(str(observed))}"


def _row_and_value(row: dict[str, Any], column: str) -> str:
    value = row["raw_bone_age"] if column == "bone_age_months" else row.get(column)
    shown = f"{value:.4g}" if isinstance(value, float) else f"'{_printable(str(value))}'"
    return f"{row['source_row']} ({shown})"


def _printable(text: str) -> str:
    """One line without control characters: what comes from a label file must not steer a terminal."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= 200 else clean[:200] + "…"
