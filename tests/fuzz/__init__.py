"""Fuzzers, each a command with a short run in the suite."""
