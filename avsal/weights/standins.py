"""Objects in a checkpoint that are no tensors: read as stand-ins that do nothing.

`torch.load` takes this module in place of `pickle`.
"""

from __future__ import annotations

import pickle
import re
import sys
from typing import Any

# All that state dicts are made of. torch's own list is longer: it has, for example, ways to ask for
# any amount of memory.
PLAIN_GLOBALS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.(cuda\.)?\w+Storage|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\.(u?int\d+|float\d+\w*|bfloat16|complex\d+|bool)"
)
# Settings, numbers and the like of the standard library. Whatever else of it a checkpoint names can
# do harm, and nobody's settings name it.
PYTHON_2_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocol 2 writes them
HARMLESS = re.compile(
    r"(argparse|collections|copyreg|datetime|decimal|enum|fractions|pathlib|uuid)\.\w+"
    r"|types\.SimpleNamespace|_codecs\.encode"
    r"|builtins\.(object|set|frozenset|list|dict|tuple|int|float|complex|str|bool|slice|range)"
)


def is_harmless(name: str) -> bool:
    """Whether an object may stand in a checkpoint, to be ignored.

    The objects of other packages may, as they are never imported.
    """
    package, _, rest = name.partition(".")
    package = PYTHON_2_NAMES.get(package, package)
    name = f"{package}.{rest}"
    return package not in sys.stdlib_module_names or HARMLESS.fullmatch(name) is not None


class StandIn:
    """Takes whatever a pickle does to an object, and keeps nothing."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _value: Any) -> None:
        """As a list's."""

    extend = add = append


class Unpickler(pickle.Unpickler):
    """Makes tensors and plain containers, and stand-ins for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if PLAIN_GLOBALS.fullmatch(f"{module}.{name}"):
            return super().find_class(module, name)
        return StandIn
