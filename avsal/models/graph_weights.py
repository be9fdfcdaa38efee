"""How the weights of an ONNX graph follow from a network's state dict.

The graphs of the default network are shipped without weights. Each of their constants that depends
on weights has an origin: a tensor of the state dict as it is, transposed, a convolution folded with
the BatchNorm after it or merged with the pointwise convolution after it, or a function of a part of
a small tensor. Needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]  # a state dict

ORIGINS = "origins.json"  # in an archive of graphs: by graph, the origin of each constant
EPSILON = 1e-5  # PyTorch's default of BatchNorm
COUNTER = "num_batches_tracked"  # of BatchNorm; predictions do not depend on it
SMALL = 64  # values; constants that are computed from larger tensors are not looked for
WHOLE = ("weight", "bias", "running_mean", "running_var")  # of layers: never computed in advance


class Origin(NamedTuple):
    """Where a constant comes from.

    Attributes:
        kind: a key of `DERIVATIONS`.
        name: a tensor of the state dict, or the convolution's name.
        after: name of the BatchNorm or convolution that goes into the convolution before it.
        part: indices into the last axes of the tensor, where the constant is a part of it.
        shape: of the constant, where it is a part.
    """

    kind: str
    name: str
    after: str = ""
    part: Sequence[int] = ()
    shape: Sequence[int] = ()


def derive(origin: Origin, state: Arrays) -> np.ndarray:
    """The constant, float32, from the state dict of the network."""
    values = DERIVATIONS[origin.kind](origin, state)
    return np.asarray(values, dtype=np.float32, order="C")


def find_origin(
    values: np.ndarray,
    name: str,
    state: Arrays,
    norms: Mapping[str, str],
    merged: Mapping[str, str],
) -> Origin | None:
    """The origin of a graph's constant, None where it is not a weight but computed, like positions.

    Args:
        values: the constant.
        name: of it; where a parameter kept its name, the name ends with it.
        state: the network's state dict.
        norms: names of BatchNorms by those of the convolutions before them.
        merged: names of convolutions that go into others, by those of the others.
    """
    candidates = [Origin("same", key) for key in state if name.endswith(key)]
    for kind, pairs in (("folded", norms), ("merged", merged)):
        for conv, after in pairs.items():
            if name.endswith((f"{conv}.weight", f"{conv}.bias")):
                candidates.append(Origin(f"{kind} {name.rpartition('.')[2]}", conv, after))
    if values.ndim == 2:  # a linear layer's weight, under a name of the exporter's
        shape = values.shape[::-1]
        candidates += [Origin("transposed", key) for key in state if state[key].shape == shape]
    for candidate in (*candidates, *_functions_of_parts(values, state)):
        derived = derive(candidate, state)
        if derived.shape == values.shape and np.allclose(derived, values, rtol=1e-6, atol=1e-7):
            return candidate
    return None


def _functions_of_parts(values: np.ndarray, state: Arrays) -> Iterator[Origin]:
    """Origins of small constants that an exporter computed from parameters in advance."""
    for name, tensor in state.items():
        if tensor.size > SMALL or name.rpartition(".")[2] in (*WHOLE, COUNTER):
            continue
        for axes in range(tensor.ndim + 1):
            kept, indexed = tensor.shape[: tensor.ndim - axes], tensor.shape[tensor.ndim - axes :]
            if np.prod(kept, dtype=int) == values.size:
                for part in product(*map(range, indexed)):
                    for kind in FUNCTIONS:
                        yield Origin(kind, name, "", part, values.shape)


def uncovered(origins: Iterable[Origin], state: Arrays) -> list[str]:
    """Names of the tensors on which no constant depends: a graph with them has their values in it,
    and is right for one set of weights only."""
    used: set[str] = set()
    for origin in origins:
        used |= {origin.name, f"{origin.name}.weight"}
        if origin.after:
            used |= {f"{origin.after}.{name}" for name in ("weight", "running_var")}
        if origin.kind in ("folded bias", "merged bias"):
            used |= {
                f"{origin.name}.bias",
                *(f"{origin.after}.{n}" for n in ("bias", "running_mean")),
            }
    return [name for name in state if name not in used and not name.endswith(COUNTER)]


def _gain(origin: Origin, state: Arrays) -> np.ndarray:
    variance = state[f"{origin.after}.running_var"].astype(np.float64)
    return state[f"{origin.after}.weight"].astype(np.float64) / np.sqrt(variance + EPSILON)


def _folded_weight(origin: Origin, state: Arrays) -> np.ndarray:
    weight = state[f"{origin.name}.weight"].astype(np.float64)
    return weight * _gain(origin, state).reshape(-1, *[1] * (weight.ndim - 1))


def _folded_bias(origin: Origin, state: Arrays) -> np.ndarray:
    mean = state[f"{origin.after}.running_mean"].astype(np.float64)
    bias = state.get(f"{origin.name}.bias", np.zeros_like(mean))
    return (bias - mean) * _gain(origin, state) + state[f"{origin.after}.bias"]


def _merged_weight(origin: Origin, state: Arrays) -> np.ndarray:
    inner = state[f"{origin.name}.weight"].astype(np.float64)
    outer = state[f"{origin.after}.weight"].astype(np.float64)
    return (outer[:, :, 0, 0] @ inner[:, :, 0, 0])[:, :, None, None]


def _merged_bias(origin: Origin, state: Arrays) -> np.ndarray:
    outer = state[f"{origin.after}.weight"].astype(np.float64)[:, :, 0, 0]
    return outer @ state[f"{origin.name}.bias"].astype(np.float64) + state[f"{origin.after}.bias"]


def _log_sigmoid(values: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -values)


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "part": lambda values: values,
    "exp": np.exp,
    "log_sigmoid": _log_sigmoid,
    "log_sigmoid of minus": lambda values: _log_sigmoid(-values),
}


def _function_of_part(origin: Origin, state: Arrays) -> np.ndarray:
    index: tuple[Any, ...] = (..., *origin.part)
    part = state[origin.name].astype(np.float64)[index]
    return FUNCTIONS[origin.kind](part).reshape(origin.shape)


DERIVATIONS: dict[str, Callable[[Origin, Arrays], np.ndarray]] = {
    "same": lambda origin, state: state[origin.name],
    "transposed": lambda origin, state: state[origin.name].T,
    "folded weight": _folded_weight,
    "folded bias": _folded_bias,
    "merged weight": _merged_weight,
    "merged bias": _merged_bias,
    **dict.fromkeys(FUNCTIONS, _function_of_part),
}
