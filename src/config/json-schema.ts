import * as z from "zod";
import { Config } from "./schema.ts";

export type JsonSchema = Record<string, unknown>;

/** The schema of a config file for editors (JSON Schema, draft 7): what may be written, with defaults and explanations. */
export function configJsonSchema(): JsonSchema {
  const schema = z.toJSONSchema(Config, {
    io: "input",
    target: "draft-7",
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => {
      if (zodSchema instanceof z.ZodDefault)
        jsonSchema.default = zodSchema.def.defaultValue as never;
      if (jsonSchema.description === "") delete jsonSchema.description;
      hoistDescription(jsonSchema);
      delete jsonSchema.propertyNames;
      // Notes and anchors are free in every map.
      if (jsonSchema.type === "object") jsonSchema.patternProperties = { "^x-": {} };
    },
  });
  return { $schema: schema.$schema, title: "eval-hive config", ...schema };
}

/** A field that may be null is explained by its other form: editors show what stands outside. */
function hoistDescription(schema: JsonSchema): void {
  const { anyOf } = schema;
  if (!Array.isArray(anyOf) || schema["description"] !== undefined) return;
  const explained = (anyOf as JsonSchema[]).find(({ description }) => description !== undefined);
  if (explained === undefined) return;
  schema["description"] = explained["description"];
  delete explained["description"];
}
