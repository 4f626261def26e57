/** Puts values in the place of `${NAME}` and `$NAME`, as model_args have them; those of unknown names stay. Pure. */
export function fillPlaceholders(text: string, env: NodeJS.ProcessEnv): string {
  return text.replace(
    /\$(?:\{(\w+)\}|(\w+))/g,
    (whole, a?: string, b?: string) => env[a ?? b ?? ""] ?? whole,
  );
}
