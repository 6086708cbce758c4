"""What dvc.yaml must say about code: the modules that each stage imports, found without running them.

`make deps` (--write) brings dvc.yaml in line; tests/test_dag.py and `make lint` (--check) fail while it isn't.
"""

import sys
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ood.closure import closure  # noqa: E402

DVC_YAML = ROOT / "dvc.yaml"


def load() -> dict:
    """dvc.yaml, with comments and order kept."""
    yaml = YAML()
    yaml.width = 130
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml, yaml.load(DVC_YAML.read_text(encoding="utf-8"))


def body(stage: dict) -> dict:
    """The stage itself, or what a foreach repeats."""
    return stage.get("do", stage)


def is_code(dep: str) -> bool:
    """Whether a dependency is a module of this repository."""
    return dep.startswith(("ood/", "stages/"))


def wanted(name: str) -> list[str]:
    """The modules that a stage of dvc.yaml imports."""
    return closure(f"stages/{name.replace('-', '_')}.py")


def main() -> None:
    yaml, document = load()
    changed = []
    for name, stage in document["stages"].items():
        deps = body(stage)["deps"]
        listed = [d for d in deps if is_code(d)]
        if listed != wanted(name):
            changed.append(name)
            others = [d for d in deps if not is_code(d)]
            body(stage)["deps"] = [DoubleQuotedScalarString(d) if "$" in d else d for d in others] + wanted(name)
    if changed and "--write" in sys.argv:
        text = StringIO()
        yaml.dump(document, text)
        DVC_YAML.write_text(text.getvalue(), encoding="utf-8")
    if changed and "--check" in sys.argv:
        raise SystemExit(f"dvc.yaml doesn't list what these stages import: {', '.join(changed)}. Run `make deps`.")
    print(f"{'rewrote' if '--write' in sys.argv else 'out of date'}: {', '.join(changed)}" if changed else "dvc.yaml is in step")


if __name__ == "__main__":
    main()
