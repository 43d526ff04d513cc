"""A project's pipelines by their names."""

from __future__ import annotations

from qanat.errors import ConfigError
from qanat.sql.plan import Pipeline, Program


def pipeline_of(program: Program, name: str) -> Pipeline:
    """The pipeline of that name. Raises `ConfigError`, which names those that there are."""
    for pipeline in program.pipelines:
        if pipeline.name == name:
            return pipeline
    known = ", ".join(pipeline.name for pipeline in program.pipelines) or "none"
    raise ConfigError(f"no pipeline {name}", hint=f"the pipelines are: {known}")
