"""Training: settings, data, losses and the loop. Importing this package does not import torch."""

from __future__ import annotations

from avsal.training.config import Config, read_config

__all__ = ["Config", "read_config"]
