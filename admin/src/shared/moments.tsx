/** What is shown where there is nothing. */
export const NOTHING = "–";

const FORMAT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A time in the words of this machine's language and zone; the exact one, in UTC, on pointing at it. */
export function Moment({ at }: { readonly at: string | null | undefined }) {
  if (at === null || at === undefined) return NOTHING;
  return (
    <time dateTime={at} title={at}>
      {momentText(at)}
    </time>
  );
}

/** The same, as text. */
export function momentText(at: string | null): string {
  return at === null ? NOTHING : FORMAT.format(new Date(at));
}
