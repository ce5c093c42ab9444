from typing import Annotated

from zenml import step

from bone_age.data.manifest import Dataset
from bone_age.data.splits import assign_splits, split_balance
from bone_age.data.validation import DataValidation
from bone_age.evaluation.intervals import require_rows
from bone_age.progress import warn
from bone_age.settings import SplitSettings
from steps.caching import INGEST


@step(cache_policy=INGEST)
def split_dataset(
    dataset: Dataset, validation: DataValidation, split: SplitSettings, coverage: float
) -> Annotated[Dataset, "splits"]:
    """Give every patient to train, validation or test, and report the balance over sex and age."""
    assigned = assign_splits(dataset, split)
    require_rows(len(assigned.split("validation")), coverage)
    warn(split_balance(assigned, split.warn_band_below).warnings)
    return assigned
