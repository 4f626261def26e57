import { canonicalJson, type Json } from "../base/json.ts";
import { resolveProfile, type Settings } from "../config/profile.ts";
import type { Config } from "../config/schema.ts";
import type { UnitId } from "../run/ids.ts";
import type { Profile } from "../run/plan.ts";
import type { ResolvedUnits } from "./checkpoints.ts";

/** A profile as the config gives it, before lm_eval has said what follows from it. */
export type ProfileSettings = Omit<Profile, "inputs" | "fingerprints">;

export interface PlannedProfiles {
  readonly byName: Readonly<Record<string, ProfileSettings>>;
  readonly ofUnit: ReadonlyMap<UnitId, string>;
}

/**
 * One profile per distinct group of settings: most configs have one. It is called `default`, or after the first model entry
 * that brings other settings than the ones before.
 */
export function planProfiles(config: Config, units: ResolvedUnits): PlannedProfiles {
  const byName: Record<string, ProfileSettings> = {};
  const nameOf = new Map<string, string>();
  const ofEntry = new Map<string, string>();
  const ofUnit = new Map<UnitId, string>();
  for (const [unit, entry] of units.entryOf) {
    let name = ofEntry.get(entry);
    if (name === undefined) {
      const settings = profileSettings(resolveProfile(config, entry));
      const content = canonicalJson(settings as unknown as Json);
      name = nameOf.get(content) ?? (nameOf.size === 0 ? "default" : entry);
      nameOf.set(content, name);
      byName[name] = settings;
      ofEntry.set(entry, name);
    }
    ofUnit.set(unit, name);
  }
  return { byName, ofUnit };
}

function profileSettings(settings: Settings): ProfileSettings {
  return {
    server_command: settings.inference_server_command,
    num_servers: settings.num_inference_servers,
    slots: settings.task_batch_size === null ? 1 : settings.parallel_tasks,
    env_vars: settings.env_vars ?? {},
    health_check_max_wait_s: settings.health_check_max_wait_minutes * 60,
    health_check_interval_s: settings.health_check_interval_seconds,
    server_start_max_attempts: settings.server_start_max_attempts,
    model_args: settings.eval.model_args,
    lm_eval_args: settings.eval.lm_eval_args,
    request_timeout_s: settings.eval.timeout,
    request_retries: settings.eval.max_retries,
    phase_timeout_s: settings.eval.phase_timeout_minutes * 60,
    request_cache_dir: settings.request_cache_dir,
    journal:
      settings.journal && settings.inference_server_command !== null
        ? { directory: settings.journal_dir, limit_bytes: settings.journal_max_gib * 2 ** 30 }
        : null,
    engine: settings.harness_engine,
    offline: settings.offline,
  };
}
