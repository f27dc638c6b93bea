import { z } from "zod";

export const Profile = z
  .object({
    id: z.int().meta({ examples: [7] }),
    username: z.string().meta({ examples: ["user-afe80079fb38b"] }),
    full_name: z.string().meta({ examples: ["Ada Lovelace"] }),
    email: z.email().nullable(),
    primary_mobile: z.string().meta({ description: "In E.164.", examples: ["+201001234567"] }),
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
      id: z.int().meta({ examples: [7] }),
      username: z.string().meta({ examples: ["user-afe80079fb38b"] }),
      full_name: z.string().meta({ examples: ["Ada Lovelace"] }),
      email: z.email().nullable(),
      primary_mobile: z.string().meta({ description: "In E.164.", examples: ["+201001234567"] }),
      account_uid: z.uuid(),
    }),
    token_expires_at: z.date().meta({ description: "When the access token expires." }),
  })
  .meta({ id: "SessionTest", description: "That the access token works, and until when." });
