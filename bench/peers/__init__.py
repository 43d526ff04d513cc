"""The same two queries, written for each engine the way its own documentation writes them."""
