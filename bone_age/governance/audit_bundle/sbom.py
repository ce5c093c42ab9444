"""The packages that a version was trained with, as a CycloneDX bill of materials.

It says what was recorded: every package of the lock, also those whose marker leaves them out on the platform at hand
(the marker stands with them). Without the lock it is the few packages that the training run names, and says so. Serial
number and order come from the content; there is no date in it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from bone_age.governance.audit_bundle.lock_file import Locked, read_lock
from bone_age.governance.audit_bundle.sources import Sources

LOCK = "environment/requirements.lock"


def sbom_of(sources: Sources) -> bytes | None:
    """The document as JSON; None where nothing of the environment was recorded."""
    environment = sources.document("environment/environment.json")
    lock = sources.files.get(LOCK)
    if lock is not None:
        packages, source = read_lock(lock.decode()), f"requirements.lock, SHA-256 {hashlib.sha256(lock).hexdigest()}"
    elif environment:
        named = {name: version for name, version in environment["packages"].items() if version != "unknown"}
        packages = [Locked(name, version, "", [], []) for name, version in sorted(named.items())]
        source = "environment.json: main packages only, the lock was not recorded"
    else:
        return None
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"bone-age:{sources.bundle.digest}:{source}"))
    bom.metadata.component = _model(sources)
    told = {"source": source, **{name: str(environment.get(name, "unknown")) for name in ("python", "platform")}}
    bom.metadata.properties.update(_property(name, value) for name, value in told.items())
    _fill(bom, packages)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _model(sources: Sources) -> Component:
    version = str(sources.facts.version)
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name="bone-age",
        version=version,
        bom_ref=f"bone-age-model-{version}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sources.bundle.onnx_sha256)],
    )


def _fill(bom: Bom, packages: list[Locked]) -> None:
    """Components and who needs whom; a name may be there in several versions, each with its marker."""
    components = [_component(package) for package in packages]
    bom.components.update(components)
    needs: dict[str, list[Component]] = {package.name: [] for package in packages}
    top = []
    for package, component in zip(packages, components, strict=True):
        inside = [name for name in package.needed_by if name in needs]
        for name in inside:
            needs[name].append(component)
        if len(inside) < len(package.needed_by) or not inside:
            top.append(component)
    assert bom.metadata.component is not None
    bom.register_dependency(bom.metadata.component, top)
    for component in components:
        bom.register_dependency(component, needs[component.name])


def _component(package: Locked) -> Component:
    url = PackageURL("pypi", None, package.name.lower(), package.version)
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in package.sha256]
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(url)),
        comment="SHA-256 of every file of this version that the lock allows",
        hashes=hashes,
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        purl=url,
        bom_ref=str(url),
        external_references=[files] if hashes else [],
        properties=[_property("marker", package.marker)] if package.marker else [],
    )


def _property(name: str, value: str) -> Property:
    return Property(name=f"bone-age:{name}", value=value)
