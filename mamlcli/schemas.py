"""The JSON schemas of `docs/schemas/`: of what commands print, and of the config that they read.

Those of what they read lie beside the shipped configs too, whose first lines name them.
"""

import json
from typing import Any

from mamlcli.config.reference import config_schema, row_schema
from mamlcli.results import (
    CheckedConfigs,
    ComparedRuns,
    Comparison,
    ConfigList,
    CopiedConfig,
    Doctor,
    DryRun,
    EvalResult,
    GradientReport,
    PlotResult,
    PredictResult,
    ReportResult,
    Reproduction,
    Result,
    RowList,
    RunDiff,
    RunList,
    RunShown,
    ShownConfig,
    Sweep,
    TrainResult,
)

MODELS: dict[str, type[Result]] = {
    "train": TrainResult,
    "eval": EvalResult,
    "compare-orders": Comparison,
    "compare": ComparedRuns,
    "predict": PredictResult,
    "plot": PlotResult,
    "report": ReportResult,
    "check-grads": GradientReport,
    "dry-run": DryRun,
    "reproduce": Reproduction,
    "reproduce-list": RowList,
    "sweep": Sweep,
    "configs-ls": ConfigList,
    "configs-show": ShownConfig,
    "configs-cp": CopiedConfig,
    "configs-validate": CheckedConfigs,
    "runs-ls": RunList,
    "runs-show": RunShown,
    "runs-diff": RunDiff,
    "doctor": Doctor,
}


def schema_files() -> dict[str, str]:
    """The files of `docs/schemas/`: name to text; what commands print, and what they read."""
    return _files({name: _schema(name, model) for name, model in MODELS.items()}) | shipped_schemas()


def shipped_schemas() -> dict[str, str]:
    """The files of `mamlcli/configs/schemas/`: name to text; what commands read."""
    return _files({"config": config_schema(), "reproduce-row": row_schema()})


def _files(schemas: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {f"{name}-1.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def _schema(name: str, model: type[Result]) -> dict[str, Any]:
    """The schema of what `as_json` gives."""
    schema: dict[str, Any] = _open(model.model_json_schema(mode="serialization"))
    schema["properties"] = {"schema": {"const": f"mamlcli.{name}/1", "type": "string"}, **schema["properties"]}
    schema["required"] = ["schema", *schema["required"]]
    return schema


def _open(schema: Any) -> Any:
    """A schema that allows the fields that are added within its version."""
    if isinstance(schema, dict):
        closed = schema.get("additionalProperties") is False
        return {key: _open(value) for key, value in schema.items() if not (closed and key == "additionalProperties")}
    return [_open(value) for value in schema] if isinstance(schema, list) else schema
