"""Contracts: which schemas a stream's rows may have, one version after the other, and what may follow what.

`registry.Registry` keeps them in a SQLite file of its own; `formats` knows Avro, Protobuf and JSON Schema. Payloads are
decoded by `qanat.codec`, HTTP is `qanat.gateway.http.registry`.
"""
