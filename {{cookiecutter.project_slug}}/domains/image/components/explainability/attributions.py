"""★ Which pixels moved a prediction: integrated gradients (Sundararajan, Taly and Yan, 2017).

From a picture of one grey, and average numbers, to the row itself in small steps: the gradients on the way, summed,
are each value's part in the difference of the raw scores. That they add up is the method's completeness; where steps
are too coarse for it, more are taken.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from batchloop.container import networks
from batchloop.container.protocols import Attributions, Matrix
from components.algorithm.model import Network

METHOD = "integrated gradients"
UNIT = "log-odds"
TOLERANCE = 0.001  # of the sum over STEPS; relative to the raw score where that is larger than 1
STEPS = (8, 32, 128)  # points on the way; the next where those before miss by more than a half of the tolerance
ROWS = 16  # explained at once: always as many, so that XLA compiles once
Inputs = list[NDArray[np.float32]]


def fit(model: Network, features: Matrix) -> dict[str, Any]:
    """The grey from which pictures begin: each channel's mean over the rows."""
    inputs = networks.inputs(features, model.known)
    return {"grey": [each.mean(axis=(0, 1, 2)).tolist() for each in inputs if each.ndim == 4]}


def explain(model: Network, learned: Mapping[str, Any], features: Matrix) -> Attributions:
    """Per column of the matrix; a category's and a number's parts are added up."""
    compiled = {steps: jax.jit(partial(_integrated, model, steps)) for steps in STEPS}
    parts = [_explained(compiled, model, learned, features[at : at + ROWS]) for at in range(0, len(features), ROWS)]
    values, base, raw = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Attributions(values, base, raw)


def _explained(compiled: Mapping[int, Any], model: Network, learned: Mapping[str, Any], rows: Matrix) -> Any:
    full = networks.inputs(networks.in_full(rows, ROWS), model.known)
    inputs = [each.astype(np.float32) for each in full]
    greys = [np.broadcast_to(np.float32(grey), each.shape) for grey, each in zip(learned["grey"], inputs, strict=False)]
    starts = [*greys, *(np.zeros_like(each) for each in inputs[len(greys) :])]  # numbers are scaled: 0 is their mean
    for steps in STEPS:
        found, base, raw = compiled[steps](model.variables, starts, inputs)
        values = networks.by_column([np.asarray(each, np.float64) for each in found], model.known)
        base, raw = np.asarray(base, np.float64), np.asarray(raw, np.float64)
        missed = np.abs(values.sum(axis=2) + base - raw) / np.maximum(1.0, np.abs(raw))
        if missed[: len(rows)].max() <= TOLERANCE / 2:
            break
    return values[: len(rows)], base[: len(rows)], raw[: len(rows)]


def _integrated(model: Network, steps: int, variables: Any, starts: Inputs, inputs: Inputs) -> Any:
    """Of each output the gradients along the way times the way, and the raw scores at both ends."""
    ways = [end - start for start, end in zip(starts, inputs, strict=True)]

    def at(share: Any) -> Any:
        point = [start + share * way for start, way in zip(starts, ways, strict=True)]
        raw, back = jax.vjp(lambda each: model.scores(variables, each).astype(jnp.float32), point)
        one = jnp.eye(raw.shape[1], dtype=raw.dtype)
        return jax.vmap(lambda output: back(jnp.broadcast_to(output, raw.shape))[0])(one)

    places, weights = np.polynomial.legendre.leggauss(steps)  # exact for smooth scores at few points

    def add(total: Any, step: Any) -> Any:
        share, weight = step
        return [each + weight * new for each, new in zip(total, at(share), strict=True)], None

    zero = [jnp.zeros_like(each) for each in at(0.0)]
    steps_taken = (jnp.asarray((places + 1) / 2, jnp.float32), jnp.asarray(weights / 2, jnp.float32))
    total, _ = jax.lax.scan(add, zero, steps_taken)
    scores = [model.scores(variables, each).astype(jnp.float32) for each in (starts, inputs)]
    return [each * way for each, way in zip(total, ways, strict=True)], *scores
