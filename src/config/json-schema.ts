import { z } from "zod";
import { Config } from "./schema.ts";

export type JsonSchema = Record<string, unknown>;

/** The schema of a config file for editors (JSON Schema, draft 7): what may be written, with defaults and explanations. */
export function configJsonSchema(): JsonSchema {
  const schema = z.toJSONSchema(Config, {
    io: "input",
    target: "draft-7",
    unrepresentable: "any",
    override: ({ jsonSchema }) => {
      delete jsonSchema.propertyNames;
      // Notes and anchors are free in every map.
      if (jsonSchema.type === "object") jsonSchema.patternProperties = { "^x-": {} };
    },
  });
  return { $schema: schema.$schema, title: "eval-hive config", ...schema };
}
