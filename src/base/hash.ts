import { hash } from "node:crypto";

/** In hexadecimal. Apart from all else: to load node:crypto takes longer than what many commands do. */
export function sha256(text: string | Uint8Array): string {
  return hash("sha256", text);
}
