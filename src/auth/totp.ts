import { Secret, TOTP } from "otpauth";

/** RFC 6238 §4.1: the step authenticator apps know. */
const TOTP_PERIOD_SECONDS = 30;
/** Steps before and after now that are accepted: a clock may be half a minute off (RFC 6238 §6). */
const TOTP_WINDOW = 1;
/** RFC 4226 §4 R6 asks for 128 bits and recommends 160. */
const TOTP_SECRET_BYTES = 20;

/** A new secret of an authenticator app, in base32, and the `otpauth://` URI that apps read from a QR code. */
export function newTotpSecret(issuer: string, label: string): { secret: string; uri: string } {
  const secret = new Secret({ size: TOTP_SECRET_BYTES });
  return { secret: secret.base32, uri: new TOTP({ issuer, label, secret }).toString() };
}

/**
 * The 30-second step that a code of six digits is for, near enough to now; undefined when it is for none. A
 * step is accepted once: whoever asks keeps the newest.
 */
export function findTotpStep(secret: string, code: string): number | undefined {
  const totp = new TOTP({ secret: Secret.fromBase32(secret), period: TOTP_PERIOD_SECONDS });
  const timestamp = Date.now();
  const delta = totp.validate({ token: code, timestamp, window: TOTP_WINDOW });
  return delta === null ? undefined : totp.counter({ timestamp }) + delta;
}
