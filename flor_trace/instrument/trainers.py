"""Modules of well-known packages that are instrumented as user code would be: those whose loops train the user's model, and those that keep
what a clock said in objects of the script's.

Most people who train models leave the loop to a trainer. Only the loops over epochs and steps are recorded: around each of the small ones
(over callbacks, over loggers) a boundary would cost more than it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping

_LIGHTNING = {
    "loops.fit_loop": frozenset({"_FitLoop.run"}),
    "loops.training_epoch_loop": frozenset({"_TrainingEpochLoop.run"}),
    "loops.evaluation_loop": frozenset({"_EvaluationLoop.run"}),
    "loops.prediction_loop": frozenset({"_PredictionLoop.run"}),
    "callbacks.model_checkpoint": frozenset[str](),
    "callbacks.timer": frozenset[str](),
}

TRAINERS: Mapping[str, frozenset[str]] = {
    "gymnasium.wrappers.common": frozenset(),
    "gymnasium.wrappers.vector.common": frozenset(),
    # Since 0.4.10 an engine runs in a generator, whose loops are not recorded, unless `Engine.interrupt_resume_enabled` is false.
    "ignite.engine.engine": frozenset({"Engine._internal_run_legacy", "Engine._run_once_on_dataset_legacy"}),
    "ignite.handlers.time_limit": frozenset(),
    "ignite.handlers.timing": frozenset(),
    **{f"{package}.{module}": loops for package in ("lightning.pytorch", "pytorch_lightning") for module, loops in _LIGHTNING.items()},
    "skorch.callbacks.logging": frozenset(),
    "skorch.net": frozenset({"NeuralNet.fit_loop", "NeuralNet.run_single_epoch"}),
    # Its loops over epochs and steps are executed again: nothing is skipped or divided in them yet.
    "transformers.trainer": frozenset(),
    "transformers.trainer_utils": frozenset(),
}
"""Each module, with the qualified names of the functions whose loops are recorded."""
