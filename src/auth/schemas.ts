import { z } from "zod";
import { parsePhone } from "../phones.ts";
import { PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN } from "./passwords.ts";

/** Characters that PostgreSQL cannot store or that have no place in a name. */
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Longest text looked at as an identifier; the longest that can match is an e-mail of 254. */
const IDENTIFIER_LENGTH_MAX = 254;
const TOKEN_LENGTH_MAX = 200;

/** A phone number in international format; comes out in E.164. */
export const Phone = z
  .string()
  .max(40)
  // Here, not at the end: of a transform zod keeps no examples for what comes in.
  .meta({ description: "A phone number in international format.", examples: ["+201001234567"] })
  .transform((text, context) => {
    const phone = parsePhone(text);
    if (phone !== undefined) return phone;
    context.addIssue({ code: "custom", message: "Enter a phone number in international format." });
    return z.NEVER;
  });

/** An e-mail address; comes out in lower case. */
export const Email = z
  .string()
  .trim()
  .toLowerCase()
  .max(254)
  .pipe(z.email("Enter an e-mail address."))
  .meta({ examples: ["ada@corp.io"] });

export const FullName = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .refine((text) => !CONTROL.test(text), "A name has no control characters.")
  .meta({ examples: ["Ada Lovelace"] });

/** Counted in characters, as a person counts them, not in UTF-16 units. */
export const Password = z
  .string()
  .refine(
    (text) => length(text) >= PASSWORD_LENGTH_MIN,
    `At least ${PASSWORD_LENGTH_MIN} characters.`,
  )
  .refine(
    (text) => length(text) <= PASSWORD_LENGTH_MAX,
    `At most ${PASSWORD_LENGTH_MAX} characters.`,
  )
  .meta({
    description: `${PASSWORD_LENGTH_MIN} to ${PASSWORD_LENGTH_MAX} characters of any script.`,
    minLength: PASSWORD_LENGTH_MIN,
    maxLength: PASSWORD_LENGTH_MAX,
    examples: ["correct horse battery staple"],
  });

function length(text: string): number {
  return [...text].length;
}

const Otp = z
  .string()
  .regex(/^\d{6}$/, "Enter the six digits of the code.")
  .meta({ examples: ["482913"] });
const TOKEN_EXAMPLE = "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk";
const Token = z
  .string()
  .min(1)
  .max(TOKEN_LENGTH_MAX)
  .meta({ examples: [TOKEN_EXAMPLE] });
const RefreshToken = Token.meta({ examples: ["12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg"] });
const CaptchaAnswer = z.string().max(4_096).meta({ description: "Cloudflare Turnstile's answer." });

const message = z
  .string()
  .meta({ description: "A sentence for people; it may change.", examples: ["Done."] });
const phoneAnswer = z.string().meta({ description: "In E.164.", examples: ["+201001234567"] });

export const SignupRequest = z
  .strictObject({
    full_name: FullName,
    primary_mobile: Phone,
    cf_turnstile_response: CaptchaAnswer.optional(),
  })
  .meta({ id: "SignupRequest" });

export const SignupAnswer = z
  .object({ message, primary_mobile: phoneAnswer })
  .meta({ id: "SignupAnswer" });

export const VerifyOtpRequest = z
  .strictObject({ primary_mobile: Phone, otp: Otp })
  .meta({ id: "VerifyOtpRequest" });

export const VerifyOtpAnswer = z
  .object({
    message,
    primary_mobile: phoneAnswer,
    verification_token: z.string().meta({
      description: "Shows that the number is the caller's: for 15 minutes, once.",
      examples: [TOKEN_EXAMPLE],
    }),
  })
  .meta({ id: "VerifyOtpAnswer" });

export const ResendOtpRequest = z
  .strictObject({ primary_mobile: Phone })
  .meta({ id: "ResendOtpRequest" });

export const MessageAnswer = z.object({ message }).meta({ id: "MessageAnswer" });

export const FinalizeRequest = z
  .strictObject({
    primary_mobile: Phone,
    verification_token: Token,
    email: Email,
    password: Password,
  })
  .meta({ id: "FinalizeRequest" });

export const LoginRequest = z
  .strictObject({
    identifier: z
      .string()
      .min(1)
      .max(IDENTIFIER_LENGTH_MAX)
      .refine((text) => !CONTROL.test(text), "An identifier has no control characters.")
      .meta({
        description: "E-mail address, phone number or username.",
        examples: ["ada@corp.io"],
      }),
    // Not Password: what is too short to be one is a wrong password, not a malformed request.
    password: z
      .string()
      .min(1)
      .max(1_024)
      .meta({ examples: ["correct horse battery staple"] }),
    remember_me: z.boolean().optional().meta({ description: "A refresh token of 30 days, not 7." }),
    cf_turnstile_response: CaptchaAnswer.optional(),
  })
  .meta({ id: "LoginRequest" });

export const Tokens = z
  .object({
    access: z.string().meta({
      description: "Send it as `Authorization: Bearer <access>`.",
      examples: ["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"],
    }),
    refresh: z.string().meta({
      description: "Exchange it at `token/refresh/`; changes each time.",
      examples: ["12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg"],
    }),
    expires_in: z.int().meta({ description: "Seconds until `access` expires.", examples: [3600] }),
  })
  .meta({ id: "Tokens" });

export const User = z
  .object({
    id: z.int().meta({ examples: [7] }),
    account_uid: z.uuid(),
    username: z.string().meta({ examples: ["user-afe80079fb38b"] }),
    full_name: z.string().meta({ examples: ["Ada Lovelace"] }),
    email: z.email().nullable(),
    primary_mobile: phoneAnswer,
  })
  .meta({ id: "User" });

export const FinalizeAnswer = z
  .object({ message, tokens: Tokens, user: User })
  .meta({ id: "FinalizeAnswer" });

export const LoginAnswer = z.object({ tokens: Tokens, user: User }).meta({ id: "LoginAnswer" });

export const RefreshRequest = z
  .strictObject({ refresh: RefreshToken })
  .meta({ id: "RefreshRequest" });

export const PasswordResetRequest = z
  .strictObject({ token: Token, password: Password })
  .meta({ id: "PasswordResetRequest" });
