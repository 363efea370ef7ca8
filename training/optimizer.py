"""torch's SGD, step for step, and the learning rates of the recipes."""

import math

import keras
from keras import ops

from fd_keras.training.recipes import TrainingRecipe


@keras.saving.register_keras_serializable(package="training")
class TorchSGD(keras.optimizers.Optimizer):
    """SGD with momentum as `torch.optim.SGD` computes it.

    Keras's own SGD differs three ways: its `weight_decay` is outside the momentum, an L2 regularizer has twice the
    gradient, and it keeps the learning rate inside the velocity, so every drop of the rate changes later steps. Here

        g = gradient + weight_decay * w;  buffer = momentum * buffer + g;  w -= rate * buffer

    and with Nesterov momentum w -= rate * (g + momentum * buffer).

    Args:
        learning_rate: a number or a schedule.
        momentum: in [0, 1).
        nesterov: see above.
        weight_decay: on every trainable variable, batch normalizations and biases included, as torch does unless told.
        decay_all: False spares the variables of one dimension: batch normalizations and biases.
    """

    def __init__(
        self, learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0, decay_all=True, name="sgd", **kwargs
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)  # the base's own weight decay stays off
        self.momentum, self.nesterov = momentum, nesterov
        self.torch_weight_decay, self.decay_all = weight_decay, decay_all

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.buffers = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        buffer = self.buffers[self._get_variable_index(variable)]
        if self.torch_weight_decay and (self.decay_all or len(variable.shape) > 1):
            gradient = ops.add(gradient, ops.multiply(variable, self.torch_weight_decay))
        velocity = ops.add(ops.multiply(buffer, self.momentum), gradient)
        self.assign(buffer, velocity)
        if self.nesterov:
            velocity = ops.add(gradient, ops.multiply(velocity, self.momentum))
        self.assign_sub(variable, ops.multiply(rate, velocity))

    def learning_rate_at(self, step: int):
        """The rate that a step has."""
        rate = self._learning_rate
        return rate(step) if callable(rate) else rate

    def get_config(self):
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
    """The learning rate as a function of the step alone, so a resumed run goes on exactly.

    Args:
        kind: "step" or "cosine".
        peak: rate after the warm-up.
        steps: of the whole run.
        warmup: steps over which the rate rises linearly; the first step already has a rate above 0.
        drop_every: steps between two drops ("step").
        drop_factor: what each drop divides by ("step").
    """

    def __init__(self, kind: str, peak: float, steps: int, warmup: int = 0, drop_every: int = 1, drop_factor=10.0):
        self.kind, self.peak, self.steps, self.warmup = kind, peak, steps, warmup
        self.drop_every, self.drop_factor = drop_every, drop_factor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        if self.kind == "cosine":
            share = ops.clip((step - self.warmup) / max(1, self.steps - self.warmup), 0.0, 1.0)
            rate = self.peak * 0.5 * (1.0 + ops.cos(math.pi * share))
        else:
            rate = self.peak * ops.power(1.0 / self.drop_factor, ops.floor((step + 0.5) / self.drop_every))
        return ops.minimum(rate, self.peak * (step + 1.0) / self.warmup) if self.warmup else rate

    def get_config(self):
        names = ("kind", "peak", "steps", "warmup", "drop_every", "drop_factor")
        return {name: getattr(self, name) for name in names}


def schedule_of(recipe: TrainingRecipe, steps_per_epoch: int) -> Schedule:
    """The recipe's learning rate, for a training set of so many steps."""
    return Schedule(
        recipe.schedule,
        recipe.learning_rate,
        steps=recipe.epochs * steps_per_epoch,
        warmup=round(recipe.warmup_epochs * steps_per_epoch),
        drop_every=recipe.drop_every * steps_per_epoch,
        drop_factor=recipe.drop_factor,
    )


def optimizer_of(recipe: TrainingRecipe, steps_per_epoch: int) -> TorchSGD:
    """The recipe's optimizer."""
    return TorchSGD(
        schedule_of(recipe, steps_per_epoch), recipe.momentum, recipe.nesterov, recipe.weight_decay, recipe.decay_all
    )
