"""The write-up: claims, the published tables that test them, verdicts, and the page.

It reads `paper/claims.yaml` and `paper/measurements/`, and imports no PyTorch. Nothing here knows a
study by name: one that is published gets its rows and panels.
"""

from pathlib import Path

CLAIMS = Path("paper/claims.yaml")
