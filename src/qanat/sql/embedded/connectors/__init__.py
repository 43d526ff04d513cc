"""Where rows come from and go to outside the log: one file per connector, found by its name in two tables."""
