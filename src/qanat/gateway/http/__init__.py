"""HTTP: rows in, health and metrics out."""
