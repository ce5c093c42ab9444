"""What besides its inputs decides whether a step may be answered from the cache: the code that it calls.

ZenML sees a step's parameters and artifacts, not the library below; a changed formula in evaluation has to run the
evaluation again, and must not train the models again.
"""

from __future__ import annotations

from zenml.config.cache_policy import CachePolicy

from bone_age.provenance import code_digest


def _ingest() -> str:
    return code_digest("data", "errors")


def _validate() -> str:
    return code_digest("data", "imaging")


def _preprocess() -> str:
    return code_digest("imaging", "data/prepared")


def _train() -> str:
    return code_digest("modelling", "serving/onnx_network")


def _evaluate() -> str:
    return code_digest("evaluation", "serving/feature_summary", "serving/onnx_network", "serving/statistics")


def _robustness() -> str:
    return code_digest("evaluation", "imaging", "serving/onnx_network", "serving/prepared_network")


INGEST = CachePolicy(cache_func=_ingest)
VALIDATE = CachePolicy(cache_func=_validate)
PREPROCESS = CachePolicy(cache_func=_preprocess)
TRAIN = CachePolicy(cache_func=_train)
EVALUATE = CachePolicy(cache_func=_evaluate)
ROBUSTNESS = CachePolicy(cache_func=_robustness)
