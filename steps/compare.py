from typing import Annotated

from zenml import step

from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages
from bone_age.data.splits import split_balance
from bone_age.data.validation import DataValidation
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.side_by_side import compare_trained
from bone_age.modelling.trained import TrainedModel
from bone_age.settings import TrainingConfig
from steps.caching import EVALUATE
from steps.context import current_run


@step(cache_policy=EVALUATE)
def compare_models(
    models: list[TrainedModel],
    evaluated: list[EvaluatedModel],
    images: PreparedImages,
    validation: DataValidation,
    splits: Dataset,
    config: TrainingConfig,
) -> Annotated[Comparison, "comparison"]:
    """Put all models and the baseline side by side on the same test rows."""
    warnings = validation.warnings + split_balance(splits, config.split.warn_band_below).warnings
    return compare_trained(models, evaluated, images, warnings, config, current_run().name)
