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

/** A login name that is nobody's: 52 random bits. Users log in with e-mail or phone as well. */
export function newUsername(): string {
  return `user-${randomBytes(7).toString("hex").slice(0, 13)}`;
}
