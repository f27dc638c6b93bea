/** A message to one person. Plain text: what it says depends on nothing but its arguments. */
export interface Message {
  readonly channel: "email" | "sms";
  /** E-mail address or phone number in E.164. */
  readonly to: string;
  /** E-mails only. */
  readonly subject?: string;
  readonly body: string;
}

/** The code that proves a phone number is the caller's. */
export function signupCodeSms(to: string, code: string, minutes: number): Message {
  return {
    channel: "sms",
    to,
    body: `${code} is your sign-up code. It works for ${minutes} minutes. Nobody will ask you for it.`,
  };
}

/** What a number gets that has an account: the caller of sign-up must not be able to tell. */
export function knownNumberSms(to: string): Message {
  return {
    channel: "sms",
    to,
    body: "Somebody, perhaps you, tried to sign up with this number. It has an account already: log in, or reset your password.",
  };
}

/** Costs what a message costs, and is dropped by the worker: the caller must not be able to tell. */
export function decoySms(to: string): Message & { isDecoy: true } {
  return { channel: "sms", to, body: "", isDecoy: true };
}

/** The code of a login's second step, or of a change to the second factor. */
export function secondFactorSms(to: string, code: string, minutes: number): Message {
  return {
    channel: "sms",
    to,
    body: `${code} is your security code. It works for ${minutes} minutes. Nobody will ask you for it.`,
  };
}

/** The link that proves an e-mail address is the user's. */
export function verificationEmail(to: string, link: string, hours: number): Message {
  return {
    channel: "email",
    to,
    subject: "Confirm your e-mail address",
    body: `Open this link to confirm that this address is yours:\n\n${link}\n\nIt works once, within ${hours} hours. If you did not ask for it, do nothing.`,
  };
}

/** What the holder of an address gets when another user says it is theirs. */
export function knownAddressEmail(to: string): Message {
  return {
    channel: "email",
    to,
    subject: "Your address was given for another account",
    body: "Somebody, perhaps you, wants to use this address for another account. It belongs to yours already, and nothing was changed.",
  };
}

/** Characters of a name in a message: names are chosen by those who send it. */
const NAME_LENGTH_MAX = 80;

/** The link with which somebody who was invited joins a company. */
export function invitationEmail(
  to: string,
  offer: { companyName: string; inviter: string; link: string; expiresAt: Date },
): Message {
  const company = shortened(offer.companyName);
  const until = offer.expiresAt.toISOString().slice(0, 16).replace("T", " ");
  return {
    channel: "email",
    to,
    subject: `You are invited to ${company}`,
    body: `${shortened(offer.inviter)} invites you to "${company}". Open this link to accept:\n\n${offer.link}\n\nIt works until ${until} UTC, for an account with this e-mail address: sign up with it if you have none, then open the link again. If you do not know what this is, do nothing.`,
  };
}

/** A name that people chose, on one line and of bounded length. */
function shortened(name: string): string {
  const line = name.replace(/\s+/g, " ");
  const characters = [...line];
  if (characters.length <= NAME_LENGTH_MAX) return line;
  return `${characters.slice(0, NAME_LENGTH_MAX - 1).join("")}…`;
}

/** What a user is told about their own account, by e-mail or SMS. */
export interface Notice {
  readonly subject: string;
  readonly body: string;
}

/** A notice as an e-mail or an SMS. */
export function noticeTo(address: { email: string } | { phone: string }, notice: Notice): Message {
  return "email" in address
    ? { channel: "email", to: address.email, subject: notice.subject, body: notice.body }
    : { channel: "sms", to: address.phone, body: notice.body };
}

const IF_NOT_YOU = "If it was not you, contact your administrator at once.";

/** The link to set a new password. */
export function passwordLink(link: string, minutes: number): Notice {
  return {
    subject: "Set a new password",
    body: `Open this link to set a new password: ${link} It works once, within ${minutes} minutes. If you did not ask for it, do nothing: your password stays as it is.`,
  };
}

/** Changes of what a user logs in with, each told to whom it may surprise. */
export const NOTICES = {
  passwordChanged: {
    subject: "Your password was changed",
    body: `The password of your account was changed. ${IF_NOT_YOU}`,
  },
  secondFactorEnabled: {
    subject: "Two-factor login is on",
    body: `Two-factor login was turned on for your account. ${IF_NOT_YOU}`,
  },
  secondFactorDisabled: {
    subject: "Two-factor login is off",
    body: `Two-factor login was turned off for your account. ${IF_NOT_YOU}`,
  },
  secondFactorReset: {
    subject: "Two-factor login was reset",
    body: "An administrator turned off the two-factor login of your account. Log in with your password and turn it on again.",
  },
  secondFactorLocked: {
    subject: "Wrong security codes",
    body: "Somebody who knows your password entered wrong security codes. Codes are refused for 30 minutes. If it was not you, reset your password now.",
  },
  backupCodesReissued: {
    subject: "New backup codes",
    body: `New backup codes were made for your account; the older ones stopped working. ${IF_NOT_YOU}`,
  },
  backupCodeUsed: {
    subject: "A backup code was used",
    body: `A backup code was used to log in to your account. ${IF_NOT_YOU}`,
  },
  emailChangeRequested: {
    subject: "A new e-mail address for your account",
    body: `A new e-mail address was given for your account. It counts once its holder has confirmed it. ${IF_NOT_YOU}`,
  },
  emailChanged: {
    subject: "Your e-mail address was changed",
    body: `The e-mail address of your account was changed, and this one no longer belongs to it. ${IF_NOT_YOU}`,
  },
  accountDisabled: {
    subject: "Your account was disabled",
    body: "An administrator disabled your account. You cannot log in any more.",
  },
  accountEnabled: {
    subject: "Your account was enabled",
    body: "An administrator enabled your account. You can log in again.",
  },
  madeTenantAdmin: {
    subject: "You are an administrator now",
    body: `Your account was made an administrator. ${IF_NOT_YOU}`,
  },
  noTenantAdmin: {
    subject: "You are no administrator any more",
    body: "An administrator took this role from your account.",
  },
} as const satisfies Record<string, Notice>;
