"""Operators whose results change: each gives a changelog (+I, -U, +U, -D) and most of them take one."""
