"""A storage initializer that keeps its contract: makes the planned folders; content `missing` is gone,
and `late` until it is in the store."""

import json
import sys
from pathlib import Path

plan = json.loads(Path(sys.argv[1]).read_text())
for label in ("code", "model"):
    step = plan[label]
    if step is None:
        continue
    late = step["digest"] == "late" and not (Path(plan["store"]) / "late").exists()
    if step["digest"] == "missing" or late:
        print("  one file is not there")
        print("ERROR ArtifactsUnavailable: content", label, "is gone")
        sys.exit(4)
    Path(step["target"]).mkdir(parents=True, exist_ok=True)
    print(label, "at", step["target"])
