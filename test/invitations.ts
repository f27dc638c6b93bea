import { z } from "zod";
import { CreatedInvitation } from "../src/access-control/schemas.ts";
import type { TestResponse, TestTenant } from "./app.ts";

/** The answer that makes an invitation; JSON has no dates. */
export const MadeInvitation = CreatedInvitation.pick({
  id: true,
  email: true,
  role: true,
  status: true,
  token: true,
}).extend({ expires_at: z.coerce.date() });

/** What a call answered, and whether it changed anything that calls about invitations write. */
interface Outcome {
  readonly status: number;
  readonly code: unknown;
  readonly hasChanged: boolean;
}

/** The outcome of a call that is refused as it should be. */
export function refused(status: number, code: string): Outcome {
  return { status, code, hasChanged: false };
}

/** Makes a call while nobody else writes to the tenant. */
export async function tried(
  tenant: TestTenant,
  call: () => Promise<TestResponse>,
): Promise<Outcome> {
  const before = await written(tenant);
  const { status, body } = await call();
  const code = typeof body === "object" && body !== null && "code" in body ? body.code : undefined;
  return { status, code, hasChanged: (await written(tenant)) !== before };
}

async function written({ sql }: TestTenant): Promise<string> {
  return JSON.stringify([
    await sql`select * from invitations order by id`,
    await sql`select * from user_companies order by id`,
    await sql`select * from user_company_roles order by id`,
    await sql`select count(*) from activity_logs`,
    await sql`select count(*) from notifications`,
  ]);
}
