"""Where answers are kept to be fetched fast: caches, and hot stores. One small port each, one file per driver."""
