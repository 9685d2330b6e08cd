"""``policies/schema.json``: JSON Schema (draft 2020-12) of the files a person writes, for editors."""

from __future__ import annotations

import json

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from outloop.core.policy.models import CaseShape, CatalogueShape, WorkspaceShape

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MODE: JsonSchemaMode = "validation"


class _Generator(GenerateJsonSchema):
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        # A default stands for "left out" only: shown to an editor it would read as a null one may write.
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def schema_text() -> str:
    """Return the schema as it stands in ``policies/schema.json``.

    A list is a file of policy tests, a mapping with a title a catalogue entry, any other a workspace's policy: chosen by ``if``
    and not by ``anyOf``, so that an editor reports the faults of the one file it has open.
    """
    shapes = (WorkspaceShape, CatalogueShape, CaseShape)
    references, definitions = models_json_schema([(shape, _MODE) for shape in shapes], schema_generator=_Generator)
    workspace, catalogue, test = (references[shape, _MODE] for shape in shapes)
    schema = {
        "$schema": _DIALECT,
        "title": "Outloop policy",
        "if": {"type": "array"},
        "then": {"items": test},
        "else": {"if": {"required": ["title"]}, "then": catalogue, "else": workspace},
        "$defs": definitions["$defs"],
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
