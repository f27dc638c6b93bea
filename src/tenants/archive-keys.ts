import { isEqual, keyId, Keys } from "../keys.ts";

/** The secrets of an installation that an archive rests on. */
export interface ArchiveSecrets {
  /** ARCHIVE_KEY: what two installations share so that one reads the other's archives. */
  readonly archiveKey?: string | undefined;
  readonly encryptionKey: string;
  readonly encryptionKeyPrevious?: string | undefined;
  readonly passwordPepper: string;
}

/** What an archive is sealed and signed with. Named by an id that tells nothing of the key. */
export class ArchiveKey {
  readonly id: string;
  readonly #keys: Keys;

  constructor(secret: string) {
    this.#keys = new Keys({ secretKey: secret, encryptionKey: secret });
    this.id = keyId(this.#keys.of("archive"));
  }

  /** HMAC-SHA-256 of a text, in hexadecimal. */
  sign(text: string): string {
    return this.#keys.mac("archive", text).toString("hex");
  }

  isSignature(text: string, signature: string): boolean {
    return isEqual(Buffer.from(this.sign(text)), Buffer.from(signature));
  }

  seal(text: string, context: string): Buffer {
    return this.#keys.seal(text, context);
  }

  /** @throws Error when it was changed or sealed with another key */
  open(sealed: Uint8Array, context: string): string {
    return this.#keys.open(sealed, context);
  }
}

/** The key that archives are written with: ARCHIVE_KEY, else ENCRYPTION_KEY. */
export function writingKey({ archiveKey, encryptionKey }: ArchiveSecrets): ArchiveKey {
  return new ArchiveKey(archiveKey ?? encryptionKey);
}

/** The key of an id, among those that are known here; undefined when it is another installation's. */
export function findReadingKey(secrets: ArchiveSecrets, id: string): ArchiveKey | undefined {
  return [secrets.archiveKey, secrets.encryptionKey, secrets.encryptionKeyPrevious]
    .filter((secret) => secret !== undefined)
    .map((secret) => new ArchiveKey(secret))
    .find((key) => key.id === id);
}

/** Names the PASSWORD_PEPPER that password hashes were made with, and tells nothing of it. */
export function pepperId({ passwordPepper }: ArchiveSecrets): string {
  return keyId(Buffer.from(passwordPepper));
}
