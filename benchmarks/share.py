"""How a study's jobs spend their processor time: starting Python, or at work.

python benchmarks/share.py digits
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

LINE = re.compile(r"^(\w+): processor time ([\d.]+) s to start, ([\d.]+) s at work$", re.M)


def main(study: str) -> None:
    """Print jobs, seconds to start, seconds at work for each stage, and the share of work."""
    stages = defaultdict(lambda: [0, 0.0, 0.0])
    for log in Path("results", study).rglob("*.log"):
        for name, start, work in LINE.findall(log.read_text()):
            for total in (stages[name], stages["all"]):
                total[0] += 1
                total[1] += float(start)
                total[2] += float(work)
    print(f"{'stage':12}{'jobs':>6}{'start s':>10}{'work s':>10}{'share':>8}")
    for name, (jobs, start, work) in sorted(stages.items(), key=lambda item: item[1][2]):
        print(f"{name:12}{jobs:6}{start:10.1f}{work:10.1f}{work / (start + work):8.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
