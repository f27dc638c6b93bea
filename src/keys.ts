import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  hkdfSync,
  randomBytes,
  randomInt,
  timingSafeEqual,
} from "node:crypto";

/** The secrets of the configuration that keys are derived from. */
export interface KeyMaterial {
  readonly secretKey: string;
  /** What SECRET_KEY was before: what was made with it is accepted, nothing is made with it. */
  readonly secretKeyPrevious?: string | undefined;
  readonly encryptionKey: string;
  /** What ENCRYPTION_KEY was before: it opens, it never seals. */
  readonly encryptionKeyPrevious?: string | undefined;
}

/** What a derived key is for; each purpose has a key of its own (RFC 5869). */
type Purpose =
  | "access-token"
  | "archive"
  | "operator-token"
  | "support-token"
  | "refresh-token"
  | "otp"
  | "second-factor-code"
  | "login-failures"
  | "rate-limit";

/** How a sealed text is laid out: this byte, the key's id, IV, tag, ciphertext. */
const SEAL_FORMAT = 2;
const SEAL_KEY_ID_BYTES = 4;
const SEAL_IV_BYTES = 12;
const SEAL_TAG_BYTES = 16;
const SEAL_HEAD_BYTES = 1 + SEAL_KEY_ID_BYTES + SEAL_IV_BYTES + SEAL_TAG_BYTES;

/** A version of ENCRYPTION_KEY, known by an id that comes from the key itself. */
interface SealKey {
  readonly id: Buffer;
  readonly key: Buffer;
}

/** Everything that is keyed: nothing below leaves a key, and no key is in the database. */
export class Keys {
  readonly #secretKey: string;
  readonly #secretKeyPrevious: string | undefined;
  readonly #sealKey: SealKey;
  readonly #sealKeys: readonly SealKey[];
  readonly #derived = new Map<string, Buffer>();

  constructor({ secretKey, secretKeyPrevious, encryptionKey, encryptionKeyPrevious }: KeyMaterial) {
    this.#secretKey = secretKey;
    this.#secretKeyPrevious = secretKeyPrevious;
    this.#sealKey = sealKey(encryptionKey);
    this.#sealKeys =
      encryptionKeyPrevious === undefined
        ? [this.#sealKey]
        : [this.#sealKey, sealKey(encryptionKeyPrevious)];
  }

  /** The key of one purpose, 32 bytes. */
  of(purpose: Purpose): Buffer {
    return this.#derive(this.#secretKey, "", purpose);
  }

  /** The key of one purpose under SECRET_KEY_PREVIOUS; undefined without one. */
  previousOf(purpose: Purpose): Buffer | undefined {
    if (this.#secretKeyPrevious === undefined) return undefined;
    return this.#derive(this.#secretKeyPrevious, "previous ", purpose);
  }

  /** HMAC-SHA-256 over parts that cannot run into each other. */
  mac(purpose: Purpose, ...parts: readonly MacPart[]): Buffer {
    return hmac(this.of(purpose), parts);
  }

  /** Whether `mac` was made of these parts, with SECRET_KEY or with what it was before. */
  isMac(mac: Uint8Array, purpose: Purpose, ...parts: readonly MacPart[]): boolean {
    if (isEqual(mac, this.mac(purpose, ...parts))) return true;
    const previous = this.previousOf(purpose);
    return previous !== undefined && isEqual(mac, hmac(previous, parts));
  }

  /**
   * Encrypts a text for the database with AES-256-GCM. `context` says where it belongs (tenant and
   * row) and must be the same when it is opened.
   * NIST SP 800-38D: with random 96-bit IVs one key seals at most 2^32 messages.
   */
  seal(text: string, context: string): Buffer {
    const iv = randomBytes(SEAL_IV_BYTES);
    const head = Buffer.concat([Buffer.of(SEAL_FORMAT), this.#sealKey.id]);
    const cipher = createCipheriv("aes-256-gcm", this.#sealKey.key, iv);
    cipher.setAAD(Buffer.concat([head, Buffer.from(context)]));
    const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
    return Buffer.concat([head, iv, cipher.getAuthTag(), sealed]);
  }

  /** @throws Error when the bytes were changed, belong elsewhere or are of an unknown key */
  open(sealed: Uint8Array, context: string): string {
    const bytes = Buffer.from(sealed);
    const head = bytes.subarray(0, 1 + SEAL_KEY_ID_BYTES);
    const id = head.subarray(1);
    const found = this.#sealKeys.find((candidate) => candidate.id.equals(id));
    if (head[0] !== SEAL_FORMAT || !found || bytes.length < SEAL_HEAD_BYTES) {
      throw new Error("Not sealed with a key that is known here");
    }
    const iv = bytes.subarray(head.length, head.length + SEAL_IV_BYTES);
    const decipher = createDecipheriv("aes-256-gcm", found.key, iv);
    decipher.setAAD(Buffer.concat([head, Buffer.from(context)]));
    decipher.setAuthTag(bytes.subarray(head.length + SEAL_IV_BYTES, SEAL_HEAD_BYTES));
    const text = bytes.subarray(SEAL_HEAD_BYTES);
    return Buffer.concat([decipher.update(text), decipher.final()]).toString("utf8");
  }

  /** Whether the key that a text was sealed with is known here. */
  canOpen(sealed: Uint8Array): boolean {
    const id = Buffer.from(sealed).subarray(1, 1 + SEAL_KEY_ID_BYTES);
    return sealed[0] === SEAL_FORMAT && this.#sealKeys.some((known) => known.id.equals(id));
  }

  /** Whether a text was sealed with an earlier ENCRYPTION_KEY and is to be sealed anew. */
  isOutdated(sealed: Uint8Array): boolean {
    const id = Buffer.from(sealed).subarray(1, 1 + SEAL_KEY_ID_BYTES);
    return !this.#sealKey.id.equals(id);
  }

  #derive(secret: string, label: string, purpose: Purpose): Buffer {
    const known = this.#derived.get(label + purpose);
    if (known) return known;
    const key = derive(secret, purpose);
    this.#derived.set(label + purpose, key);
    return key;
  }
}

type MacPart = string | number | Uint8Array;

function hmac(key: Buffer, parts: readonly MacPart[]): Buffer {
  const mac = createHmac("sha256", key);
  for (const part of parts) {
    const bytes = typeof part === "number" ? String(part) : part;
    mac.update(`${Buffer.byteLength(bytes)}:`).update(bytes);
  }
  return mac.digest();
}

function sealKey(secret: string): SealKey {
  return {
    id: derive(secret, "seal-id").subarray(0, SEAL_KEY_ID_BYTES),
    key: derive(secret, "seal"),
  };
}

/** A name for a key by which a token says what it was signed with (RFC 7515 §4.1.4); tells nothing of it. */
export function keyId(key: Buffer): string {
  return derive(key.toString("base64"), "key-id").subarray(0, 6).toString("base64url");
}

function derive(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, "", `ouvira/${purpose}`, 32));
}

/** 256 random bits, for links and proofs: 43 characters of base64url. */
export function randomToken(): string {
  return randomBytes(32).toString("base64url");
}

/** A code of `digits` decimal digits from the system's generator, each equally likely. */
export function randomCode(digits: number): string {
  return String(randomInt(10 ** digits)).padStart(digits, "0");
}

/** SHA-256, for secrets of 256 random bits that need no slower hash. */
export function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Compares in a time that does not depend on where they differ. */
export function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
