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
  readonly encryptionKey: string;
}

/** What a derived key is for; each purpose has a key of its own (RFC 5869). */
type Purpose = "access-token" | "refresh-token" | "otp" | "login-failures";

/** The version of ENCRYPTION_KEY, written in front of what is sealed with it. */
const SEAL_VERSION = 1;
const SEAL_IV_BYTES = 12;
const SEAL_TAG_BYTES = 16;

/** Everything that is keyed: nothing below leaves a key, and no key is in the database. */
export class Keys {
  readonly #secretKey: string;
  readonly #encryptionKey: Buffer;
  readonly #derived = new Map<Purpose, Buffer>();

  constructor({ secretKey, encryptionKey }: KeyMaterial) {
    this.#secretKey = secretKey;
    this.#encryptionKey = derive(encryptionKey, `seal-${SEAL_VERSION}`);
  }

  /** The key of one purpose, 32 bytes. */
  of(purpose: Purpose): Buffer {
    const known = this.#derived.get(purpose);
    if (known) return known;
    const key = derive(this.#secretKey, purpose);
    this.#derived.set(purpose, key);
    return key;
  }

  /** HMAC-SHA-256 over parts that cannot run into each other. */
  mac(purpose: Purpose, ...parts: readonly (string | number | Uint8Array)[]): Buffer {
    const hmac = createHmac("sha256", this.of(purpose));
    for (const part of parts) {
      const bytes = typeof part === "number" ? String(part) : part;
      hmac.update(`${Buffer.byteLength(bytes)}:`).update(bytes);
    }
    return hmac.digest();
  }

  /**
   * Encrypts a text for the database: version, IV, tag, AES-256-GCM ciphertext. `context` says where
   * it belongs (tenant and row) and must be the same when it is opened.
   * NIST SP 800-38D: with random 96-bit IVs one key seals at most 2^32 messages.
   */
  seal(text: string, context: string): Buffer {
    const iv = randomBytes(SEAL_IV_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#encryptionKey, iv);
    cipher.setAAD(Buffer.from(context));
    const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
    return Buffer.concat([Buffer.of(SEAL_VERSION), iv, cipher.getAuthTag(), sealed]);
  }

  /** @throws Error when the bytes were changed, belong elsewhere or are of another key */
  open(sealed: Uint8Array, context: string): string {
    const bytes = Buffer.from(sealed);
    if (bytes[0] !== SEAL_VERSION) throw new Error(`Sealed with key version ${bytes[0]}`);
    const iv = bytes.subarray(1, 1 + SEAL_IV_BYTES);
    const tag = bytes.subarray(1 + SEAL_IV_BYTES, 1 + SEAL_IV_BYTES + SEAL_TAG_BYTES);
    const decipher = createDecipheriv("aes-256-gcm", this.#encryptionKey, iv);
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(tag);
    const text = bytes.subarray(1 + SEAL_IV_BYTES + SEAL_TAG_BYTES);
    return Buffer.concat([decipher.update(text), decipher.final()]).toString("utf8");
  }
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
