from zenml import step

from bone_age import tracking
from bone_age.data.manifest import Dataset
from bone_age.data.splits import split_balance
from bone_age.data.validation import DataValidation
from steps.context import current_run


@step(enable_cache=False)
def record_data(dataset: Dataset, validation: DataValidation, splits: Dataset, warn_band_below: int) -> None:
    """Log data set, validation and splits to the parent run: also to that of a run which took them from the cache."""
    with tracking.parent_run(current_run()):
        tracking.log_dataset(dataset)
        tracking.log_validation(validation)
        tracking.log_splits(splits, split_balance(splits, warn_band_below))
