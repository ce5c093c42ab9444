"""What Prometheus reads: how long answers take, how many there were, what was refused and why, which model answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from bone_age.serving.desk import Reply
from bone_age.serving.prediction_log import LogCounts
from bone_age.serving.predictor import Predictor
from bone_age.serving.rest.refusals import refusal_of

disable_created_metrics()  # type: ignore[no-untyped-call]
SECONDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30)


class Metrics:
    """The server's counters; a `Witness` of the desk."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        known: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter(
            "bone_age_requests", "Requests by route and status", ["route", "method", "status"], **known
        )
        self._answer_seconds = Histogram(
            "bone_age_answer_seconds", "From question to answer, waiting included", buckets=SECONDS, **known
        )
        self._predictions = Counter("bone_age_predictions", "Answers given", ["model"], **known)
        self._refusals = Counter("bone_age_refusals", "Questions refused, by reason", ["reason"], **known)
        self._model = Gauge(
            "bone_age_model_info", "1 for the model that answers", ["model", "digest", "dataset_fingerprint"], **known
        )
        self._models = Counter(
            "bone_age_model_changes", "Models taken into service, kept out as they do not verify, and checks that "
            "could not be made", ["outcome"], **known,
        )  # fmt: skip
        self._depth = Gauge("bone_age_queue_depth", "Questions that wait or are worked on", **known)
        self._log = Gauge("bone_age_prediction_log", "Rows of the prediction log, by what became of them",
                          ["state"], **known)  # fmt: skip

    def answered(self, reply: Reply, seconds: float) -> None:
        self._answer_seconds.observe(seconds)
        self._predictions.labels(reply.answered.prediction.model).inc()

    def refused(self, error: Exception) -> None:
        self._refusals.labels(refusal_of(error).reason).inc()

    def requested(self, route: str, method: str, status: int) -> None:
        self._requests.labels(route, method, str(status)).inc()

    def model_loaded(self, predictor: Predictor) -> None:
        self._model.clear()
        self._model.labels(predictor.name, predictor.digest, predictor.bundle.facts.dataset_fingerprint).set(1)
        self._models.labels("loaded").inc()

    def model_kept_out(self, outcome: str) -> None:
        """`not_verified` or `unchecked`."""
        self._models.labels(outcome).inc()

    def read_depth(self, depth: Callable[[], int]) -> None:
        self._depth.set_function(depth)

    def text(self, log: LogCounts) -> bytes:
        for state in ("written", "waiting", "dropped"):
            self._log.labels(state).set(getattr(log, state))
        return generate_latest(self.registry)
