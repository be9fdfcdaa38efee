"""Published scores on the six databases, to stand beside measured ones.

Xie et al. 2024, Table 1, as far as the numbers are legible or confirmed by a later paper that cites
them (arXiv 2606.03540, Tables 17 and 22, from which the later networks' rows are too).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedRow:
    """One network's published scores.

    Attributes:
        name: what a person calls it.
        scores: (CC, NSS) by database; None where the number is not known.
        variant: the network of avsal that it belongs to, empty for others' networks.
    """

    name: str
    scores: dict[str, tuple[float, float | None]]
    variant: str = ""


PUBLISHED = (
    PublishedRow(
        "S3D 224x384 (paper)",
        {
            "DIEM": (0.653, 2.62),
            "ETMD_av": (0.601, 3.24),
            "SumMe": (0.482, 2.49),
            "AVAD": (0.697, 3.87),
            "Coutrot_db1": (0.567, 2.76),
            "Coutrot_db2": (0.783, 6.28),
        },
        "s3d-224x384",
    ),
    PublishedRow(
        "MViTv2-S 224x224 (paper)",
        {
            "DIEM": (0.659, 2.65),
            "ETMD_av": (0.615, 3.27),
            "SumMe": (0.494, 2.55),
            "Coutrot_db1": (0.583, None),
        },
        "mvitv2s-224x224",
    ),
    PublishedRow(
        "MViTv2-S 224x384 (paper)",
        {
            "DIEM": (0.671, 2.71),
            "ETMD_av": (0.624, 3.35),
            "SumMe": (0.503, 2.61),
            "Coutrot_db1": (0.606, None),
        },
        "mvitv2s-224x384",
    ),
    PublishedRow(
        "TAVDiff (later)",
        {
            "DIEM": (0.670, 2.75),
            "ETMD_av": (0.613, 3.15),
            "SumMe": (0.500, 2.51),
            "AVAD": (0.729, 4.29),
            "Coutrot_db1": (0.607, 2.85),
            "Coutrot_db2": (0.798, 6.52),
        },
    ),
    PublishedRow(
        "AAM (later)",
        {
            "DIEM": (0.710, 2.88),
            "ETMD_av": (0.655, 3.66),
            "SumMe": (0.550, 2.90),
            "AVAD": (0.712, 4.10),
            "Coutrot_db1": (0.626, 3.22),
            "Coutrot_db2": (0.887, 7.46),
        },
    ),
)


def published(database: str) -> list[PublishedRow]:
    """The rows that say something about a database."""
    return [row for row in PUBLISHED if database in row.scores]
