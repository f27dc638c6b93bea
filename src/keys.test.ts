import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { isEqual, keyId, Keys, randomCode, randomToken, sha256 } from "./keys.ts";

const newSecret = () => randomBytes(48).toString("base64");
const material = () => ({ secretKey: newSecret(), encryptionKey: newSecret() });

/** The keys after a rotation: new ones, which know the old ones. */
const rotated = (old: ReturnType<typeof material>) =>
  new Keys({
    ...material(),
    secretKeyPrevious: old.secretKey,
    encryptionKeyPrevious: old.encryptionKey,
  });

describe("Keys.seal", () => {
  test("what was sealed opens in its own context, whatever the script", () => {
    const keys = new Keys(material());

    for (const text of ["", "482913", "رمز 🙂 \u0000 end"]) {
      expect(keys.open(keys.seal(text, "message of tenant 1"), "message of tenant 1")).toBe(text);
    }
  });

  test("what was sealed for one tenant does not open for another", () => {
    const keys = new Keys(material());
    const sealed = keys.seal("482913", "message of tenant 1");

    expect(() => keys.open(sealed, "message of tenant 2")).toThrow(Error);
  });

  test("no byte can be changed, in the version, the IV, the tag or the text", () => {
    const keys = new Keys(material());
    const sealed = keys.seal("482913", "here");

    for (let index = 0; index < sealed.length; index += 1) {
      const changed = Buffer.from(sealed);
      changed[index] = (changed[index] ?? 0) ^ 1;
      expect(() => keys.open(changed, "here"), `byte ${index}`).toThrow(Error);
    }
  });

  test("nothing shorter than what was sealed opens", () => {
    const keys = new Keys(material());
    const sealed = keys.seal("482913", "here");

    for (let length = 0; length < sealed.length; length += 1) {
      expect(() => keys.open(sealed.subarray(0, length), "here"), `${length} bytes`).toThrow(Error);
    }
  });

  test("another key opens nothing, and the text is not to be seen", () => {
    const sealed = new Keys(material()).seal("a text to look for", "here");

    expect(sealed.includes("a text to look for")).toBe(false);
    expect(() => new Keys(material()).open(sealed, "here")).toThrow(Error);
  });

  test("the same text is sealed differently each time", () => {
    const keys = new Keys(material());

    expect(keys.seal("482913", "here").equals(keys.seal("482913", "here"))).toBe(false);
  });
});

describe("Keys.open after a rotation", () => {
  test("what the previous key sealed opens, and is outdated", () => {
    const old = material();
    const sealed = new Keys(old).seal("482913", "here");
    const keys = rotated(old);

    expect(keys.open(sealed, "here")).toBe("482913");
    expect(keys.isOutdated(sealed)).toBe(true);
    expect(() => keys.open(sealed, "there")).toThrow(Error);
  });

  test("what is sealed now is sealed with the new key alone", () => {
    const old = material();
    const keys = rotated(old);
    const sealed = keys.seal("482913", "here");

    expect(keys.open(sealed, "here")).toBe("482913");
    expect(keys.isOutdated(sealed)).toBe(false);
    expect(() => new Keys(old).open(sealed, "here")).toThrow("known here");
  });

  test("without the previous key, or two rotations later, it does not open", () => {
    const old = material();
    const sealed = new Keys(old).seal("482913", "here");
    const { encryptionKey } = material();

    const without = new Keys({ ...old, encryptionKey });
    const later = rotated({ ...old, encryptionKey });

    for (const keys of [without, later]) {
      expect(() => keys.open(sealed, "here")).toThrow("known here");
    }
  });

  test("bytes that name the other key do not open with it", () => {
    const old = material();
    const keys = rotated(old);
    const [fromOld, fromNew] = [new Keys(old).seal("1", "here"), keys.seal("1", "here")];
    const head = 5;
    const swapped = Buffer.concat([fromNew.subarray(0, head), fromOld.subarray(head)]);

    expect(() => keys.open(swapped, "here")).toThrow(Error);
  });

  test("the bytes name their key without giving it away", () => {
    const old = material();
    const id = (keys: Keys) => keys.seal("", "here").subarray(1, 5);

    expect(id(new Keys(old))).toEqual(id(new Keys(old)));
    expect(id(new Keys(old))).not.toEqual(id(new Keys(material())));
  });
});

describe("Keys.isMac", () => {
  test("takes a mac of the present and of the previous SECRET_KEY, and makes the present one", () => {
    const old = material();
    const keys = rotated(old);
    const before = new Keys(old).mac("otp", 1, "482913");
    const now = keys.mac("otp", 1, "482913");

    expect(keys.isMac(before, "otp", 1, "482913")).toBe(true);
    expect(keys.isMac(now, "otp", 1, "482913")).toBe(true);
    expect(now).not.toEqual(before);
  });

  test("takes no mac of other parts, of another purpose or of a key that is gone", () => {
    const old = material();
    const keys = rotated(old);
    const before = new Keys(old).mac("otp", 1, "482913");

    expect(keys.isMac(before, "otp", 2, "482913")).toBe(false);
    expect(keys.isMac(before, "refresh-token", 1, "482913")).toBe(false);
    expect(keys.isMac(before.subarray(1), "otp", 1, "482913")).toBe(false);
    expect(new Keys(material()).isMac(before, "otp", 1, "482913")).toBe(false);
  });
});

describe("Keys.previousOf", () => {
  test("is what `of` was before the rotation, and nothing where there was none", () => {
    const old = material();

    expect(rotated(old).previousOf("access-token")).toEqual(new Keys(old).of("access-token"));
    expect(new Keys(old).previousOf("access-token")).toBeUndefined();
  });
});

describe("keyId", () => {
  test("is the same for the same key and another for another", () => {
    const key = randomBytes(32);

    expect(keyId(key)).toBe(keyId(Buffer.from(key)));
    expect(keyId(key)).not.toBe(keyId(randomBytes(32)));
    expect(keyId(key)).toMatch(/^[A-Za-z0-9_-]{8}$/);
  });
});

describe("Keys.mac", () => {
  test("is the same for the same parts", () => {
    const keys = new Keys(material());

    expect(keys.mac("otp", 1, "+201001234567", "482913")).toEqual(
      keys.mac("otp", 1, "+201001234567", "482913"),
    );
  });

  test("parts cannot run into each other", () => {
    const keys = new Keys(material());
    const macs = [
      keys.mac("otp", "ab", "c"),
      keys.mac("otp", "a", "bc"),
      keys.mac("otp", "abc"),
      keys.mac("otp", "abc", ""),
      keys.mac("otp", "", "abc"),
      keys.mac("otp", "1:a", "b"),
      keys.mac("otp", "a1:b"),
      keys.mac("otp", "a", "1:b"),
    ];

    expect(new Set(macs.map((mac) => mac.toString("hex"))).size).toBe(macs.length);
  });

  test("every purpose and every secret has a mac of its own", () => {
    const keys = new Keys(material());
    const mac = keys.mac("otp", "a");

    expect(keys.mac("refresh-token", "a")).not.toEqual(mac);
    expect(new Keys(material()).mac("otp", "a")).not.toEqual(mac);
  });

  test("bytes count by their length, not by their text", () => {
    const keys = new Keys(material());

    expect(keys.mac("otp", Buffer.from("é"))).toEqual(keys.mac("otp", "é"));
    expect(keys.mac("otp", Buffer.of(0xff))).not.toEqual(keys.mac("otp", Buffer.of(0xfe)));
  });
});

describe("randomCode", () => {
  test("has all its digits, leading zeros included", () => {
    const codes = Array.from({ length: 2_000 }, () => randomCode(6));

    for (const code of codes) expect(code).toMatch(/^\d{6}$/);
    // The chance that none of 2,000 begins with a zero is 0.9^2000.
    expect(codes.some((code) => code.startsWith("0"))).toBe(true);
  });
});

describe("randomToken", () => {
  test("is 256 bits of base64url, never the same", () => {
    const tokens = Array.from({ length: 100 }, randomToken);

    for (const token of tokens) expect(token).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(new Set(tokens).size).toBe(tokens.length);
  });
});

describe("isEqual", () => {
  test("tells equal bytes from others, of any length", () => {
    expect(isEqual(sha256("a"), sha256("a"))).toBe(true);
    expect(isEqual(sha256("a"), sha256("b"))).toBe(false);
    expect(isEqual(Buffer.of(1, 2), Buffer.of(1))).toBe(false);
  });
});
