"""Studies: a kill loses no trial and repeats none, in the real SQLite file."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.trial import TrialState

from bone_age.settings import SearchDimension, SearchSettings
from bone_age.tuning.space import suggest
from bone_age.tuning.study import finished_trials, first_attempt, next_trial, open_study, queue_killed_again

SEARCH = SearchSettings(
    space={
        "learning_rate": SearchDimension(low=1e-5, high=1e-2, log=True),
        "batch_size": SearchDimension(low=4, high=64),
        "trainable_from": SearchDimension(choices=(None, "block13_sepconv1")),
    },
    prune_after_trials=2,
    prune_after_epochs=1,
)


def opened(folder: Path) -> optuna.Study:
    return open_study("s", folder / "s.db", SEARCH)


def started(study: optuna.Study) -> tuple[optuna.Trial, dict[str, object]]:
    trial = next_trial(study, seed=7)
    recipe = suggest(trial, SEARCH.space)
    trial.set_user_attr("recipe", recipe)
    return trial, recipe


def test_a_killed_trial_is_failed_and_its_values_are_tried_again(tmp_path: Path) -> None:
    study = opened(tmp_path)
    first, _ = started(study)
    study.tell(first, 12.0)
    killed, values = started(study)
    again = opened(tmp_path)
    queue_killed_again(again)
    assert [trial.number for trial in finished_trials(again)] == [0]
    assert again.trials[killed.number].state == TrialState.FAIL
    retry, retried = started(again)
    assert retried == values
    assert (retry.number, first_attempt(retry)) == (2, 1)
    again.tell(retry, 11.0)
    assert [(trial.number, trial.outcome) for trial in finished_trials(again)] == [(0, "complete"), (2, "complete")]
    assert finished_trials(again)[1].recipe == values


def test_a_retry_that_is_killed_before_it_began_keeps_its_values(tmp_path: Path) -> None:
    study = opened(tmp_path)
    _, values = started(study)
    queue_killed_again(study)
    next_trial(study, seed=7)  # killed before a value was asked for
    queue_killed_again(study)
    retry, retried = started(study)
    assert retried == values
    assert first_attempt(retry) == 0


def test_a_kill_between_queueing_and_failing_queues_once(tmp_path: Path) -> None:
    study = opened(tmp_path)
    trial, _ = started(study)
    study.enqueue_trial(trial.params, user_attrs={"retry_of": 0, "first_attempt": 0})
    queue_killed_again(study)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_an_interrupted_study_tries_what_it_would_have_tried(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()

    def loss(recipe: dict[str, object]) -> float:
        return float(str(recipe["batch_size"]))

    study = opened(tmp_path / "whole")
    whole = []
    for _ in range(13):  # past the ten that are drawn at random
        trial, recipe = started(study)
        whole.append(recipe)
        study.tell(trial, loss(recipe))
    cut: list[dict[str, object]] = []
    while len(cut) < 13:
        study = opened(tmp_path / "cut")
        queue_killed_again(study)
        if len(cut) % 3 == 1:
            started(study)  # and killed
            study = opened(tmp_path / "cut")
            queue_killed_again(study)
        trial, recipe = started(study)
        cut.append(recipe)
        study.tell(trial, loss(recipe))
    assert cut == whole
    assert len({str(recipe) for recipe in whole}) == 13


def test_a_trial_worse_than_the_median_is_pruned_but_not_in_its_first_epochs(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for figures in ([30.0, 10.0], [32.0, 12.0]):
        trial, _ = started(study)
        for epoch, mae in enumerate(figures):
            trial.report(mae, epoch)
            assert not trial.should_prune()
        study.tell(trial, figures[-1])
    bad, _ = started(study)
    bad.report(90.0, 0)
    assert not bad.should_prune()
    bad.report(40.0, 1)
    assert bad.should_prune()
    study.tell(bad, state=TrialState.PRUNED)
    pruned = finished_trials(study)[-1]
    assert (pruned.outcome, pruned.validation_mae, pruned.epochs) == ("pruned", 40.0, 2)
