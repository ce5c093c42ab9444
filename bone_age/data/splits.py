"""Training, validation and test split, by a hash of the patient's id.

A row's split depends on its own id and the settings alone, so adding rows never moves an old one and no child is in
two splits. The price: shares are met on average, not exactly, and nothing is stratified; `split_balance` shows what
came out over sex and age band.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pandas as pd

from bone_age.data.manifest import AGE_BAND_EDGES_MONTHS, MAX_BONE_AGE_MONTHS, SPLITS, Dataset, age_band
from bone_age.errors import InputError
from bone_age.settings import SplitSettings

_SEXES = ("F", "M")
_BANDS = tuple(age_band(start) for start in AGE_BAND_EDGES_MONTHS[:-1])


@dataclass(frozen=True)
class SplitBalance:
    """How many radiographs of each sex and age band are in each split.

    Attributes:
        counts: Columns `split`, `sex`, `age_band`, `n`; every combination has a row, also where n is 0.
        warnings: One line for each thin or empty band.
    """

    counts: pd.DataFrame
    warnings: tuple[str, ...]


def assign_splits(dataset: Dataset, settings: SplitSettings) -> Dataset:
    """Fill the `split` column; one that the data brings along is left as it is.

    Raises:
        InputError: A split would be empty, or the data names a split for some rows only.
    """
    given = dataset.table["split"] != ""
    if given.any():
        if not given.all():
            row = dataset.table["source_row"][~given].iloc[0]
            raise InputError(f"{row}: split is empty while other rows name one; name all or none")
        _refuse_empty(dataset, "name all three in the data, or none to have them drawn")
        return dataset
    splits = [split_of(patient_id, settings) for patient_id in dataset.table["patient_id"]]
    assigned = dataset.with_table(dataset.table.assign(split=splits))
    _refuse_empty(assigned, "more radiographs or larger shares are needed")
    return assigned


def split_of(patient_id: str, settings: SplitSettings) -> str:
    """The split of one patient: a uniform number from SHA-256 of salt and id, against the shares, test first."""
    digest = hashlib.sha256(f"{settings.salt}\0{patient_id}".encode()).digest()
    position = int.from_bytes(digest[:8]) / 2**64
    if position < settings.test:
        return "test"
    return "validation" if position < settings.test + settings.validation else "train"


def split_balance(dataset: Dataset, warn_band_below: int) -> SplitBalance:
    """Count radiographs over split, sex and age band, and name bands with fewer than `warn_band_below` in a split.

    Rows without a usable sex or bone age are not counted.
    """
    table = dataset.table
    usable = table[table["sex"].isin(_SEXES) & table["bone_age_months"].between(0, MAX_BONE_AGE_MONTHS)]
    cells = usable.assign(age_band=usable["bone_age_months"].map(age_band)).groupby(["split", "sex", "age_band"]).size()
    every = pd.MultiIndex.from_product([SPLITS, _SEXES, _BANDS], names=["split", "sex", "age_band"])
    counts = cells.reindex(every, fill_value=0).rename("n").reset_index()
    return SplitBalance(counts, tuple(_thin_bands(counts, warn_band_below)))


def _thin_bands(counts: pd.DataFrame, warn_band_below: int) -> list[str]:
    warnings = []
    for (sex, band), cells in counts.groupby(["sex", "age_band"]):
        months = "-".join(str(int(edge)) for edge in str(band).split("_"))
        if warn_band_below > 0 and not cells["n"].any():
            warnings.append(f"no radiographs of sex {sex} aged {months} months in any split")
            continue
        warnings += [
            f"{split} split has {n} of sex {sex} aged {months} months, fewer than {warn_band_below}"
            for split, n in zip(cells["split"], cells["n"], strict=True)
            if n < warn_band_below
        ]
    return warnings


def _refuse_empty(dataset: Dataset, remedy: str) -> None:
    present = set(dataset.table["split"])
    if missing := [name for name in SPLITS if name not in present]:
        names = " and ".join(missing)
        raise InputError(f"data set {dataset.name} ({len(dataset)} radiographs): no rows in split {names}; {remedy}")
