"""What the model card says: sections of sentences, lists and tables, rendered as HTML and as Markdown alike.

Every figure is taken from a file of the same bundle, so that the card cannot say others than they do.
Source of the headings: Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bone_age.evaluation.evaluation import Evaluation
from bone_age.governance.audit_bundle.sources import WEIGHTS, Sources
from bone_age.governance.entries import Entry
from bone_age.governance.gate import Gate, shown
from bone_age.serving.card import RSNA_TERMS

WORST = 20
FIGURES = (("mae", "MAE, months", 2), ("rmse", "RMSE, months", 2), ("r2", "R²", 3), ("bias", "bias, months", 2),
           ("p90_ae", "9 of 10 errors below, months", 2), ("within_6m", "share within 6 months", 3),
           ("within_12m", "share within 12 months", 3), ("within_24m", "share within 24 months", 3))  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Cells are texts; the first column names, the others are mostly figures."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = str | tuple[str, ...] | Table


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: sentences, lists (tuples of them) and tables."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Card:
    """The card of one version; nothing in it is marked up yet."""

    title: str
    warning: str
    sections: tuple[Section, ...]


def card_of(sources: Sources) -> Card:
    """The card of a version."""
    facts = sources.bundle.facts
    inputs = "a hand radiograph and the child's sex" if facts.inputs == "image + sex" else "a hand radiograph"
    warning = "Not a medical device."
    if facts.synthetic:
        warning += " Trained on drawn images: its answers mean nothing for a child."
    sections = (
        Section("What it is", tuple(_identity(sources))),
        Section("Intended use and limits", tuple(_use(sources))),
        Section("Data", tuple(_data(sources))),
        Section("Results", tuple(_results(sources))),
        Section("Robustness", tuple(_robustness(sources))),
        Section("Ablations", tuple(_ablations(sources))),
        Section("Known failures", tuple(_failures(sources.test))),
        Section("Decisions", tuple(_decisions(sources))),
        Section("What is absent", (_absent(sources),)),
    )
    return Card(f"bone-age version {sources.facts.version}: bone age in months from {inputs}", warning, sections)


def _identity(sources: Sources) -> Iterator[Block]:
    facts, run = sources.bundle.facts, sources.run.data.tags
    trained = {entry.event.value: entry for entry in sources.extract.own}
    rows = {
        "architecture": facts.architecture,
        "model digest": sources.bundle.digest,
        "SHA-256 of model.onnx": sources.bundle.onnx_sha256,
        "trained by": run.get("trained_by", "not recorded"),
        "registered": _when(trained.get("registered")),
        "training run": sources.facts.run_id,
        "started from": {"none": "random weights", "imagenet": "ImageNet's weights"}.get(facts.weights, facts.weights),
        "seed": str(facts.seed),
        "git commit": facts.git_commit
        + (" with uncommitted changes" if sources.tags.get("git_dirty") == "true" else ""),
        "lock digest": sources.tags.get("lock_digest", "not recorded"),
    }
    yield Table(("what", "value"), tuple(rows.items()))


def _use(sources: Sources) -> Iterator[Block]:
    facts, settings = sources.bundle.facts, sources.bundle.preprocessing
    origin = "one site, the one that it was calibrated for" if facts.site else "the same origin as the training's"
    yield (
        "Meant to estimate the bone age of a child from a radiograph of the hand, as one finding beside others for a "
        "person who knows the child: growth disorders, and ages that do not fit."
    )
    limits = [
        "Nobody's treatment, and no decision about anybody's age in law, may rest on an answer. It never says whether "
        "somebody is of age.",
        f"Preprocessing travels with the model: {settings.image_size_px} px, fit {settings.fit}, CLAHE "
        f"{'off' if settings.clahe is None else 'on'}. Through another one the answers are wrong without a sign.",
        "Each label is one reader's estimate; readers differ from each other by about 5 to 7 months.",
        f"Measured on radiographs of {origin}. Other devices, populations, and hands with disease or malformation were "
        "not measured.",
        "Errors differ by age and sex: read the row that the child falls in, not the line for all.",
        f"The intervals are made for children as in the data set: {sources.bundle.calibration.n_calibration} "
        f"{'of that site' if facts.site else 'validation radiographs'} set their width.",
    ]
    if facts.synthetic:
        limits.insert(0, "Trained on images that a program drew: it must not be used on radiographs of children.")
    yield tuple(limits)


def _data(sources: Sources) -> Iterator[Block]:
    facts = sources.bundle.facts
    yield f"Data set {facts.dataset_name}, fingerprint {facts.dataset_fingerprint}."
    if (site := facts.site) is not None:
        yield (
            f"Then calibrated for a site: {site.parent} (digest {site.parent_digest}), correction '{site.kind}' and "
            f"intervals from {site.fitted_rows} radiographs of {site.dataset_name}, fingerprint "
            f"{site.dataset_fingerprint}; tested on {site.tested_rows} others of it, of which the figures below are."
        )
    if facts.dataset_name == "rsna" and not facts.synthetic:
        yield RSNA_TERMS.replace("*", "")
    lines = [line.split(",") for line in sources.files.get("dataset/balance.csv", b"").decode().splitlines()]
    if lines:
        yield Table(tuple(lines[0]), tuple(map(tuple, lines[1:])))
    verdict = sources.document("data_validation/validation.json")
    if verdict:
        yield (
            f"Great Expectations judged {verdict['n']} radiographs: {'passed' if verdict['passed'] else 'failed'}; "
            f"errors: {len(verdict['errors'])}, warnings: {len(verdict['warnings'])}."
        )
    remarks = [*verdict.get("errors", ()), *verdict.get("warnings", ())]
    remarks += sources.document("dataset/warnings.json").get("warnings", [])
    if remarks:
        yield tuple(dict.fromkeys(remarks))
    quarantine = sources.files.get("preprocessing/quarantine.csv", b"").decode().splitlines()
    if quarantine:
        yield f"Radiographs that could not be read and were left out: {len(quarantine) - 1}."


def _results(sources: Sources) -> Iterator[Block]:
    figures = sources.figures
    if not figures:
        yield "No figures were recorded."
        return
    coverage = f"coverage_{figures['interval_nominal_coverage'] * 100:g}"
    named = (*FIGURES, (coverage, f"held by the {figures['interval_nominal_coverage']:.0%} interval", 3))
    yield (
        f"{figures['dataset']}, {figures['split']} split, n = {figures['n']}, fingerprint "
        f"{figures['dataset_fingerprint']}; in brackets 95 % bootstrap intervals "
        f"({figures['bootstrap_replicates']} resamples of patients)."
    )
    yield Table(("figure", "value"), tuple((words, _bounds(figures, name, digits)) for name, words, digits in named))
    groups = figures["subgroups"].items()
    rows = [(name, str(g["n"]), _bounds(g, "mae", 1), _bounds(g, "bias", 1)) for name, g in groups]
    yield Table(("sex and bone age, months", "n", "MAE, months", "bias, months"), tuple(rows))
    yield "An interval from a handful of radiographs means little; n stands beside it."


def _robustness(sources: Sources) -> Iterator[Block]:
    measured = sources.robustness
    if measured is None:
        yield "It was not measured for this version."
        return
    yield (
        f"{measured.caption}; MAE unchanged {measured.mae:.2f} months. The rise is paired, with its 95 % interval; the "
        "shift is how far answers move on average."
    )
    rows = [
        (
            effect.description,
            f"{effect.mae_increase.value:+.2f} [{effect.mae_increase.lo:+.2f}, {effect.mae_increase.hi:+.2f}]",
            f"{effect.mean_absolute_shift:.2f}",
            f"{effect.p95_absolute_shift:.2f}",
        )
        for effect in measured.effects
    ]
    yield Table(("change", "rise of the MAE, months", "mean shift", "95th percentile of the shift"), tuple(rows))


def _ablations(sources: Sources) -> Iterator[Block]:
    report = sources.document("report/report.json")
    if not report.get("ablations"):
        yield "The pipeline run trained none." if report else "No report of a pipeline run is there."
        return
    yield f"Of the pipeline run {report['run']}, {report['test_set']}; paired differences in MAE, 95 % intervals."
    rows = [
        (one["changed"], one["base"], _signed(one["difference"]), str(one["finding"])) for one in report["ablations"]
    ]
    yield Table(("changed", "against", "difference, months", "finding"), tuple(rows))


def _failures(test: Evaluation | None) -> Iterator[Block]:
    if test is None:
        yield "No predictions by image were recorded for this version."
        return
    table = test.predictions.assign(error=test.predictions["predicted_months"] - test.predictions["bone_age_months"])
    table = table.assign(size=table["error"].abs()).sort_values(["size", "image_id"], ascending=[False, True])
    outside = (table["bone_age_months"] < table["lower_months"]) | (table["bone_age_months"] > table["upper_months"])
    yield (
        f"{test.caption}. Answers off by more than 24 months: {int((table['size'] > 24).sum())}; labels outside their "
        f"interval: {int(outside.sum())}. The {min(WORST, len(table))} largest errors, months, by the image id of the "
        "data set; no picture is handed on."
    )
    rows = [
        (
            str(row["image_id"]),
            str(row["sex"]),
            f"{row['bone_age_months']:.0f}",
            f"{row['predicted_months']:.1f}",
            f"{row['error']:+.1f}",
            f"{row['lower_months']:.0f} to {row['upper_months']:.0f}",
        )
        for row in table.head(WORST).to_dict("records")
    ]
    yield Table(("image", "sex", "label", "predicted", "error", "interval"), tuple(rows))


def _decisions(sources: Sources) -> Iterator[Block]:
    own = sources.extract.own
    if not own:
        yield "The ledger says nothing about this version."
        return
    yield "What the ledger says of it; the entries themselves are in ledger/entries.jsonl."
    rows = [
        (str(e.number), e.time[:19].replace("T", " "), _event(e, sources.facts.version), e.actor, e.reason) for e in own
    ]
    yield Table(("entry", "time, UTC", "event", "by", "why"), tuple(rows))
    judged = [entry for entry in own if entry.version == sources.facts.version and entry.details.get("gates")]
    if not judged:
        yield "It has not faced the gates."
        return
    last = judged[-1]
    yield f"The gates of entry {last.number}, under policy {last.policy_digest}."
    yield Table(("gate", "figure", "bound", "verdict", "meaning"), tuple(map(_gate, last.details["gates"])))


def _gate(told: dict[str, Any]) -> tuple[str, ...]:
    gate = Gate.model_validate({name: value for name, value in told.items() if name != "verdict"})
    return gate.name, shown(gate.figure), f"{gate.rule} {shown(gate.bound)}", str(told["verdict"]), gate.explained


def _absent(sources: Sources) -> Block:
    weights = f"{', '.join(WEIGHTS)}: the weights stay in the registry; their SHA-256 is in model/checksums.json"
    pictures = "radiographs: they may not be handed on; their SHA-256 is in the manifest"
    return (weights, pictures, *(f"{what}: {why}" for what, why in sources.absent.items()))


def _event(entry: Entry, version: int) -> str:
    word = entry.event.value.replace("_", " ")
    return word if entry.version in (version, None) else f"version {entry.version} {word} in its place"


def _when(entry: Entry | None) -> str:
    return f"{entry.time[:19].replace('T', ' ')} UTC by {entry.actor}" if entry else "not in the ledger"


def _bounds(of: dict[str, Any], name: str, digits: int) -> str:
    if of.get(name) is None:
        return "-"
    return f"{of[name]:.{digits}f} [{of[f'{name}_lo']:.{digits}f}, {of[f'{name}_hi']:.{digits}f}]"


def _signed(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:+.2f} [{estimate['lo']:+.2f}, {estimate['hi']:+.2f}]"
