import { createRequire } from "node:module";

/** What a subtag is registered as: its types are the keys. */
type SubtagIndex = Readonly<Record<string, Readonly<Record<string, number>> | undefined>>;

let subtags: SubtagIndex | undefined;

/** IANA's registry of subtags, read when it is first asked for, as data: Node 20 warns of JSON that is imported. */
function knownSubtags(): SubtagIndex {
  subtags ??= createRequire(import.meta.url)(
    "language-subtag-registry/data/json/index.json",
  ) as SubtagIndex;
  return subtags;
}

/** Longest language tag: RFC 5646 §4.4.1 finds 35 characters enough for all but private use. */
export const LANGUAGE_LENGTH_MAX = 35;

/** Longest name of a time zone: IANA's own have at most 32 characters. */
const TIMEZONE_LENGTH_MAX = 64;

/**
 * What ICU still lists and ISO 4217 has withdrawn: Cuba's convertible peso (2021), the kuna (2023), the
 * older leone and Zimbabwe dollar (2024), the Antillean guilder (2025), the lev (2026).
 */
const WITHDRAWN_CURRENCIES = new Set(["CUC", "HRK", "SLL", "ZWL", "ANG", "BGN"]);

const CURRENCIES = new Set(
  Intl.supportedValuesOf("currency").filter((code) => !WITHDRAWN_CURRENCIES.has(code)),
);

/** Whether a text is a currency in use of ISO 4217, in capitals, as of Node's ICU. */
export function isCurrency(text: string): boolean {
  return CURRENCIES.has(text);
}

/**
 * Whether a text is a time zone of the IANA database: an area and a place, older names of which there
 * are links included, or UTC. Offsets (+02:00) and abbreviations (PST) say too little about a year.
 */
export function isTimezone(text: string): boolean {
  if (text === "UTC") return true;
  if (text.length > TIMEZONE_LENGTH_MAX || !/^[A-Z][A-Za-z_]*(\/[A-Za-z0-9_+-]+)+$/.test(text)) {
    return false;
  }
  try {
    return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}

/**
 * A language tag in its canonical form (`en-us` → `en-US`, `iw` → `he`), or undefined when it is not well
 * formed or has a language, script, region or variant that is not registered. RFC 5646 §2.2.9 calls the rest
 * valid; private use alone and grandfathered tags name no language that could be shown.
 * https://www.rfc-editor.org/rfc/rfc5646#section-2.2.9
 */
export function canonicalLanguage(text: string): string | undefined {
  if (text.length > LANGUAGE_LENGTH_MAX) return undefined;
  try {
    const [tag = ""] = Intl.getCanonicalLocales(text);
    const { language, script, region, baseName } = new Intl.Locale(tag);
    const rest = baseName.split("-").slice(1);
    const variants = rest.filter((subtag) => subtag !== script && subtag !== region);
    const isRegistered =
      isSubtag(language, "language") &&
      (script === undefined || isSubtag(script, "script")) &&
      (region === undefined || isSubtag(region, "region")) &&
      variants.every((variant) => isSubtag(variant, "variant"));
    return isRegistered ? tag : undefined;
  } catch {
    return undefined;
  }
}

function isSubtag(text: string, type: string): boolean {
  const known = knownSubtags()[text.toLowerCase()];
  return known !== undefined && Object.hasOwn(known, type);
}
