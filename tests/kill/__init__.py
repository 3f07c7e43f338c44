"""The kill suite: runs are killed, resumed, and compared bit for bit with one left alone. See docs/robustness.md."""
