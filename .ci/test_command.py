"""Print the test command of a README: the one line of its code blocks that ends in pytest."""

import re
import sys
from pathlib import Path


def test_command(readme: str) -> str:
    """The only set-up command that runs the tests."""
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    found = [line for line in lines if line.startswith("pip install") and line.endswith("pytest")]
    if len(found) != 1:
        raise SystemExit(f"expected one test command in the README, found {len(found)}")
    return found[0]


if __name__ == "__main__":
    sys.stdout.write(test_command(Path(sys.argv[1]).read_text("utf-8")) + "\n")
