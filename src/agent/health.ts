import { messageOf } from "../base/errors.ts";

const timeoutMs = 5_000;

export type Health = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** Asks a server's /health: 200 is well. */
export async function askHealth(url: string, signal: AbortSignal): Promise<Health> {
  try {
    const response = await fetch(`${url}/health`, { signal: deadline(signal) });
    await response.body?.cancel();
    if (response.status === 200) return { ok: true };
    return { ok: false, reason: `/health answers ${response.status}` };
  } catch (error) {
    signal.throwIfAborted();
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return { ok: false, reason: `/health does not answer: ${messageOf(cause)}` };
  }
}

/** A server that has no time for one question may have it for the next. */
const maxTries = 3;

/**
 * The models that a server names at /v1/models; undefined when it has no such list. It is asked again when it does not answer:
 * servers that seem to differ in this count as different ones.
 */
export async function askModels(
  url: string,
  signal: AbortSignal,
): Promise<readonly string[] | undefined> {
  for (let tries = 1; ; tries++) {
    try {
      return await readModels(url, signal);
    } catch {
      signal.throwIfAborted();
      if (tries === maxTries) return undefined;
    }
  }
}

/** @throws when it does not answer, or with what is no JSON. */
async function readModels(
  url: string,
  signal: AbortSignal,
): Promise<readonly string[] | undefined> {
  const response = await fetch(`${url}/v1/models`, { signal: deadline(signal) });
  if (response.status !== 200) {
    await response.body?.cancel();
    return undefined;
  }
  const { data } = (await response.json()) as { data?: unknown };
  if (!Array.isArray(data)) return undefined;
  return data.map((model: { id?: unknown }) => String(model?.id));
}

function deadline(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
}
