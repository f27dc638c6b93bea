/** Largest `feature_flags`, as JSON: a few hundred flags. */
const BYTES_MAX = 16 * 1_024;

/** Objects and lists within one another. */
const DEPTH_MAX = 20;

/** What jsonb cannot hold: NUL, and half of a character. */
const UNSTORABLE = /[\u0000\p{Cs}]/u;

/** Why some flags cannot be kept, as a sentence; undefined when they can. */
export function findFault(flags: Readonly<Record<string, unknown>>): string | undefined {
  // First: what is too deep cannot be written out either.
  if (!isShallow(flags, DEPTH_MAX)) return `At most ${DEPTH_MAX} levels.`;
  if (Buffer.byteLength(JSON.stringify(flags)) > BYTES_MAX)
    return `At most ${BYTES_MAX} bytes of JSON.`;
  return hasUnstorable(flags) ? "A text has a character that cannot be stored." : undefined;
}

function isShallow(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return levels > 0 && Object.values(value).every((inner) => isShallow(inner, levels - 1));
}

function hasUnstorable(value: unknown): boolean {
  if (typeof value === "string") return UNSTORABLE.test(value);
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, inner]) => UNSTORABLE.test(key) || hasUnstorable(inner));
}
