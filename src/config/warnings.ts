import { stringifyJson } from "../base/json.ts";
import type { Finding, KeyPath } from "./issue.ts";
import type { ModelEntry } from "./model-block.ts";
import { offlineSwitches } from "./offline.ts";
import type { Config } from "./schema.ts";
import { submitKeys } from "./slurm-block.ts";

/** What a valid config had better say or leave out. */
export function findWarnings(config: Config): Finding[] {
  return [
    ...aboutSlurm(config),
    ...aboutActivation(config),
    ...aboutOffline(config),
    ...aboutModels(config),
  ];
}

function aboutSlurm(config: Config): Finding[] {
  const missing = submitKeys.filter((key) => config[key] === null);
  // Without any of them it is a config for runs on one machine.
  if (missing.length === 0 || missing.length === submitKeys.length) return [];
  return [
    {
      path: [],
      message: `submit also needs ${missing.join(", ")}`,
      hint: "Only a run on this machine can do without.",
    },
  ];
}

function aboutActivation(config: Config): Finding[] {
  if (config.env_activation_command === null || config.pixi_env === null) return [];
  return [
    {
      path: ["env_activation_command"],
      at: "key",
      message: "pixi_env is not used, since env_activation_command is set",
    },
  ];
}

/** Variables that say something else than `offline`: they win. */
function aboutOffline({ offline, env_vars, models }: Config): Finding[] {
  const wins = (variables: Readonly<Record<string, string>> | null, path: KeyPath): Finding[] =>
    Object.keys(offlineSwitches).flatMap((name) => {
      const value = variables?.[name];
      const isOn = /^(1|on|yes|true)$/i.test(value?.trim() ?? "");
      if (value === undefined || isOn === (offline !== "never")) return [];
      return [
        {
          path: [...path, name],
          at: "key",
          message: `${name}: ${JSON.stringify(value)} wins over offline: ${offline}`,
          hint: "Leave it out of env_vars, or change offline.",
        },
      ];
    });
  return [
    ...wins(env_vars, ["env_vars"]),
    ...Object.entries(models).flatMap(([key, { profile }]) =>
      wins(profile.env_vars ?? null, ["models", key, "profile", "env_vars"]),
    ),
  ];
}

function aboutModels(config: Config): Finding[] {
  const entries = Object.entries(config.models);
  const untold = entries.filter(([, entry]) => entry.tokens_trained === null);
  const series = untold.filter(
    ([, { checkpoint_pattern, train_batch_size }]) =>
      checkpoint_pattern !== null && train_batch_size === null,
  );
  const single = untold.filter(([, { checkpoint_pattern }]) => checkpoint_pattern === null);
  return [
    ...aboutTokens(series, "train_batch_size", "train_batch_size: 2_097_152"),
    ...aboutTokens(single, "tokens_trained", "tokens_trained: 100B"),
    ...entries.flatMap(([key]) => aboutNotes(key)),
    ...aboutVariables(config),
  ];
}

/** One warning for all entries that lack the same: there may be hundreds. */
function aboutTokens(
  entries: readonly (readonly [key: string, ModelEntry])[],
  missing: string,
  example: string,
): Finding[] {
  const names = entries.map(([key]) => `"${key}"`);
  const [first] = entries;
  if (first === undefined) return [];
  const shown = names.slice(0, 3).join(", ");
  const who =
    names.length === 1
      ? `${shown} has`
      : `${shown}${names.length > 3 ? ` and ${names.length - 3} more` : ""} have`;
  return [
    {
      path: ["models", first[0]],
      at: "key",
      message: `${who} no ${missing}, so the results can't say how many tokens were seen in training`,
      hint: `Add it, e.g. ${example}.`,
    },
  ];
}

/** An anchor's place that happens to be a whole model entry. */
function aboutNotes(key: string): Finding[] {
  if (!key.startsWith("x-")) return [];
  return [
    {
      path: ["models", key],
      at: "key",
      message: `"${key}" is evaluated as a model, since it has a path and a display_name`,
      hint: "If it is a place for an anchor, leave one of the two out, or move it to the top of the file.",
    },
  ];
}

/** Variables that nothing uses: usually a misspelled one. */
function aboutVariables({ models, ...settings }: Config): Finding[] {
  const entries = Object.entries(models).filter(([, { vars }]) => Object.keys(vars).length > 0);
  if (entries.length === 0) return [];
  const shared = stringifyJson(settings);
  return entries.flatMap(([key, { vars, profile }]) => {
    const own = stringifyJson(profile);
    return Object.keys(vars)
      .filter((name) => !shared.includes(`\${${name}}`) && !own.includes(`\${${name}}`))
      .map(
        (name): Finding => ({
          path: ["models", key, "vars", name],
          at: "key",
          message: `"${name}" is used nowhere`,
          hint: `Write it as "\${${name}}" where its value belongs.`,
        }),
      );
  });
}
