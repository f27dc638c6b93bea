import * as fc from "fast-check";

/** A value as it is written: also what no JavaScript value is, such as 1e400 or a list 20,000 deep. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  /** For reports of a failure. */
  toString(): string {
    return this.text.length > 200 ? `${this.text.slice(0, 200)}… (${this.text.length})` : this.text;
  }
}

/** A value as JSON; of an object every own key, `__proto__` like any other. */
export function writeJson(value: unknown): string {
  if (value instanceof JsonText) return value.text;
  if (Array.isArray(value)) return `[${value.map(writeJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const fields = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return `{${fields.map(([key, inner]) => `${JSON.stringify(key)}:${writeJson(inner)}`).join(",")}}`;
}

/** A text as an encoding can have it: half a character becomes U+FFFD. */
export function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}

/** What no column of PostgreSQL takes, but JSON and addresses carry: the first to be forgotten. */
const UNSTORABLE: readonly string[] = [
  "\u0000",
  "a\u0000b",
  "\ud800",
  "a\udfffb",
  "9007199254740991",
  "9223372036854775808",
  "a".repeat(5_001),
];

/** Texts that have broken servers: of SQL, paths, encodings, templates, JavaScript. */
const TEXTS: readonly string[] = [
  "",
  " ",
  "\ud83d\ude00",
  "\ufeff\u202e\u200b",
  "\r\nSet-Cookie: a=b",
  "\u001b[31m",
  "'",
  "''; drop table users; --",
  "%",
  "_%\\",
  "\\",
  "$1",
  "${1}",
  "{{7*7}}",
  "../../../../etc/passwd",
  "..%2f..%2f",
  "/",
  "//evil.test/",
  "<script>alert(1)</script>",
  "null",
  "true",
  "NaN",
  "-1",
  "0",
  "1e3",
  "0x10",
  "1.5",
  "2147483648",
  "9007199254740993",
  "9223372036854775807",
  "18446744073709551616",
  "-9223372036854775809",
  "1".repeat(400),
  "Infinity",
  "__proto__",
  "constructor",
  "toString",
  "0001-01-01T00:00:00Z",
  "9999-12-31T23:59:59+23:59",
  "+275760-09-13T00:00:00Z",
  "2027-02-30T00:00:00Z",
  "2027-01-01T00:00:60Z",
  "2027-01-01",
  "ada@corp.test\u0000",
  "a@b",
  `${"a".repeat(64)}@${"b".repeat(180)}.test`,
  "ADA@CORP.TEST ",
  "+20100000000000000000",
  "+1",
  "İ",
  "ﬀ",
  "٣٣٣٣٣٣",
];

const numbers = [
  "0",
  "-0",
  "-1",
  "1.5",
  "1e3",
  "2147483647",
  "2147483648",
  "-2147483649",
  "9007199254740991",
  "9007199254740993",
  "9223372036854775807",
  "9223372036854775808",
  "18446744073709551616",
  "1e308",
  "1e400",
  "-1e400",
  "5e-324",
];

const others = ["null", "true", "false", "[]", "{}", "[[]]", '[""]', '{"id":1}', '{"toString":1}'];

/** Names that a body has no business with: of what is stored, of JavaScript, of nothing. */
const KEYS = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "hasOwnProperty",
  "then",
  "id",
  "is_system_role",
  "is_tenant_admin",
  "is_deleted",
  "tenant_id",
  "extra",
  "",
  "a.b",
  "\u0000",
  "\ud800",
];

/** Levels of what is nested: far beyond what a schema reads, within the largest body. */
const levels = fc.constantFrom(30, 1_000, 8_000, 20_000);

const deep = fc.oneof(
  levels.map((count) => "[".repeat(count) + "]".repeat(count)),
  fc.constantFrom(30, 1_000, 8_000).map((count) => '{"a":'.repeat(count) + "1" + "}".repeat(count)),
);

const longTexts = fc
  .tuple(fc.constantFrom("a", "é", "\u{1f600}", "'", "%", "9"), fc.constantFrom(255, 5_001, 15_000))
  .map(([unit, count]) => unit.repeat(count));

/** Texts that are not meant well, of any length. */
export const hostileTexts: fc.Arbitrary<string> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...UNSTORABLE) },
  { weight: 6, arbitrary: fc.constantFrom(...TEXTS) },
  { weight: 1, arbitrary: longTexts },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
  { weight: 1, arbitrary: fc.string({ maxLength: 40 }) },
);

/** Values of a field that are not meant well. */
export const hostileJson: fc.Arbitrary<JsonText> = fc
  .oneof(
    { weight: 6, arbitrary: hostileTexts.map((text) => JSON.stringify(text)) },
    { weight: 4, arbitrary: fc.constantFrom(...numbers) },
    { weight: 4, arbitrary: fc.constantFrom(...others) },
    { weight: 1, arbitrary: deep },
    { weight: 1, arbitrary: fc.json() },
  )
  .map((text) => new JsonText(text));

export const hostileKeys: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...KEYS) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
);

/** A part of a path or of a query, escaped so that it stays that part, or not escaped rightly. */
export const hostileParts: fc.Arbitrary<string> = fc.oneof(
  {
    weight: 5,
    arbitrary: hostileTexts
      .map((text) => encodeURIComponent(wellFormed(text)))
      // An empty part, or one of dots, is another path.
      .filter((text) => text.length > 0 && !/^(\.|%2e){1,2}$/i.test(text)),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom("%00", "%ED%A0%80", "%FF", "%", "%zz", "%u0041", "%C0%AF"),
  },
);

/** Whole bodies that are no JSON object, or not of the type that they say. */
export const rawBodies: fc.Arbitrary<{ readonly type: string; readonly bytes: Buffer }> = fc.record(
  {
    type: fc.oneof(
      { weight: 3, arbitrary: fc.constant("application/json") },
      {
        weight: 2,
        arbitrary: fc.constantFrom(
          "application/json; charset=utf-16",
          "application/json;",
          "application/vnd.api+json",
          "text/json",
          "text/plain",
          "text/html",
          "application/x-www-form-urlencoded",
          "multipart/form-data; boundary=x",
          "image/png",
          "image/webp",
          "application/octet-stream",
          "nonsense",
          "a/b/c",
        ),
      },
    ),
    bytes: fc.oneof(
      fc
        .constantFrom(
          "",
          " ",
          "{",
          "}",
          '{"a":1,}',
          "{'a':1}",
          '{"a":1}{"a":1}',
          "null",
          "true",
          "1",
          '"text"',
          "[]",
          "[{}]",
          "NaN",
          "\ufeff{}",
          '{"a":"\u0000"}',
          '{"a":"\\u00"}',
          '{"__proto__":{"is_tenant_admin":true}}',
          '{"constructor":{"prototype":{"x":1}}}',
          "a=1&b=2",
          "--x\r\n\r\n--x--",
          "<a/>",
        )
        .map((text) => Buffer.from(text)),
      deep.map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(70_000, 600_000).map((size) => Buffer.alloc(size, 0x20)),
    ),
  },
);

/** What stands in `Authorization` and is no token of this service. */
export const hostileCredentials: fc.Arbitrary<string> = fc.constantFrom(
  "Bearer",
  "Bearer ",
  "Bearer a.b.c",
  "Bearer null",
  "Basic YTpi",
  "bearer x",
  `Bearer ${"a".repeat(8_000)}`,
  // {"alg":"none","typ":"at+jwt"} and {"sub":"1","tid":1,"sid":1}
  "Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiIxIiwidGlkIjoxLCJzaWQiOjF9.",
  // A header of [[[… instead of an object.
  `Bearer ${Buffer.from("[".repeat(3_000)).toString("base64url")}.e30.x`,
);

/** Names of tenants that are none, as a header can carry them. */
export const hostileTenants: fc.Arbitrary<string> = fc.constantFrom(
  "",
  " ",
  "nobody",
  "__proto__",
  "constructor",
  "'; drop schema public; --",
  "..",
  "*",
  "a".repeat(300),
  "1",
  "xn--",
);
