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

/** Says that a password was changed, to whom it may surprise. */
export function passwordChangedSms(to: string): Message {
  return {
    channel: "sms",
    to,
    body: "The password of your account was changed. If it was not you, contact your administrator at once.",
  };
}
