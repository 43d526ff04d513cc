"""One test per law of docs/design/semantics.md, end to end."""
