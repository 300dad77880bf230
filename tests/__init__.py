"""Tests, in folders as the packages; what several of them need stands here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
#: Real data and published results beside the repository; tests of them skip where it is absent.
SHARED = ROOT.parent / "shared"
