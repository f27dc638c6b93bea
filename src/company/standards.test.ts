import { describe, expect, test } from "vitest";
import { canonicalLanguage, isCurrency, isTimezone } from "./standards.ts";

describe("a language of BCP 47", () => {
  test.each([
    ["en", "en"],
    ["EN-us", "en-US"],
    ["zh-hant-tw", "zh-Hant-TW"],
    ["sr-Cyrl-RS", "sr-Cyrl-RS"],
    ["de-1996", "de-1996"],
    ["sl-rozaj-biske", "sl-biske-rozaj"],
    ["es-419", "es-419"],
    ["iw", "he"],
    ["en-u-ca-gregory", "en-u-ca-gregory"],
  ])("%s is kept as %s", (text, kept) => {
    expect(canonicalLanguage(text)).toBe(kept);
  });

  test.each([
    ["an unregistered language", "xx"],
    ["an unregistered region", "en-ZY"],
    ["an unregistered script", "en-Abcd"],
    ["an unregistered variant", "en-abcde"],
    ["an underscore", "en_US"],
    ["private use alone", "x-klingon"],
    ["a grandfathered tag without a language", "i-default"],
    ["nothing", ""],
    ["a blank", "en US"],
    [
      "a tag of 36 characters",
      `en-x-${"a".repeat(8)}-${"b".repeat(8)}-${"c".repeat(8)}-${"d".repeat(4)}`,
    ],
    ["a name of Object.prototype", "constructor"],
  ])("is not %s", (_, text) => {
    expect(canonicalLanguage(text)).toBeUndefined();
  });
});

describe("a currency of ISO 4217", () => {
  test.each(["EUR", "EGP", "USD", "JPY", "XOF"])("is %s", (code) => {
    expect(isCurrency(code)).toBe(true);
  });

  test.each(["eur", "EURO", "DEM", "HRK", "BTC", "XXX", ""])("is not %s", (code) => {
    expect(isCurrency(code)).toBe(false);
  });
});

describe("a time zone of IANA", () => {
  test.each([
    "UTC",
    "Africa/Cairo",
    "America/Argentina/Buenos_Aires",
    "Asia/Calcutta",
    "Asia/Kolkata",
    "Etc/GMT+5",
  ])("is %s", (name) => {
    expect(isTimezone(name)).toBe(true);
  });

  test.each(["utc", "PST", "+02:00", "Cairo", "Africa/Atlantis", "africa/cairo", "", "Etc/../UTC"])(
    "is not %s",
    (name) => {
      expect(isTimezone(name)).toBe(false);
    },
  );
});
