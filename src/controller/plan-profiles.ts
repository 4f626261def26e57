import type { Profile } from "../run/plan.ts";

/** A profile as the config gives it, before lm_eval has said what follows from it. */
export type ProfileSettings = Omit<Profile, "inputs" | "fingerprints">;
