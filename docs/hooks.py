"""Files that the documentation takes from elsewhere: the commands' help, the README's picture."""

import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of all options and the pictures of the examples."""
    files.append(File.generated(config, "options.md", content=_options()))
    for name in ("overlay.webp", "report.png"):
        picture = str(ROOT / "examples" / name)
        files.append(File.generated(config, f"pictures/{name}", abs_src_path=picture))
    return files


def _options() -> str:
    """Every command with its options, from the same texts as --help."""
    command = [sys.executable, "-m", "typer", "avsal.cli", "utils", "docs"]
    command += ["--name", "avsal", "--title", "All options"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
