"""★ The model: how it is fitted, how it predicts, and how it is kept. Another library is another file with this shape.

A small convolutional network (Keras 3 on JAX), or a pretrained one with a new end; numbers and categories of the same
table join where the picture has become a vector. What a function takes and gives: batchloop/container/protocols.py.
"""

import base64
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")  # before Keras is imported

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from batchloop.container import networks
from batchloop.container.job import InputError
from batchloop.container.protocols import Feature, Matrix, Predicted, Problem, Progress, Table

SETTINGS: dict[str, tuple[Any, ...]] = {  # the default, and from where to where a number may be
    "epochs": (100, 1, 10_000),
    "early_stopping_epochs": (20, 0, 10_000),
    "batch_size": (32, 1, 65_536),
    "learning_rate": (0.003, 1e-7, 10),
    "filters": (24, 1, 4096),
    "dropout": (0.1, 0, 0.95),
    "rotate": (0.0, 0, 180),
    "shift": (0.0, 0, 0.9),
    "zoom": (0.0, 0, 0.9),
    "flip": (False,),
    "mixed_precision": (False,),
    "backbone": ("",),
    "train_backbone": (False,),
    "seed": (7, 0, 2**31 - 1),
}
BATCH = 128  # rows predicted at once: always as many, so that XLA compiles once
SMALLEST, BLOCKS = 4, 5  # pixels of the last feature map, and how often it is halved at most
DRAWN = r'("keras.initializers", "class_name": )"\w+", "config": {[^{}]*}'  # weights by chance: seconds to compile
NETWORK, ARCHITECTURE, WEIGHTS = "network.json", "architecture.json", "weights.npz"


@dataclass(frozen=True)
class Network:
    """A fitted model: `body` gives raw scores; `known` is what it was fitted for, and how numbers were scaled."""

    body: Any
    known: Mapping[str, Any]  # task, features, means, scales, epochs, best_epoch
    compiled: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "compiled", jax.jit(self.scores))

    @property
    def variables(self) -> tuple[list[Any], list[Any]]:
        """The values of the trainable variables, and of all others."""
        both = self.body.trainable_variables, self.body.non_trainable_variables
        return [each.value for each in both[0]], [each.value for each in both[1]]

    def scores(self, variables: tuple[list[Any], list[Any]], inputs: list[Any]) -> Any:
        """Raw scores, rows × outputs, as a function that JAX can compile and differentiate."""
        return self.body.stateless_call(*variables, inputs, training=False)[0]


def fit(
    train: Table,
    validation: Table,
    hyperparameters: Mapping[str, Any],
    problem: Problem,
    progress: Progress | None = None,
) -> Network:
    """Go over the rows until validation stops improving; the weights of the best epoch are kept.

    The same data, hyperparameters and machine give the same network. Raises InputError for a backbone that doesn't fit.
    """
    own = {name: default for name, (default, *_) in SETTINGS.items()} | dict(hyperparameters)
    keras.utils.set_random_seed(int(own["seed"]))
    keras.utils.clear_session(free_memory=False)  # layers are numbered from 0
    training = Training(train, own, problem, progress.start if progress else None)
    if progress and (state := progress.interrupted()):
        training.restore(state)
    while training.left():
        training.epoch()
        predicted = training.judge(validation)
        if progress:
            if predicted is not None:
                progress.predicted = predicted
            progress.after_round(training.epochs, training.loss, training.state)
    return training.best()


class Training:
    """A network while it learns: an epoch at a time."""

    def __init__(self, train: Table, own: Mapping[str, Any], problem: Problem, start: Network | None) -> None:
        self.train, self.own, self.problem = train, own, problem
        known = start.known if start else {**networks.learned(train, problem), "epochs": 0}
        self.network = Network(keras.models.clone_model(start.body) if start else _body(known, own, problem), known)
        if start:
            self.network.body.set_weights(start.body.get_weights())
        self.first = self.epochs = int(known["epochs"])
        self.loss = self.lowest = math.inf
        self.best_epoch, self.kept = self.epochs, [np.asarray(each) for each in self.network.body.get_weights()]
        self.inputs = networks.inputs(train.features, known)
        self.size, steps = int(own["batch_size"]), math.ceil(len(train.labels) / int(own["batch_size"]))
        rate = keras.optimizers.schedules.CosineDecay(float(own["learning_rate"]), steps * int(own["epochs"]))
        self.optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4)
        self.optimizer.build(self.network.body.trainable_variables)
        self.step = jax.jit(self._step)
        self.variables: Any = (*self.network.variables, [each.value for each in self.optimizer.variables])

    def left(self) -> bool:
        """Whether there is an epoch to come."""
        patience, done = int(self.own["early_stopping_epochs"]), self.epochs - self.first
        tired = 0 < patience <= self.epochs - self.best_epoch
        return done < int(self.own["epochs"]) and not tired

    def epoch(self) -> None:
        """Every row once."""
        seed, rows = int(self.own["seed"]), len(self.train.labels)
        key = jax.random.fold_in(jax.random.key(seed), self.epochs)
        for number, (some, weights) in enumerate(networks.batches(rows, self.size, (seed, self.epochs))):
            batch = [each[some] for each in self.inputs], self.train.labels[some].astype(np.float32), weights
            self.variables = self.step(self.variables, batch, jax.random.fold_in(key, number))
        self.epochs += 1

    def _step(self, variables: Any, batch: Any, key: Any) -> Any:
        trainable, others, optimizer = variables
        inputs, labels, weights = batch
        shapes = [each for each in inputs if each.ndim == 4]
        inputs = [augmented(each, key, self.own) for each in shapes] + inputs[len(shapes) :]

        def loss(trainable: Any) -> Any:
            raw, changed = self.network.body.stateless_call(trainable, others, inputs, training=True)
            each = _losses(raw.astype(jnp.float32), labels, self.problem.task, self.network.known)
            return (each * weights).sum() / weights.sum(), changed

        (_, others), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return trainable, others, optimizer

    def judge(self, validation: Table) -> "Predicted | None":
        """Take account of the loss on validation; what is predicted for it, where no epoch was better."""
        self._assign(self.variables[:2])
        raw = raw_scores(self.network, validation.features)
        each = _losses(jnp.asarray(raw), jnp.asarray(validation.labels), self.problem.task, self.network.known)
        self.loss = float(np.mean(each))
        if not self.loss < self.lowest and int(self.own["early_stopping_epochs"]):
            return None
        self.lowest, self.best_epoch = self.loss, self.epochs
        self.kept = [np.asarray(each) for each in self.network.body.get_weights()]
        return networks.predicted(raw, self.problem.task)

    def best(self) -> Network:
        """The network of the best epoch."""
        self.network.body.set_weights(self.kept)
        known = {**self.network.known, "epochs": self.epochs, "best_epoch": self.best_epoch}
        return Network(self.network.body, known)

    def state(self) -> str:
        """Everything that the next epoch depends on, as text."""
        head = {"epochs": self.epochs, "best_epoch": self.best_epoch, "lowest": self.lowest, "first": self.first}
        packed = networks.packed([np.asarray(each) for part in self.variables for each in part] + self.kept)
        return f"{json.dumps(head)}\n{base64.b64encode(packed).decode()}"

    def restore(self, state: str) -> None:
        """Go on from there."""
        head, _, packed = state.partition("\n")
        vars(self).update(json.loads(head))
        arrays = iter(networks.unpacked(base64.b64decode(packed)))
        self.variables = tuple([jnp.asarray(next(arrays)) for _ in part] for part in self.variables)
        self.kept = list(arrays)
        self._assign(self.variables[:2])

    def _assign(self, values: Any) -> None:
        body = self.network.body
        for variables, news in zip((body.trainable_variables, body.non_trainable_variables), values, strict=True):
            for variable, new in zip(variables, news, strict=True):
                variable.assign(new)


def _body(known: Mapping[str, Any], own: Mapping[str, Any], problem: Problem) -> Any:
    """The untrained network: pictures become vectors, which the other columns join."""
    policy = "mixed_bfloat16" if own["mixed_precision"] else "float32"
    inputs, vectors = [], []
    for number, feature in enumerate(each for each in problem.features if each["kind"] == "image"):
        inputs.append(layers.Input(tuple(feature["shape"]), name=f"picture_{number}"))
        convolve = _pretrained if own["backbone"] else _convolved
        vectors.append(convolve(inputs[-1], feature, own, policy))
    if known["means"]:
        inputs.append(layers.Input((len(known["means"]),), name="columns"))
        hidden = layers.Dense(64, "silu", dtype=policy, name="columns_1")(inputs[-1])
        vectors.append(layers.Dense(64, "silu", dtype=policy, name="columns_2")(hidden))
    joined = vectors[0] if len(vectors) == 1 else layers.Concatenate(name="joined")(vectors)
    joined = layers.Dropout(float(own["dropout"]), seed=int(own["seed"]), name="dropout")(joined)
    raw = layers.Dense(known["outputs"], dtype="float32", name="scores")(joined)
    if problem.task == "regression":
        raw = layers.Rescaling(known["scale"], known["mean"], name="unit")(raw)
    return keras.Model(inputs, raw, name="network")


def _convolved(pixels: Any, feature: Feature, own: Mapping[str, Any], policy: str) -> Any:
    """Convolutions, each halving the size; smooth throughout, so that attributions add up in few steps."""
    size, block, name = min(feature["shape"][:2]), 0, pixels.name
    hidden = layers.Rescaling(1 / 127.5, -1.0, dtype=policy, name=f"{name}_scaled")(pixels)
    while block == 0 or (size >= 2 * SMALLEST and block < BLOCKS):
        filters = int(own["filters"]) * 2 ** min(block, 3)
        convolve = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False, dtype=policy, name=f"{name}_{block}")
        hidden = layers.BatchNormalization(momentum=0.9, dtype=policy, name=f"{name}_{block}_normal")(convolve(hidden))
        hidden = layers.Activation("silu", dtype=policy, name=f"{name}_{block}_active")(hidden)
        size, block = size // 2, block + 1
    return layers.GlobalAveragePooling2D(dtype=policy, name=f"{name}_mean")(hidden)


def _pretrained(pixels: Any, feature: Feature, own: Mapping[str, Any], _policy: str) -> Any:
    """What a pretrained network makes of a picture; it lies beside this file, and scales the pixels itself."""
    file = Path(__file__).parent / str(own["backbone"])
    try:
        backbone = keras.models.load_model(file, compile=False, safe_mode=True)  # no code of a file is run
    except (OSError, ValueError, TypeError) as error:
        why = " ".join(str(error).split())[:120]
        raise InputError(f"backbone = {own['backbone']!r} can't be read as a .keras file: {why}.") from None
    wanted, given = backbone.input_shape[1:], tuple(feature["shape"])
    if len(wanted) != 3 or any(each not in (None, has) for each, has in zip(wanted, given, strict=True)):
        named = f"backbone = {own['backbone']!r} takes pictures of {wanted}"
        raise InputError(f"{named}, and column {feature['name']!r} has {given}: write its size and colour alike.")
    backbone.trainable, backbone.name = bool(own["train_backbone"]), f"{pixels.name}_backbone"
    hidden = backbone(pixels)
    return hidden if len(hidden.shape) == 2 else layers.GlobalAveragePooling2D(name=f"{pixels.name}_mean")(hidden)


def augmented(pictures: Any, key: Any, own: Mapping[str, Any]) -> Any:
    """Each picture turned, moved, scaled and mirrored at random, within what the hyperparameters allow."""
    turn, shift, zoom, flip = (float(own[name]) for name in ("rotate", "shift", "zoom", "flip"))
    pictures = pictures.astype(jnp.float32)
    if not (turn or shift or zoom or flip):
        return pictures
    rows, height, width = pictures.shape[:3]
    draws = jax.random.uniform(key, (5, rows), minval=-1.0, maxval=1.0)
    angle, scale = draws[0] * math.radians(turn), 1 + zoom * draws[1]
    mirror = jnp.where((draws[4] < 0) & bool(flip), -1.0, 1.0)
    y, x = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij")
    cos, sin = (each[:, None, None] for each in (jnp.cos(angle) * scale, jnp.sin(angle) * scale))
    down = cos * y - sin * x + (height - 1) / 2 + (draws[2] * shift * height)[:, None, None]
    right = mirror[:, None, None] * (sin * y + cos * x) + (width - 1) / 2 + (draws[3] * shift * width)[:, None, None]

    def sampled(picture: Any, down: Any, right: Any) -> Any:
        one = lambda channel: jax.scipy.ndimage.map_coordinates(channel, [down, right], order=1, mode="nearest")  # noqa: E731
        return jax.vmap(one, in_axes=2, out_axes=2)(picture)

    return jax.vmap(sampled)(pictures, down, right)


def _losses(raw: Any, labels: Any, task: str, known: Mapping[str, Any]) -> Any:
    """Log-loss a row; of a regression the squared error in standard deviations."""
    if task == "multiclass":
        chosen = jnp.take_along_axis(raw, labels.astype(jnp.int32)[:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(raw, axis=1) - chosen
    if task == "binary":
        return jax.nn.softplus(raw[:, 0]) - labels * raw[:, 0]
    return ((raw[:, 0] - labels) / known["scale"]) ** 2


def raw_scores(model: Network, features: Matrix) -> NDArray[np.float32]:
    """Rows × outputs, before they become probabilities."""
    variables = model.variables
    return networks.in_batches(features, BATCH, model.known, lambda inputs: model.compiled(variables, inputs))


def predict(model: Network, features: Matrix, threads: int = 0) -> Predicted:
    """Probabilities (of the positive class, or rows × classes), or a regression's values; XLA uses all cores."""
    del threads
    return networks.predicted(raw_scores(model, features), model.known["task"])


def save(model: Network, folder: Path) -> None:
    """Write the layers and what goes with them as JSON, the weights as plain arrays: nothing in them can run."""
    (folder / NETWORK).write_text(json.dumps(dict(model.known)), encoding="utf-8")
    (folder / ARCHITECTURE).write_text(model.body.to_json(), encoding="utf-8")
    (folder / WEIGHTS).write_bytes(networks.packed(model.body.get_weights()))


def load(folder: Path) -> Network:
    """The network that `save` wrote. Layers with code of their own (Lambda) are refused by Keras."""
    text = re.sub(DRAWN, r'\1"Zeros", "config": {}', (folder / ARCHITECTURE).read_text(encoding="utf-8"))
    body = keras.models.model_from_json(text)
    body.set_weights(networks.unpacked((folder / WEIGHTS).read_bytes()))
    return Network(body, json.loads((folder / NETWORK).read_text(encoding="utf-8")))


def describe(model: Network) -> dict[str, Any]:
    """How long it learned, and how large it is."""
    return {**{key: model.known[key] for key in ("epochs", "best_epoch")}, "parameters": model.body.count_params()}


def check(hyperparameters: Mapping[str, Any], problem: Problem) -> Iterator[tuple[str, str]]:
    """A name and the reason why its value can't be used."""
    del problem
    yield from networks.refused(hyperparameters, SETTINGS)
    file = hyperparameters.get("backbone", "")
    if file and not (Path(__file__).parent / str(file)).is_file():
        yield "backbone", "there is no such file beside components/algorithm/model.py"
