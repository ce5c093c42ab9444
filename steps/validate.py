from typing import Annotated

from zenml import step

from bone_age import tracking
from bone_age.data.manifest import Dataset
from bone_age.data.splits import assign_splits
from bone_age.data.validation import DataValidation
from bone_age.progress import warn
from bone_age.settings import SplitSettings, ValidationBounds
from steps.caching import VALIDATE
from steps.context import current_run


@step(cache_policy=VALIDATE)
def validate_data(
    dataset: Dataset, bounds: ValidationBounds, split: SplitSettings
) -> Annotated[DataValidation, "data_validation"]:
    """Judge labels, images and leakage between the splits to come; errors stop the run, the result stays in MLflow."""
    from bone_age.data.expectations import validate_dataset  # imports Great Expectations, which only this step needs

    validation = validate_dataset(assign_splits(dataset, split), bounds)
    warn(validation.warnings)
    if not validation.passed:  # otherwise `record_data` logs it
        with tracking.parent_run(current_run()):
            tracking.log_dataset(dataset)
            tracking.log_validation(validation)
    validation.raise_on_errors()
    return validation
