import { z } from "zod";
import { parsePhone } from "../phones.ts";
import { isWellFormed, Line } from "../plugins/fields.ts";
import { PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN } from "./passwords.ts";

/** Characters that PostgreSQL cannot store or that have no place in an identifier. */
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Longest text looked at as an identifier; the longest that can match is an e-mail of 254. */
const IDENTIFIER_LENGTH_MAX = 254;
const TOKEN_LENGTH_MAX = 200;
/** Longest text compared with a password: what is too long to be one is a wrong one. */
const PASSWORD_TRIED_LENGTH_MAX = 1_024;

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

export const FullName = Line(200).meta({ examples: ["Ada Lovelace"] });

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
  // Hashed as UTF-8, where one half of a character is like any other: two passwords would be one.
  .refine(isWellFormed, "This is not well-formed Unicode.")
  .meta({
    description: `${PASSWORD_LENGTH_MIN} to ${PASSWORD_LENGTH_MAX} characters of any script.`,
    minLength: PASSWORD_LENGTH_MIN,
    maxLength: PASSWORD_LENGTH_MAX,
    examples: ["correct horse battery staple"],
  });

const NewPassword = Password.meta({ examples: ["no horse needs this staple"] });

function length(text: string): number {
  return [...text].length;
}

const Otp = z
  .string()
  .regex(/^\d{6}$/, "Enter the six digits of the code.")
  .meta({ examples: ["482913"] });
const TOKEN_EXAMPLE = "wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk";
export const Token = z
  .string()
  .min(1)
  .max(TOKEN_LENGTH_MAX)
  .meta({ examples: [TOKEN_EXAMPLE] });
const RefreshToken = Token.meta({ examples: ["12.0.Q2hhbmdlcyB3aXRoIGVhY2ggdXNlIGFuZCBsb2dpbg"] });
const CaptchaAnswer = z.string().max(2_048).meta({ description: "Cloudflare Turnstile's answer." });

/** Six digits of an app or an SMS; spaces, as apps show them, do not count. */
const SecondFactorCode = z
  .string()
  .max(20)
  .meta({ description: "Six digits.", examples: ["482913"] })
  .transform((text) => text.replace(/\s/g, ""))
  .pipe(z.string().regex(/^\d{6}$/, "Enter the six digits of the code."));
/** 24 characters of base32; dashes, spaces and case do not count. */
const BackupCode = z
  .string()
  .min(1)
  .max(40)
  .meta({ examples: ["K7QX-2MZP-W4TB-6HVN-QD3E-5RLA"] });
export const CurrentPassword = z
  .string()
  .min(1)
  .max(PASSWORD_TRIED_LENGTH_MAX)
  .meta({ description: "The caller's password.", examples: ["correct horse battery staple"] });

const Message = (example: string) =>
  z.string().meta({ description: "A sentence for people; it may change.", examples: [example] });
const phoneAnswer = z.string().meta({ description: "In E.164.", examples: ["+201001234567"] });

export const SignupRequest = z
  .strictObject({
    full_name: FullName,
    primary_mobile: Phone,
    cf_turnstile_response: CaptchaAnswer.optional(),
  })
  .meta({ id: "SignupRequest" });

export const SignupAnswer = z
  .object({ message: Message("We have sent a code by SMS."), primary_mobile: phoneAnswer })
  .meta({ id: "SignupAnswer" });

export const VerifyOtpRequest = z
  .strictObject({ primary_mobile: Phone, otp: Otp })
  .meta({ id: "VerifyOtpRequest" });

export const VerifyOtpAnswer = z
  .object({
    message: Message("The number is verified. Finish the sign-up within 15 minutes."),
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

export const MessageAnswer = z.object({ message: Message("Done.") }).meta({ id: "MessageAnswer" });

export const FinalizeRequest = z
  .strictObject({
    primary_mobile: Phone,
    verification_token: Token,
    email: Email,
    password: Password,
  })
  .meta({ id: "FinalizeRequest" });

const Identifier = z
  .string()
  .min(1)
  .max(IDENTIFIER_LENGTH_MAX)
  .refine((text) => !CONTROL.test(text), "An identifier has no control characters.")
  .meta({
    description: "E-mail address, phone number or username.",
    examples: ["ada@corp.io"],
  });

export const LoginRequest = z
  .strictObject({
    identifier: Identifier,
    // Not Password: what is too short to be one is a wrong password, not a malformed request.
    password: z
      .string()
      .min(1)
      .max(PASSWORD_TRIED_LENGTH_MAX)
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
  .object({ message: Message("Your account is ready."), tokens: Tokens, user: User })
  .meta({ id: "FinalizeAnswer" });

export const LoggedInAnswer = z
  .object({ tokens: Tokens, user: User })
  .meta({ id: "LoggedInAnswer", description: "The login is done." });

const SessionId = Token.meta({
  description: "The login that waits for its second factor: for 10 minutes, and for nothing else.",
  examples: [TOKEN_EXAMPLE],
});

const TwoFactorMethod = z.enum(["totp", "sms"]).meta({
  description: "An authenticator app (RFC 6238), or codes by SMS.",
  examples: ["totp"],
});

const ChallengeAnswer = z
  .object({ requires_2fa: z.literal(true), session_id: SessionId, method: TwoFactorMethod })
  .meta({ id: "ChallengeAnswer", description: "The password was right; a code is still to come." });

export const LoginAnswer = z.union([LoggedInAnswer, ChallengeAnswer]).meta({ id: "LoginAnswer" });

export const ChallengeCodeRequest = z
  .strictObject({ session_id: SessionId, code: SecondFactorCode })
  .meta({ id: "ChallengeCodeRequest" });

export const ChallengeResendRequest = z
  .strictObject({ session_id: SessionId })
  .meta({ id: "ChallengeResendRequest" });

export const ChallengeBackupRequest = z
  .strictObject({ session_id: SessionId, backup_code: BackupCode })
  .meta({ id: "ChallengeBackupRequest" });

export const EnableSecondFactorRequest = z
  .strictObject({ method: TwoFactorMethod, password: CurrentPassword })
  .meta({ id: "EnableSecondFactorRequest" });

const backupCodes = z.array(z.string()).meta({
  description: "Ten codes for the day the phone is gone: each works once. Shown only here.",
  examples: [["K7QX-2MZP-W4TB-6HVN-QD3E-5RLA"]],
});

export const EnableSecondFactorAnswer = z
  .object({
    method: TwoFactorMethod,
    secret: z
      .string()
      .nullable()
      .meta({
        description: "For typing into an app, in base32; null with SMS.",
        examples: ["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"],
      }),
    qr_code: z
      .string()
      .nullable()
      .meta({
        description: "The `otpauth://` URI to show as a QR code; null with SMS.",
        examples: [
          "otpauth://totp/acme:ada%40corp.io?issuer=acme&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
        ],
      }),
    backup_codes: backupCodes,
    confirmed: z.literal(false),
  })
  .meta({ id: "EnableSecondFactorAnswer" });

export const ConfirmSecondFactorRequest = z
  .strictObject({ code: SecondFactorCode })
  .meta({ id: "ConfirmSecondFactorRequest" });

export const DisableSecondFactorRequest = z
  .strictObject({
    password: CurrentPassword,
    code: z
      .string()
      .min(1)
      .max(40)
      .meta({
        description: "A code of the app or an SMS, or a backup code.",
        examples: ["482913"],
      }),
  })
  .meta({ id: "DisableSecondFactorRequest" });

export const BackupCodesRequest = z
  .strictObject({ password: CurrentPassword })
  .meta({ id: "BackupCodesRequest" });

export const BackupCodesAnswer = z
  .object({ backup_codes: backupCodes })
  .meta({ id: "BackupCodesAnswer" });

export const PasswordForgotRequest = z
  .strictObject({ identifier: Identifier })
  .meta({ id: "PasswordForgotRequest" });

export const PasswordChangeRequest = z
  .strictObject({ current_password: CurrentPassword, new_password: NewPassword })
  .meta({ id: "PasswordChangeRequest" });

export const RefreshRequest = z
  .strictObject({ refresh: RefreshToken })
  .meta({ id: "RefreshRequest" });

export const PasswordResetRequest = z
  .strictObject({ token: Token, password: NewPassword })
  .meta({ id: "PasswordResetRequest" });
