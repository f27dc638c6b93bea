import { z } from "zod";
import { AppError } from "../errors.ts";
import { type ArchiveKey, type ArchiveSecrets, findReadingKey } from "./archive-keys.ts";

/** What an archive says of itself; the one entry that is read before anything else. */
export const MANIFEST_ENTRY = "manifest.json";

const FORMAT = "ouvira-tenant";
/** Raised when an older release could not read what a newer one writes. */
const FORMAT_VERSION = 1;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const Table = z.strictObject({
  name: z.string(),
  columns: z.array(z.string()),
  rows: z.int().nonnegative(),
  /** Of the rows in the order of their key, as COPY writes them, with secrets in clear. */
  sha256: Sha256,
});

const Sequence = z.strictObject({
  name: z.string(),
  last_value: z.int(),
  is_called: z.boolean(),
});

/** How a log stood when it was archived. */
const LogState = z.strictObject({
  log: z.string(),
  /** Links of the chain. */
  seals: z.int().nonnegative(),
  /** Of the newest link; null without one. */
  digest: Sha256.nullable(),
  /** Whether the whole log was what was sealed. */
  is_intact: z.boolean(),
});

export const Manifest = z.strictObject({
  format: z.literal(FORMAT),
  format_version: z.int(),
  exported_at: z.iso.datetime(),
  /** Names the key that the archive is signed and its secrets are sealed with. */
  key_id: z.string(),
  /** Names the pepper of its password hashes. */
  pepper_id: z.string(),
  /** The newest tenant migration of its schema. */
  version: z.string(),
  tenant: z.strictObject({
    id: z.int().positive(),
    name: z.string(),
    subdomain: z.string(),
    log_retention_days: z.int().positive().nullable(),
    paid_until: z.iso.datetime().nullable(),
    on_trial: z.boolean(),
    rate_limits: z.record(z.string(), z.string()),
    domains: z.array(z.strictObject({ domain: z.string(), is_primary: z.boolean() })),
  }),
  tables: z.array(Table),
  sequences: z.array(Sequence),
  logs: z.array(LogState),
});

export type Manifest = z.infer<typeof Manifest>;
export type ArchivedTableSummary = z.infer<typeof Table>;

const Envelope = z.strictObject({ manifest: z.string(), signature: z.string() });
const Head = z.object({ format: z.literal(FORMAT), format_version: z.int(), key_id: z.string() });

/** What a manifest begins with. */
export const MANIFEST_HEAD = { format: FORMAT, format_version: FORMAT_VERSION } as const;

/** The manifest as it stands in the archive, signed. */
export function writeManifest(manifest: Manifest, key: ArchiveKey): Buffer {
  const text = JSON.stringify(manifest);
  return Buffer.from(JSON.stringify({ manifest: text, signature: key.sign(text) }));
}

/**
 * Reads what {@link writeManifest} wrote, with the key it was signed with.
 *
 * @throws AppError `conflict` for what is no archive, another installation's, a newer release's, or damaged
 */
export function readManifest(
  bytes: Uint8Array,
  secrets: ArchiveSecrets,
): { manifest: Manifest; key: ArchiveKey } {
  const envelope = parseJson(Envelope, Buffer.from(bytes).toString("utf8"));
  const head = envelope && parseJson(Head, envelope.manifest);
  if (!envelope || !head) throw refusal("This is not an archive of a tenant.");
  const key = findReadingKey(secrets, head.key_id);
  if (!key) {
    throw refusal(
      "The archive was made by another installation: set ARCHIVE_KEY to the ARCHIVE_KEY (or ENCRYPTION_KEY) it was made with.",
    );
  }
  if (!key.isSignature(envelope.manifest, envelope.signature)) {
    throw refusal("The archive is damaged: its manifest is not what was signed.");
  }
  if (head.format_version > FORMAT_VERSION) {
    throw refusal("The archive was made by a newer release.");
  }
  const manifest = parseJson(Manifest, envelope.manifest);
  if (!manifest) throw refusal("The archive is damaged: its manifest cannot be read.");
  return { manifest, key };
}

/** An archive that is not taken, and why. */
export function refusal(sentence: string, cause?: unknown): AppError {
  return new AppError("conflict", sentence, { cause });
}

function parseJson<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
