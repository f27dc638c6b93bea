import { z } from "zod";
import { CurrentPassword, Email, FullName, Token } from "../auth/schemas.ts";
import { FilterId } from "../plugins/fields.ts";
import { ListQuery, pageOf, Search } from "../plugins/lists.ts";

/** How a user is named wherever one is shown. */
const person = {
  id: z.int().meta({ examples: [7] }),
  username: z.string().meta({ examples: ["user-afe80079fb38b"] }),
  full_name: z.string().meta({ examples: ["Ada Lovelace"] }),
  email: z.email().nullable(),
  primary_mobile: z.string().meta({ description: "In E.164.", examples: ["+201001234567"] }),
};

export const Profile = z
  .object({
    ...person,
    email_verified: z.boolean(),
    phone_verified: z.boolean(),
    account_uid: z.uuid(),
    is_2fa_enabled: z.boolean(),
    two_fa_type: z
      .enum(["totp", "sms"])
      .nullable()
      .meta({ description: "How codes reach the user; null without a second factor." }),
    date_joined: z.date(),
    last_login: z.date().nullable(),
  })
  .meta({ id: "Profile", description: "The caller's own account." });
export type Profile = z.infer<typeof Profile>;

export const SessionTest = z
  .object({
    user: z.object({
      ...person,
      account_uid: z.uuid(),
    }),
    token_expires_at: z.date().meta({ description: "When the access token expires." }),
  })
  .meta({ id: "SessionTest", description: "That the access token works, and until when." });

const profileFields = {
  full_name: FullName,
  email: Email.meta({
    description: "Another address counts once the link sent there is followed.",
    examples: ["ada@corp.io"],
  }),
  current_password: CurrentPassword.optional().meta({
    description: "Needed for another e-mail address.",
    examples: ["correct horse battery staple"],
  }),
};

export const ProfileReplacement = z.strictObject(profileFields).meta({ id: "ProfileReplacement" });

export const ProfileChange = z
  .strictObject({
    ...profileFields,
    full_name: FullName.optional(),
    email: profileFields.email.optional(),
  })
  .meta({ id: "ProfileChange" });

export const Session = z
  .object({
    id: z.int().meta({ examples: [12] }),
    device: z
      .string()
      .nullable()
      .meta({
        description: "What the client called itself.",
        examples: ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"],
      }),
    ip: z
      .string()
      .nullable()
      .meta({ examples: ["203.0.113.7"] }),
    created_at: z.date(),
    last_used_at: z.date().meta({ description: "Login or last refresh." }),
    expires_at: z.date(),
    current: z.boolean().meta({ description: "The one that asks." }),
  })
  .meta({ id: "Session", description: "A live login." });
export type Session = z.infer<typeof Session>;

export const ManagedUser = z
  .object({
    ...person,
    is_active: z.boolean().meta({ description: "False: no login is let in." }),
    is_tenant_admin: z.boolean().meta({ examples: [false] }),
    is_2fa_enabled: z.boolean(),
    date_joined: z.date(),
    last_login: z.date().nullable(),
  })
  .meta({ id: "ManagedUser", description: "A user as the tenant's admins see one." });
export type ManagedUser = z.infer<typeof ManagedUser>;

export const UsersQuery = ListQuery.extend({ search: Search, company: FilterId("company") });
export const UsersPage = pageOf(ManagedUser).meta({ id: "UsersPage" });

export const UserChange = z
  .strictObject({
    is_active: z
      .boolean()
      .optional()
      .meta({ description: "False ends every login of the user.", examples: [false] }),
    is_tenant_admin: z
      .boolean()
      .optional()
      .meta({ description: "Whether the user administers the tenant." }),
  })
  .meta({ id: "UserChange" });
export type UserChange = z.infer<typeof UserChange>;

export const VerifyEmailRequest = z
  .strictObject({ token: Token })
  .meta({ id: "VerifyEmailRequest" });
