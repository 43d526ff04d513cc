"""One suite over every driver or engine."""
