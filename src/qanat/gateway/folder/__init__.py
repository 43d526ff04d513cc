"""Watched folders: new files become rows, each exactly once."""
