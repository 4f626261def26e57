import type { Finding } from "./issue.ts";
import type { Config } from "./schema.ts";
import { submitKeys } from "./slurm-block.ts";

/** What a valid config had better say or leave out. */
export function findWarnings(config: Config): Finding[] {
  return [...aboutSlurm(config), ...aboutActivation(config), ...aboutModels(config)];
}

function aboutSlurm(config: Config): Finding[] {
  const missing = submitKeys.filter((key) => config[key] === null);
  if (missing.length === 0) return [];
  return [
    {
      path: [],
      message: `submit needs ${missing.join(", ")}`,
      hint: "A local run does not; leave them out if you never submit.",
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

function aboutModels(config: Config): Finding[] {
  return Object.entries(config.models).flatMap(([key, entry]): Finding[] => {
    const findings: Finding[] = [];
    const path = ["models", key];
    if (entry.checkpoint_pattern !== null) {
      if (entry.train_batch_size === null && entry.tokens_trained === null) {
        const message = `"${key}" has no train_batch_size: its results won't know tokens_trained`;
        findings.push({ path, at: "key", message });
      }
    } else if (entry.tokens_trained === null) {
      findings.push({ path, at: "key", message: `"${key}" has no tokens_trained` });
    }
    return [...findings, ...aboutVariables(config, key)];
  });
}

/** Variables that nothing uses: usually a misspelled one. */
function aboutVariables(config: Config, key: string): Finding[] {
  const { models, ...settings } = config;
  const text = JSON.stringify([settings, models[key]?.profile], (_key, value: unknown) =>
    typeof value === "bigint" ? Number(value) : value,
  );
  return Object.keys(models[key]?.vars ?? {})
    .filter((name) => !text.includes(`\${${name}}`))
    .map((name) => ({
      path: ["models", key, "vars", name],
      at: "key" as const,
      message: `"${name}" is used nowhere`,
      hint: `Write it as "\${${name}}" where its value belongs.`,
    }));
}
