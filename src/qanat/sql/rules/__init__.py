"""Rewrites of a plan that keep its rows. One rule a file, each a function with an example of before and after."""

from __future__ import annotations

from qanat.sql.plan import Node
from qanat.sql.rules.merge_projections import merge_projections
from qanat.sql.rules.prune_columns import prune_columns
from qanat.sql.rules.push_filters import push_filters

#: In this order: filters move down, what they leave behind is merged, then unused columns go.
RULES = (push_filters, merge_projections, prune_columns)


def optimise(root: Node) -> Node:
    """All rules, in order."""
    for rule in RULES:
        root = rule(root)
    return root
