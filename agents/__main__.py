"""Lists the agents.

python -m agents
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tiegym.runs.commands import python_command
from tiegym.runs.messages import say


def programs(folder: Path) -> dict[str, str]:
    """The programs of a folder: their names, and the first sentence of what each says of itself."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        has_main = any(isinstance(n, ast.FunctionDef) and n.name == "main" for n in tree.body)
        if has_main and path.name != "__main__.py":
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> None:
    """Prints a line for each agent."""
    found = programs(Path(__file__).parent)
    width = max(map(len, found))
    lines = [f"{name:<{width}}  {says}" for name, says in found.items()]
    lines += ["", f"run one:  {python_command('agents.NAME')} --help"]
    say("\n".join(lines), sys.stdout)


if __name__ == "__main__":
    main()
