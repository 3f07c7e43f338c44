"""Fuzzing: mutated configs, artefacts, checkpoints and parts of them; each outcome is judged. See docs/robustness.md."""
