from typing import Annotated

from zenml import step

from bone_age import tracking
from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.robustness import Robustness, measure_on_test
from bone_age.mlflow_connection import reopened
from bone_age.modelling.trained import TrainedModel
from bone_age.serving.onnx_network import OnnxNetwork
from bone_age.serving.prepared_network import PreparedNetwork
from bone_age.settings import EvaluationSettings
from steps.caching import ROBUSTNESS


@step(cache_policy=ROBUSTNESS)
def measure_robustness(
    model: TrainedModel,
    evaluated: EvaluatedModel,
    images: PreparedImages,
    splits: Dataset,
    settings: EvaluationSettings,
    rows: int,
    seed: int,
) -> Annotated[Robustness, "robustness"]:
    """Turn, darken, compress, ... test radiographs, and log to the model's nested run how far its answers move."""
    answering = (OnnxNetwork(model.onnx), evaluated.flip_averaging, evaluated.correction)
    network = PreparedNetwork(model.plan.name, model.plan.preprocessing, *answering)
    usable = images.split("test")["image_id"].tolist()
    robustness = measure_on_test(network, splits, usable, rows, settings, seed)
    with reopened(model.record.mlflow_run_id):
        tracking.log_robustness(robustness)
    return robustness
