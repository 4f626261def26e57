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

/** The models that a server names at /v1/models; undefined when it has no such list. */
export async function askModels(
  url: string,
  signal: AbortSignal,
): Promise<readonly string[] | undefined> {
  try {
    const response = await fetch(`${url}/v1/models`, { signal: deadline(signal) });
    if (response.status !== 200) {
      await response.body?.cancel();
      return undefined;
    }
    const { data } = (await response.json()) as { data?: unknown };
    if (!Array.isArray(data)) return undefined;
    return data.map((model: { id?: unknown }) => String(model?.id));
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

function deadline(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
}
