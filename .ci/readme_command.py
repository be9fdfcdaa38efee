"""Print the README's code block that follows the marker `<!-- ci: NAME -->`."""

import re
import sys
from pathlib import Path

text = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")
block = re.search(rf"<!-- ci: {re.escape(sys.argv[1])} -->\s*```\w*\n(.*?)```", text, re.DOTALL)
if block is None:
    sys.exit(f"README.md has no block marked {sys.argv[1]!r}")
print(block[1], end="")
