"""Where a version came from, as W3C PROV: predictions from the model, the model from a training, that from the data.

Entities are named by their digests, so that two versions' documents can be laid over each other. Every entry of the
ledger about the version is an activity of its own, with who answers for it.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from prov.identifier import QualifiedName
from prov.model import ProvActivity, ProvDocument, ProvEntity

from bone_age.evaluation.site_correction import SiteCalibration
from bone_age.governance.audit_bundle.sources import Sources
from bone_age.governance.entries import Entry, Event

URN = "urn:bone-age:"


def lineage_of(sources: Sources) -> bytes:
    """The PROV-JSON document."""
    written = _Lineage(sources).document().serialize(format="json")
    assert written is not None  # it is a path that would make it so
    return json.dumps(json.loads(written), indent=1, sort_keys=True).encode()


class _Lineage:
    def __init__(self, sources: Sources) -> None:
        self._sources, self._facts = sources, sources.bundle.facts
        self._prov = ProvDocument()
        self._names = self._prov.add_namespace("bone-age", URN)
        self._entities: dict[str, ProvEntity] = {}

    def document(self) -> ProvDocument:
        self._made_data_and_model()
        self._measured()
        for entry in self._sources.extract.own:
            if entry.event != Event.TRAINED:
                self._happened(entry)
        return self._prov

    def _made_data_and_model(self) -> None:
        facts, tags = self._facts, self._sources.run.data.tags
        data = self._entity("dataset", facts.dataset_fingerprint, name=facts.dataset_name)
        images = self._entity("prepared-images", facts.images_digest)
        model = self._entity(
            "model",
            self._sources.bundle.digest,
            name=f"bone-age version {self._sources.facts.version}",
            architecture=facts.architecture,
            onnx_sha256=self._sources.bundle.onnx_sha256,
        )
        prepare = self._prov.activity(self._name(f"preprocessing.{self._sources.bundle.preprocessing.digest}"))
        self._prov.used(prepare, data)
        self._prov.wasGeneratedBy(images, prepare)
        self._prov.wasDerivedFrom(images, data)
        started, ended = self._times()
        training = self._prov.activity(self._name(f"training.{facts.mlflow_run_id}"), started, ended)
        for used in (images, self._entity("code", facts.git_commit, vcs="git")):
            self._prov.used(training, used)
        maker = training
        if facts.site is not None:
            trained, maker = self._calibrated(model, facts.site)
            self._prov.wasGeneratedBy(trained, training)
            self._prov.wasDerivedFrom(trained, images)
        else:
            self._prov.wasGeneratedBy(model, training)
            self._prov.wasDerivedFrom(model, images)
        if tags.get("lock_digest"):
            self._prov.used(maker, self._entity("lock", tags["lock_digest"]))
        if tags.get("trained_by"):
            trainer = self._agent(tags["trained_by"])
            self._prov.wasAssociatedWith(maker, trainer)
            self._prov.wasAttributedTo(model, trainer)

    def _calibrated(self, model: ProvEntity, site: SiteCalibration) -> tuple[ProvEntity, ProvActivity]:
        """The model that a site's radiographs made of another one; gives that one, and what was done."""
        parent = self._entity("model", site.parent_digest, name=site.parent)
        data = self._entity("dataset", site.dataset_fingerprint, name=site.dataset_name)
        started = datetime.fromtimestamp(self._sources.run.info.start_time / 1000, UTC)
        calibration = self._prov.activity(self._name(f"calibration.{self._sources.facts.run_id}"), started)
        for used in (parent, data):
            self._prov.used(calibration, used)
            self._prov.wasDerivedFrom(model, used)
        self._prov.wasGeneratedBy(model, calibration)
        return parent, calibration

    def _times(self) -> tuple[datetime | None, datetime | None]:
        """The start as MLflow has it, the end as the ledger does: MLflow's moves whenever something is added."""
        ended = [e.details.get("ended") for e in self._sources.extract.own if e.event == Event.TRAINED]
        started = datetime.fromtimestamp(self._sources.run.info.start_time / 1000, UTC)
        return (started, datetime.fromisoformat(ended[0])) if ended and ended[0] else (None, None)

    def _measured(self) -> None:
        files = self._sources.files
        places = [f"{folder}/test/predictions.csv" for folder in ("evidence", "evaluation")]
        path = next((place for place in places if place in files), None)
        if path is None:
            return
        digest = hashlib.sha256(files[path]).hexdigest()
        predictions = self._entity("predictions", digest, file=path)
        evaluation = self._prov.activity(self._name(f"evaluation.{digest}"))
        model, site = self._entity("model", self._sources.bundle.digest), self._facts.site
        seen = ("dataset", site.dataset_fingerprint) if site else ("prepared-images", self._facts.images_digest)
        images = self._entity(*seen)
        for used in (model, images):
            self._prov.used(evaluation, used)
        self._prov.wasGeneratedBy(predictions, evaluation)
        for source in (model, images):
            self._prov.wasDerivedFrom(predictions, source)

    def _happened(self, entry: Entry) -> None:
        told = {"event": entry.event.value, "reason": entry.reason, "digest": entry.digest}
        attributes = {self._name(name): value for name, value in told.items()}
        act = self._prov.activity(self._name(f"ledger-entry.{entry.number}"), entry.moment, entry.moment, attributes)
        self._prov.wasAssociatedWith(act, self._agent(entry.actor))
        if entry.version == self._sources.facts.version:
            self._prov.used(act, self._entity("model", self._sources.bundle.digest))
        if entry.details.get("evidence_sha256"):
            self._prov.used(act, self._entity("evidence", entry.details["evidence_sha256"]))
        if entry.policy_digest:
            self._prov.used(act, self._entity("policy", entry.policy_digest))

    def _entity(self, kind: str, digest: str, **told: str) -> ProvEntity:
        key = f"{kind}.{digest}"
        if key not in self._entities:
            attributes = {self._name(name): value for name, value in {"digest": digest, **told}.items()}
            self._entities[key] = self._prov.entity(self._name(key), attributes)
        return self._entities[key]

    def _agent(self, who: str) -> QualifiedName:
        """Named by a digest of the name, which may hold anything; the name itself is an attribute."""
        name = self._name(f"agent.{hashlib.sha256(who.encode()).hexdigest()[:16]}")
        if not self._prov.get_record(name):
            self._prov.agent(name, {self._name("name"): who})
        return name

    def _name(self, local: str) -> QualifiedName:
        return self._names[local]
