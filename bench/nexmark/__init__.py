"""Nexmark: people sell and bid at auctions. Generator, queries, the right answers, and the bench beside Flink.

Written afresh from the published definition: Tucker, Tufte, Papadimos, Maier: "NEXMark, a benchmark for queries over
data streams" (2002), and what Apache Beam and the Flink community made of it (the names of columns, q9 to q22, the
proportions and hot keys). docs/bench.md says where a query differs, and why.
"""
