import { createHash } from "node:crypto";
import {
  accessFrom,
  type AccessRow,
  accessStatement,
  requireAccess,
} from "../access-control/access.ts";
import { recordActivity } from "../audit/activity-log.ts";
import type { Actor } from "../audit/actor.ts";
import { sql } from "../db/sql.ts";
import type { TenantConnection } from "../db/tenant-database.ts";
import type { TenantSql } from "../db/transactions.ts";
import { AppError } from "../errors.ts";
import { lockCompany } from "./companies.ts";
import { type ImageType, imageTypeOf } from "./image-type.ts";
import type { CompanyLogo } from "./schemas.ts";

/** Largest logo, in bytes: 512 KB. The table's check says the same. */
export const LOGO_BYTES_MAX = 524_288;

/** Hexadecimal digits of an image's SHA-256 that name it: 64 bits tell a company's logos apart. */
const DIGEST_LENGTH = 16;

/** An image as it is served. */
export interface LogoImage {
  readonly content_type: ImageType;
  readonly digest: string;
  readonly bytes: Buffer;
}

/**
 * A company's logo, in one round trip.
 *
 * @throws AppError `not_found` without one, and for a company the caller does not belong to
 */
export async function getLogo(
  tenant: TenantConnection,
  { userId }: Actor,
  id: number,
): Promise<LogoImage> {
  const [[access], [logo]] = await tenant.batch<[AccessRow[], LogoImage[]]>(() => [
    accessStatement(userId, id),
    sql`select content_type, digest, bytes from company_logos where company = ${id}`,
  ]);
  if (!logo || !accessFrom(access)) throw noLogo();
  return logo;
}

/**
 * Gives a company another logo. The image is kept in the tenant's schema: whatever takes that along
 * takes it, too. The same image again changes nothing.
 *
 * @throws AppError `not_found`, `permission_denied`, `validation_error` for no bytes,
 *   `unsupported_media_type` for what is no PNG, JPEG or WebP, whatever it was called
 */
export async function replaceLogo(
  tx: TenantSql,
  actor: Actor,
  id: number,
  bytes: Buffer,
): Promise<CompanyLogo> {
  await lockCompany(tx, id);
  await requireAccess(tx, actor, id, "company.update");
  const contentType = requireImage(bytes);
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, DIGEST_LENGTH);
  const before = await findDescription(tx, id);
  const after = { content_type: contentType, bytes: bytes.length, digest };
  if (before?.digest !== digest) {
    await tx`
      insert into company_logos (company, content_type, bytes, digest)
      values (${id}, ${contentType}, ${bytes}, ${digest})
      on conflict (company) do update set
        content_type = excluded.content_type, bytes = excluded.bytes, digest = excluded.digest,
        updated_at = now()`;
    await tx`update companies set updated_at = now() where id = ${id}`;
    recordActivity(tx, actor, {
      action: before ? "UPDATE" : "CREATE",
      entity: "CompanyLogo",
      entityId: id,
      companyId: id,
      ...(before && { before }),
      after,
    });
  }
  return {
    logo: `/api/company/${id}/logo/?v=${digest}`,
    content_type: contentType,
    bytes: bytes.length,
  };
}

/** @throws AppError `not_found` also when there is no logo, `permission_denied` */
export async function deleteLogo(tx: TenantSql, actor: Actor, id: number): Promise<void> {
  await lockCompany(tx, id);
  await requireAccess(tx, actor, id, "company.update");
  const before = await findDescription(tx, id);
  if (!before) throw noLogo();
  await tx`delete from company_logos where company = ${id}`;
  await tx`update companies set updated_at = now() where id = ${id}`;
  recordActivity(tx, actor, {
    action: "DELETE",
    entity: "CompanyLogo",
    entityId: id,
    companyId: id,
    before,
  });
}

/** What the log says of an image: never the image. */
async function findDescription(tx: TenantSql, id: number) {
  const [logo] = await tx<{ content_type: ImageType; bytes: number; digest: string }[]>`
    select content_type, length(bytes) as bytes, digest from company_logos where company = ${id}`;
  return logo;
}

function requireImage(bytes: Buffer): ImageType {
  if (bytes.length === 0) {
    throw new AppError("validation_error", "The request body is invalid.", {
      errors: { body: ["Send the bytes of an image."] },
    });
  }
  const type = imageTypeOf(bytes);
  if (type !== undefined) return type;
  throw new AppError("unsupported_media_type", "A logo is a PNG, JPEG or WebP image.");
}

function noLogo(): AppError {
  return new AppError("not_found", "There is no such logo.");
}
