"""SQL cases that run on both engines: see test_cases.py."""
