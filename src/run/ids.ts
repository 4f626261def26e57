/** `{model_key}--{label}` after sanitising: one set of weights. The CLI and the manifest call it task key. */
export type UnitId = string & { readonly __brand: "UnitId" };
/** A leaf's name, with `~{hash6}` when a group gives it overrides. */
export type LeafId = string & { readonly __brand: "LeafId" };
/** Hash of unit, generation and leaf fingerprints: at most 40 characters of [a-z0-9-]. */
export type BatchId = string & { readonly __brand: "BatchId" };
/** One life of one lead agent, e.g. `local-p4242-9f3a61c0`: [a-z0-9-], at most 60 characters, never used twice. */
export type OwnerId = string & { readonly __brand: "OwnerId" };
/** `fp1:` and 64 hex digits. */
export type Fingerprint = string & { readonly __brand: "Fingerprint" };
/** `{unit id}.g{generation}`: what one spec file publishes. */
export type ShardId = string & { readonly __brand: "ShardId" };

/** The first 12 digits of a fingerprint, as in file names. */
export function shortFingerprint(fingerprint: Fingerprint): string {
  return fingerprint.slice(fingerprint.indexOf(":") + 1).slice(0, 12);
}

export function shardId(unit: UnitId, generation: number): ShardId {
  return `${unit}.g${generation}` as ShardId;
}

/** The original's rule for task keys: every character outside [a-zA-Z0-9_-] becomes a dash. */
function sanitizeKeyPart(part: string): string {
  return part.replace(/[^a-zA-Z0-9_-]/gu, "-");
}

export function unitId(modelKey: string, label: string): UnitId {
  return `${sanitizeKeyPart(modelKey)}--${sanitizeKeyPart(label)}` as UnitId;
}
