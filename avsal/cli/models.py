"""`avsal models`: the networks that can be built."""

from __future__ import annotations


def models() -> None:
    """List the networks: parts, input size, parameters and multiply-accumulates per window."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from avsal.cli.console import stderr
    from avsal.models.measure import PAPER_TABLE_6, measure
    from avsal.models.variants import VARIANTS

    table = Table(caption="paper: Table 6, parameters with training heads", caption_justify="left")
    for heading in ("name", "motion", "image", "audio", "fusion"):
        table.add_column(heading, no_wrap=True)
    for heading in ("params M", "with heads M", "MACs G", "paper M", "paper G"):
        table.add_column(heading, justify="right")
    for variant in track(list(VARIANTS.values()), "counting", console=stderr, transient=True):
        size = measure(variant)
        paper = PAPER_TABLE_6.get(variant.name, ("", ""))
        table.add_row(
            variant.name,
            variant.motion,
            variant.image or "none",
            variant.audio or "none",
            variant.fusion if variant.audio else "none",
            f"{size.parameters / 1e6:.1f}",
            f"{size.parameters_with_heads / 1e6:.1f}",
            f"{size.macs / 1e9:.1f}",
            *map(str, paper),
        )
    Console(soft_wrap=True).print(table)
