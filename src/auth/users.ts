import { randomBytes } from "node:crypto";

/** A user as the answers to a login and a sign-up show it. */
export interface User {
  id: number;
  account_uid: string;
  username: string;
  full_name: string;
  email: string | null;
  primary_mobile: string;
}

/** How a user's second factor reaches them; null without one. */
export type TwoFactorType = "totp" | "sms" | null;

/** A user with what a login needs to know. */
export interface Account extends User {
  password_hash: string | null;
  is_active: boolean;
  email_verified: boolean;
  two_fa_type: TwoFactorType;
}

/** How the logs name a user. */
export function displayOf(user: Pick<User, "email" | "username">): string {
  return user.email ?? user.username;
}

/** A login name that is nobody's: 52 random bits. Users log in with e-mail or phone as well. */
export function newUsername(): string {
  return `user-${randomBytes(7).toString("hex").slice(0, 13)}`;
}
