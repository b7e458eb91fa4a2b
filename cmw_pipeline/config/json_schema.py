"""The JSON schema of a parameter file, which editors use to complete and to check it."""

from typing import Any

from cmw_pipeline.config.document import WITH_LIKE
from cmw_pipeline.config.schema import Params

_LIKE = {
    "description": "another entry of this section, whose values this one has where it says nothing else",
    "type": "string",
}


def file_schema() -> dict[str, Any]:
    """That of ``params.yaml`` and of every file of ``params/``: each says a part, an entry may say ``like``.

    What is missing in the end, `cmw check` says.
    """
    schema: dict[str, Any] = _partial(Params.model_json_schema())
    schema["description"] = "``params.yaml``, or a file of ``params/``."
    for section in WITH_LIKE:
        (entry,) = schema["properties"][section]["patternProperties"].values()
        for reference in entry.get("anyOf", [entry]):
            schema["$defs"][reference["$ref"].rpartition("/")[2]]["properties"]["like"] = _LIKE
    return schema


def _partial(node: Any) -> Any:
    """Nothing is required, so that a choice between models need not be decided either."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key != "discriminator" and not _required(key, value)}
    return {"anyOf" if key == "oneOf" else key: _partial(value) for key, value in kept.items()}


def _required(key: str, value: Any) -> bool:
    return key == "required" and isinstance(value, list)
