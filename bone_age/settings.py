"""Configuration: an experiment from YAML, places from the environment, both refused before any computing.

Unknown keys are errors: a misspelt `epochs` that is silently ignored costs a night.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bone_age.errors import InputError
from bone_age.imaging import PreprocessingSettings

NAME = r"^[a-z0-9][a-z0-9_-]{0,79}$"
Architecture = Literal["xception_single", "xception_multi", "resnet50_single", "resnet50_multi"]


def _all_architectures() -> dict[Architecture, dict[str, Any]]:
    return {name: {} for name in get_args(Architecture)}


class Strict(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def digest_of(value: BaseModel | dict[str, Any]) -> str:
    """SHA-256 (hex) of a settings object's canonical JSON."""
    document = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class SyntheticData(Strict):
    """How many synthetic hands, from which seed."""

    n: int = Field(600, ge=20, le=100_000)
    seed: int = Field(2017, ge=0)
    height_px: int = Field(256, ge=96, le=2048)
    width_px: int = Field(208, ge=80, le=2048)


class DataSettings(Strict):
    """Where radiographs come from.

    `limit` takes the rows whose id hashes lowest, so a larger limit keeps all rows of a smaller one.
    """

    source: str = "synthetic"
    synthetic: SyntheticData = SyntheticData()
    limit: int | None = Field(None, ge=20)


class ValidationBounds(Strict):
    """What a data set has to satisfy; outside `error_*` the pipeline stops, outside `warn_*` it records a warning."""

    min_side_px: int = Field(64, ge=1)
    min_contrast: float = Field(
        2.0, ge=0, description="standard deviation of grey levels (0-255) below which an image is blank"
    )
    error_share_of_one_sex: float = Field(0.95, ge=0.5, le=1)
    warn_share_of_one_sex: float = Field(0.70, ge=0.5, le=1)
    error_age_span_months: float = Field(60.0, ge=0, le=240, description="bone ages must span at least this")
    warn_empty_bands: int = Field(0, ge=0, description="bands of sex and age that may be empty without a warning")
    near_duplicate_bits: int = Field(
        12, ge=0, le=32, description="perceptual hashes (of 256 bits) that differ in at most this many"
    )
    error_unreadable_share: float = Field(
        0.02, ge=0, le=1, description="share of images that may fail to decode and be quarantined; more is an error"
    )


class SplitSettings(Strict):
    """Shares of the patients; the rest trains."""

    validation: float = Field(0.15, gt=0, lt=0.5)
    test: float = Field(0.15, gt=0, lt=0.5)
    salt: str = "bone-age-1"
    warn_band_below: int = Field(5, ge=0)


class AugmentationSettings(Strict):
    """Random changes to training images; flips are horizontal only, a hand never hangs from its fingers."""

    rotation_degrees: float = Field(15.0, ge=0, le=45)
    shift_share: float = Field(0.08, ge=0, le=0.3)
    zoom_share: float = Field(0.12, ge=0, le=0.5)
    flip: bool = True
    brightness: float = Field(0.1, ge=0, le=0.5)
    contrast: float = Field(0.15, ge=0, le=0.5)


class TrainingSettings(Strict):
    """One architecture's recipe.

    `earlier_stages` are trainings before this one whose weights it starts from: each is this recipe with the keys that
    differ, and may be at a smaller `image_size_px`. `averaging_decay` keeps a running average of the weights, by which
    a model is judged and which is what is kept. What lies below `trainable_from` stays as it is; with `cached_features`
    it runs once per image and copy, without it in every step, on images that augmentation changes anew each time.
    """

    weights: str = "none"
    trainable_from: str | None = None
    epochs: int = Field(10, ge=1, le=1000)
    batch_size: int = Field(32, ge=1, le=1024)
    learning_rate: float = Field(1e-3, gt=0, lt=1)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0, lt=1)
    huber_delta_months: float = Field(12.0, gt=0)
    batchnorm_momentum: float = Field(0.99, gt=0, lt=1)
    freeze_batchnorm: bool = False
    head_units: int = Field(256, ge=8, le=4096)
    dropout: float = Field(0.2, ge=0, lt=1)
    early_stopping_epochs: int = Field(10, ge=1)
    mixed_precision: bool = False
    averaging_decay: float | None = Field(None, gt=0, lt=1)
    gradient_clip_norm: float | None = Field(None, gt=0)
    cached_features: bool = True
    cached_views: int = Field(0, ge=0, le=64, description="changed copies of images whose features are cached")
    earlier_stages: tuple[dict[str, Any], ...] = ()
    augmentation: AugmentationSettings | None = AugmentationSettings()

    @model_validator(mode="after")
    def _views_are_of_cached_features(self) -> Self:
        if self.cached_views and not (self.trainable_from and self.cached_features):
            raise ValueError("cached_views has no effect without trainable_from and cached_features")
        return self

    @model_validator(mode="after")
    def _stages_are_valid(self) -> Self:
        for number, changes in enumerate(self.earlier_stages, start=1):
            fixed = sorted({"weights", "freeze_batchnorm", "head_units", "earlier_stages"} & set(changes))
            if fixed:
                raise ValueError(f"earlier_stages: stage {number}: {fixed[0]} has to be the same in all stages")
            cached = changes.get("cached_features", self.cached_features)
            if changes.get("trainable_from", self.trainable_from) and cached and "image_size_px" in changes:
                raise ValueError(f"earlier_stages: stage {number}: trainable_from keeps features of one image_size_px")
        self.stages  # noqa: B018  (builds every stage, so that a wrong key is refused here)
        return self

    @property
    def stages(self) -> list[tuple[Self, int | None]]:
        """Each stage's recipe and image size (None for the prepared one), this one last."""
        own = self.model_dump() | {"earlier_stages": ()}
        found: list[tuple[Self, int | None]] = []
        for changes in self.earlier_stages:
            recipe = {key: value for key, value in changes.items() if key != "image_size_px"}
            found.append((type(self).model_validate(own | recipe), changes.get("image_size_px")))
        return [*found, (self.model_copy(update={"earlier_stages": ()}), None)]


class SearchDimension(Strict):
    """Where one value of the recipe is looked for: between `low` and `high`, or among `choices`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give low and high, or choices, not both")
            if len(self.choices) < 2:
                raise ValueError("choices needs two values or more")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError("log needs a low above 0")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """`low` and `high` of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that have to be valid for all in between to be: both ends, or every choice."""
        return self.bounds if self.choices is None else self.choices


class SearchSettings(Strict):
    """What `bone-age tune` varies in the recipe, how often it tries, and when it gives a trial up.

    A trial is pruned when its validation MAE is worse than the median of the finished ones' at the same epoch; never in
    the first `prune_after_epochs` epochs, and never before `prune_after_trials` trials were trained to their end.
    """

    space: dict[str, SearchDimension] = Field(min_length=1)
    trials: int = Field(20, ge=1, le=10_000)
    prune_after_trials: int = Field(5, ge=1)
    prune_after_epochs: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _space_is_of_the_recipe(self) -> Self:
        for name, dimension in self.space.items():
            field = TrainingSettings.model_fields.get(name)
            if field is None:
                raise ValueError(f"space.{name} is no key of `training`")
            if dimension.choices is not None:
                continue
            kinds = {field.annotation, *get_args(field.annotation)} & {int, float}
            if not kinds:
                raise ValueError(f"space.{name} is no number; give choices")
            if kinds == {int} and not all(bound.is_integer() for bound in dimension.bounds):
                raise ValueError(f"space.{name} counts; low and high have to be whole numbers")
        return self


class EvaluationSettings(Strict):
    """How figures and intervals are computed.

    `flip_averaging` answers with the mean of a radiograph's and its mirror image's estimate, at twice the time; it is
    recorded with the model, whose intervals are made for it. `linear_correction` draws a line through those estimates
    on the validation split, which is recorded as well.
    """

    flip_averaging: bool = False
    linear_correction: bool = False
    bootstrap_replicates: int = Field(2000, ge=100, le=100_000)
    coverage: float = Field(0.90, gt=0.5, lt=1)


class AblationSettings(Strict):
    """One thing changed against a planned architecture, to say what it is worth; trained, compared, never registered.

    `preprocessing` and `training` hold only the keys that change. `architecture` is trained instead of `base`. With
    nothing but another `seed`, the yardstick for the others: what chance is worth.
    """

    base: Architecture = "xception_multi"
    architecture: Architecture | None = None
    preprocessing: dict[str, Any] = {}
    training: dict[str, Any] = {}
    seed: int | None = Field(None, ge=0, lt=2**31)


class PlannedTraining(Strict):
    """One training of a run: what to build, from which images, by which recipe."""

    name: str
    architecture: Architecture
    preprocessing: PreprocessingSettings
    training: TrainingSettings
    seed: int
    ablation_of: str | None = None

    @property
    def is_ablation(self) -> bool:
        return self.ablation_of is not None

    @property
    def is_candidate(self) -> bool:
        """Only Xception versions may become champion."""
        return not self.is_ablation and self.architecture.startswith("xception")

    @property
    def stages(self) -> list[PlannedTraining]:
        """The plan of each stage, the last one's being this plan's own."""
        found = []
        for recipe, size in self.training.stages:
            preprocessing = self.preprocessing.model_copy(update={"image_size_px": size} if size else {})
            found.append(self.model_copy(update={"training": recipe, "preprocessing": preprocessing}))
        return found

    @property
    def inputs(self) -> Literal["image", "image + sex"]:
        return "image + sex" if self.architecture.endswith("_multi") else "image"


class TrainingConfig(Strict):
    """A whole training run, as in `configs/*.yaml`."""

    name: str = Field(pattern=NAME)
    seed: int = Field(17, ge=0, lt=2**31)
    data: DataSettings = DataSettings()
    validation: ValidationBounds = ValidationBounds()
    split: SplitSettings = SplitSettings()
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    training: TrainingSettings = TrainingSettings()
    architectures: dict[Architecture, dict[str, Any]] = Field(default_factory=_all_architectures, min_length=1)
    evaluation: EvaluationSettings = EvaluationSettings()
    ablations: dict[Annotated[str, Field(pattern=NAME)], AblationSettings] = {}
    search: SearchSettings | None = None

    @model_validator(mode="after")
    def _plans_are_valid(self) -> Self:
        self.plans  # noqa: B018  (builds every recipe, so that a wrong override is refused here)
        return self

    @model_validator(mode="after")
    def _searched_values_are_valid(self) -> Self:
        for name, dimension in self.search.space.items() if self.search else ():
            for value in dimension.extremes:
                refusals = [refusal for plan in self.plans if (refusal := _refusal(plan.training, {name: value}))]
                if len(refusals) == len(self.plans):
                    raise ValueError(f"search.space.{name}: {value!r}: {refusals[0]}")
        return self

    def require_weights(self) -> None:
        """Refuse weights files that are not there before hours are spent on getting to them.

        Raises:
            InputError: Names the architecture and the path.
        """
        for plan in self.plans:
            weights = plan.training.weights
            if weights not in ("none", "imagenet") and not Path(weights).is_file():
                raise InputError(
                    f"weights of {plan.name}: {weights} is not a file; `imagenet` lets Keras download its own"
                )

    def with_source(self, source: str) -> Self:
        """The same experiment on another data set."""
        return self.model_copy(update={"data": self.data.model_copy(update={"source": source})})

    def portable(self) -> Self:
        """The same without the place of the data set on this machine, for what travels: reports and models."""
        return self if self.data.source == "synthetic" else self.with_source("DIR")

    @property
    def portable_yaml(self) -> str:
        """As YAML, without the place of the data set on this machine."""
        return yaml.safe_dump(self.portable().model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def with_recipe(self, architecture: Architecture, recipe: dict[str, Any]) -> Self:
        """The same experiment with other values in the recipe of one of its architectures.

        Raises:
            InputError: The values do not go together.
        """
        overrides = self.architectures | {architecture: (self.architectures[architecture] or {}) | recipe}
        try:
            return type(self).model_validate(self.model_dump(mode="json") | {"architectures": overrides})
        except ValidationError as error:
            raise InputError(f"{architecture}: {_in_one_line(error)}") from None

    @cached_property
    def plans(self) -> list[PlannedTraining]:
        """Every training of the run; per-architecture overrides are `image_size_px` and any key of `training`."""
        plans = [self._plan(architecture, overrides) for architecture, overrides in self.architectures.items()]
        bases = {plan.name: plan for plan in plans}
        for name, ablation in self.ablations.items():
            if ablation.base not in bases:
                raise ValueError(f"ablations.{name}: its base {ablation.base} is not among the architectures")
            if name in bases:
                raise ValueError(f"ablations.{name}: an architecture has that name")
            plans.append(_changed(bases[ablation.base], name, ablation))
        return plans

    def _plan(self, architecture: Architecture, overrides: dict[str, Any]) -> PlannedTraining:
        recipe = dict(overrides or {})
        size = recipe.pop("image_size_px", self.preprocessing.image_size_px)
        return PlannedTraining(
            name=architecture,
            architecture=architecture,
            preprocessing=PreprocessingSettings(**self.preprocessing.model_dump() | {"image_size_px": size}),
            training=TrainingSettings(**self.training.model_dump() | recipe),
            seed=self.seed,
        )


def _changed(base: PlannedTraining, name: str, ablation: AblationSettings) -> PlannedTraining:
    return PlannedTraining(
        name=name,
        architecture=ablation.architecture or base.architecture,
        preprocessing=PreprocessingSettings(**base.preprocessing.model_dump() | ablation.preprocessing),
        training=TrainingSettings(**base.training.model_dump() | ablation.training),
        seed=base.seed if ablation.seed is None else ablation.seed,
        ablation_of=base.name,
    )


def load_config(path: Path) -> TrainingConfig:
    """Read and check a training configuration.

    Raises:
        InputError: The file is absent, is no YAML, has an unknown key or a value out of range; one line, all named.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected keys and values, found {type(document).__name__}")
    try:
        return TrainingConfig(**document)
    except ValidationError as error:
        raise InputError(f"{path}: {_in_one_line(error)}") from None


def _refusal(recipe: TrainingSettings, changes: dict[str, Any]) -> str | None:
    """Why a recipe cannot take these changes; None where it can."""
    try:
        TrainingSettings(**recipe.model_dump() | changes)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return None


def _in_one_line(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, issue['loc'])) or 'file'}: {issue['msg']}{_shown(issue['input'])}"
        for issue in error.errors()
    )


def _shown(refused: Any) -> str:
    """The refused value; a whole section would bury the message."""
    return "" if isinstance(refused, dict) else f" (is {refused!r})"


def _none_if_empty(value: Any) -> Any:
    """An empty variable is one that is not set, not the folder `.`."""
    return None if value == "" else value


class Home(BaseSettings):
    """Where state lives; every field is an environment variable `BONE_AGE_…`."""

    model_config = SettingsConfigDict(env_prefix="BONE_AGE_", frozen=True)

    home: Path = Path(".bone-age")
    results: Path = Path("results")
    database_url: str = ""
    alert_urls: SecretStr = SecretStr("")
    ledger_key: Annotated[Path | None, BeforeValidator(_none_if_empty)] = None
    ledger_public_key: Annotated[Path | None, BeforeValidator(_none_if_empty)] = None

    @property
    def root(self) -> Path:
        return self.home.expanduser().resolve()

    @property
    def tracking_uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def ledger_url(self) -> str:
        return self.database_url or f"sqlite:///{self.root / 'ledger.db'}"

    @property
    def prediction_log_url(self) -> str:
        return self.database_url or f"sqlite:///{self.root / 'predictions.db'}"

    @property
    def artifacts(self) -> Path:
        return self.root / "mlflow-artifacts"

    @property
    def zenml_config(self) -> Path:
        return self.root / "zenml"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def feature_cache(self) -> Path:
        return self.root / "features"

    @property
    def datasets(self) -> Path:
        return self.root / "data"

    @property
    def tuning(self) -> Path:
        return self.root / "tuning"

    @property
    def schedule(self) -> Path:
        return self.root / "schedule"

    def exports(self) -> dict[str, str]:
        """Environment that points this package, MLflow and ZenML to this home."""
        return {
            "BONE_AGE_HOME": str(self.root),
            "BONE_AGE_RESULTS": str(self.results.resolve()),
            "BONE_AGE_DATABASE_URL": self.database_url,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "ZENML_CONFIG_PATH": os.environ.get("ZENML_CONFIG_PATH") or str(self.zenml_config),
        }

    def prepare(self) -> Self:
        """Create the home; a home that cannot be written is refused here, not after an hour.

        Raises:
            InputError: The folder cannot be created or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:  # nameless: threads do this at once
                probe.write(b"x")
        except OSError as error:
            raise InputError(f"BONE_AGE_HOME {self.root} cannot be written: {error.strerror}") from None
        return self
