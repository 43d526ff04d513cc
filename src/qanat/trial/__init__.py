"""Cases for pipelines: rows in, a crash or an idle partition at a point, rows out. Read, run and judged.

`suite.run_suite` is the whole of it; the command is `qanat test`, the function `qanat.test`. See docs/testing.md.
"""
