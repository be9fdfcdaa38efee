"""Fusions after CASP-Net (Xiong et al. 2023), two rows of the comparison in Table 5.

AVIM, the audio-visual interaction module, lets visual positions take up what they share with the
sound. CPC, consistency-aware predictive coding, then lowers the distance between the audio and
visual representations in a few iterations.

That description, of CASP-Net's abstract and of sections 2.2 and 4.5 of the MSPI paper, is all that
is followed here: CASP-Net's own equations are not transcribed, so these rows compare the ideas, not
its numbers. Chosen here: the interaction is a non-local block (Wang et al. 2018) between the
modalities, the iterations are predictive coding as plain gradient descent, and both act at v4 only,
where AVFB stands, while CASP-Net fuses features of several scales.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.attention import attend
from avsal.models.fusion.tokens import Fused, TokenFusion

BOTTLENECK = 2  # of the non-local block
ITERATIONS = 3
STEP = 0.1  # small against the curvature that the predictions have when they are initialised


class Interaction(TokenFusion):
    """AVIM: every visual position asks the sound; the answer is added to it.

    Visual tokens are queries, audio tokens keys and values, one head of half the channels. Each
    time step of v4 sees all audio tokens; no positions are added, as in non-local blocks.
    """

    def __init__(self, motion: int, audio: int, dim: int = 512) -> None:
        super().__init__(motion, audio, dim)
        inner = dim // BOTTLENECK
        self.query = nn.Linear(dim, inner)
        self.key = nn.Linear(dim, inner)
        self.value = nn.Linear(dim, inner)
        self.answer = nn.Linear(inner, dim)

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual, heard = self._interact(v4, audio)
        volume = visual.mT.unflatten(2, v4.shape[2:])
        return Fused(volume, visual.mean(dim=1), heard.mean(dim=1))

    def _interact(self, v4: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual tokens (B, T * h * w, dim) that know the sound, and the audio tokens."""
        visual, heard = self.embed(v4, audio)
        query, key, value = self.query(visual), self.key(heard), self.value(heard)
        response = attend(query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)).squeeze(1)
        return visual + self.answer(response), heard


class ConsistentInteraction(Interaction):
    """AVIM followed by CPC: per time step, both modalities are moved towards what each predicts.

    Every visual position v predicts the sound s of its time step as A v, and the sound predicts
    the position as V s. The energy |s - A v|^2 / 2 + |v - V s|^2 / 2, a mean over the positions, is
    lowered by gradient steps on v and s. The sound of a time step is the audio features' mean over
    frequency, resampled linearly to v4's time steps. Chosen here: linear predictions, 3 steps of
    size 0.1.
    """

    def __init__(self, motion: int, audio: int, dim: int = 512) -> None:
        super().__init__(motion, audio, dim)
        self.hear = nn.Linear(dim, dim, bias=False)  # A
        self.see = nn.Linear(dim, dim, bias=False)  # V

    def forward(self, v4: torch.Tensor, audio: torch.Tensor) -> Fused:
        visual, heard = self._interact(v4, audio)
        seen = visual.unflatten(1, (v4.shape[2], -1))
        sound = _over_time(heard.unflatten(1, audio.shape[2:]), v4.shape[2])
        for _ in range(ITERATIONS):
            seen, sound = self.step(seen, sound)
        volume = seen.flatten(1, 2).mT.unflatten(2, v4.shape[2:])
        return Fused(volume, seen.mean(dim=(1, 2)), sound.mean(dim=1))

    def step(self, seen: torch.Tensor, sound: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step on the visual positions (B, T, h * w, dim) and the sound (B, T, dim)."""
        unheard, unseen = self.errors(seen, sound)
        seen_slope = unseen - torch.matmul(unheard, self.hear.weight)
        sound_slope = unheard.mean(dim=2) - torch.matmul(unseen.mean(dim=2), self.see.weight)
        return seen - STEP * seen_slope, sound - STEP * sound_slope

    def errors(self, seen: torch.Tensor, sound: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the positions mispredict of the sound, and the sound of them: (B, T, h * w, dim)."""
        return sound.unsqueeze(2) - self.hear(seen), seen - self.see(sound).unsqueeze(2)


def _over_time(spectral: torch.Tensor, steps: int) -> torch.Tensor:
    """Audio tokens (B, frequency, time, dim) -> (B, steps, dim)."""
    sound = spectral.mean(dim=1).mT
    return F.interpolate(sound, steps, mode="linear", align_corners=False).mT
