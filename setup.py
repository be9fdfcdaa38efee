"""What pyproject.toml cannot say: the shipped weights of weights/ travel inside the package."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WEIGHTS = Path("weights")


class BuildWithWeights(build_py):
    """Copies weights and graphs next to avsal/weights/*.py, where `avsal.weights.places` looks.

    An editable install finds them in the checkout.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._shipped():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *(str(to) for _, to in self._shipped())]

    def _shipped(self) -> list[tuple[Path, Path]]:
        folder = Path(self.build_lib, "avsal", "weights")
        files = sorted([*WEIGHTS.glob("*.safetensors"), *WEIGHTS.glob("*.graphs.zip")])
        return [(source, folder / source.name) for source in files]


setup(cmdclass={"build_py": BuildWithWeights})
