"""Rewrites of a plan that keep its rows. One rule a file, each a function with an example of before and after."""

from __future__ import annotations

from qanat.sql.plan import Node
from qanat.sql.rules.merge_projections import merge_projections
from qanat.sql.rules.prune_columns import prune_columns
from qanat.sql.rules.push_filters import push_filters
from qanat.sql.rules.read_fields import read_fields
from qanat.sql.rules.share_scans import share_scans

#: In this order: filters move down, what they leave behind is merged, then unused columns and fields go, and last
#: scans that still read the same table become one.
RULES = (push_filters, merge_projections, prune_columns, read_fields, share_scans)


def optimise(root: Node) -> Node:
    """All rules, in order."""
    for rule in RULES:
        root = rule(root)
    return root
