"""SGD as in torch, and the learning rate schedules of the recipes."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from fd_keras.training.recipes import TrainingRecipe


@keras.saving.register_keras_serializable(package="training")
class TorchSGD(keras.optimizers.Optimizer):
    """SGD with momentum as `torch.optim.SGD` computes it.

    Keras's own SGD differs in three ways: its `weight_decay` is outside the momentum, an L2 regularizer has twice the
    gradient, and the velocity contains the learning rate, so that each drop of the rate changes later steps. Here

        g = gradient + weight_decay * w;  buffer = momentum * buffer + g;  w -= rate * buffer

    and with Nesterov momentum w -= rate * (g + momentum * buffer).

    Args:
        learning_rate: Number or schedule.
        momentum: Momentum, in [0, 1).
        nesterov: Whether to use Nesterov momentum.
        weight_decay: Weight decay of the trainable variables.
        decay_all: Whether to also decay one-dimensional variables (biases and batch normalizations), as torch does.

    Attributes:
        shares: Learning rate of each variable relative to `learning_rate`, in the order of `build`; None for 1.
    """

    shares: Sequence[float] | None = None

    def __init__(
        self,
        learning_rate: "float | keras.optimizers.schedules.LearningRateSchedule" = 0.1,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        decay_all: bool = True,
        name: str = "sgd",
        **kwargs: Any,
    ):
        kwargs["learning_rate"] = learning_rate
        super().__init__(name=name, **kwargs)  # without the weight decay of the base class
        self.momentum, self.nesterov = momentum, nesterov
        self.torch_weight_decay, self.decay_all = weight_decay, decay_all

    def build(self, variables):
        """Creates the momentum of each variable."""
        if self.built:
            return
        super().build(variables)
        self.buffers = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable."""
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype)
        if self.shares is not None:
            rate = ops.multiply(rate, self.shares[index])
        gradient = ops.cast(gradient, variable.dtype)
        buffer = self.buffers[index]
        if self.torch_weight_decay and (self.decay_all or len(variable.shape) > 1):
            gradient = ops.add(gradient, ops.multiply(variable, self.torch_weight_decay))
        velocity = ops.add(ops.multiply(buffer, self.momentum), gradient)
        self.assign(buffer, velocity)
        if self.nesterov:
            velocity = ops.add(gradient, ops.multiply(velocity, self.momentum))
        self.assign_sub(variable, ops.multiply(rate, velocity))

    def learning_rate_at(self, step: int) -> Any:
        """Returns the learning rate of a step, a number or a scalar tensor."""
        rate = self._learning_rate
        return rate(step) if callable(rate) else rate

    def get_config(self):
        """Returns the constructor's arguments, for saving."""
        config = super().get_config()
        config.pop("weight_decay", None)
        return config | {
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.torch_weight_decay,
            "decay_all": self.decay_all,
        }


@keras.saving.register_keras_serializable(package="training")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate as a pure function of the step, so that a resumed run continues exactly.

    Args:
        kind: "step" or "cosine".
        peak: Learning rate after the warm-up.
        steps: Number of steps of the whole run.
        warmup: Number of steps over which the rate rises linearly; the rate of the first step is already above 0.
        drop_every: Number of steps between two drops ("step").
        drop_factor: Divisor of the rate at each drop ("step").
    """

    def __init__(
        self, kind: str, peak: float, steps: int, warmup: int = 0, drop_every: int = 1, drop_factor: float = 10.0
    ):
        self.kind, self.peak, self.steps, self.warmup = kind, peak, steps, warmup
        self.drop_every, self.drop_factor = drop_every, drop_factor

    def __call__(self, step) -> Any:
        """Returns the learning rate of a step, a scalar tensor."""
        step = _cast(step)
        if self.kind == "cosine":
            share: Any = ops.clip((step - self.warmup) / max(1, self.steps - self.warmup), 0.0, 1.0)
            wave: Any = ops.cos(math.pi * share)
            rate = self.peak * 0.5 * (1.0 + wave)
        else:
            drops: Any = ops.power(1.0 / self.drop_factor, ops.floor((step + 0.5) / self.drop_every))
            rate = self.peak * drops
        return ops.minimum(rate, self.peak * (step + 1.0) / self.warmup) if self.warmup else rate

    def get_config(self):
        """Returns the constructor's arguments, for saving."""
        names = ("kind", "peak", "steps", "warmup", "drop_every", "drop_factor")
        return {name: getattr(self, name) for name in names}


def _cast(step) -> Any:
    return ops.cast(step, "float32")


def schedule_of(recipe: TrainingRecipe, steps_per_epoch: int) -> Schedule:
    """Returns the recipe's learning rate schedule, for a training set of `steps_per_epoch` batches."""
    return Schedule(
        recipe.schedule,
        recipe.learning_rate,
        steps=recipe.epochs * steps_per_epoch,
        warmup=round(recipe.warmup_epochs * steps_per_epoch),
        drop_every=recipe.drop_every * steps_per_epoch,
        drop_factor=recipe.drop_factor,
    )


def optimizer_of(recipe: TrainingRecipe, steps_per_epoch: int) -> TorchSGD:
    """Returns the recipe's optimizer, for a training set of `steps_per_epoch` batches."""
    return TorchSGD(
        schedule_of(recipe, steps_per_epoch), recipe.momentum, recipe.nesterov, recipe.weight_decay, recipe.decay_all,
        global_clipnorm=recipe.clip_norm or None,
    )  # fmt: skip
