import { parsePhoneNumberFromString } from "libphonenumber-js/max";

/**
 * A phone number in E.164 (`+201001234567`), or undefined when it is not a valid one in
 * international format.
 */
export function parsePhone(text: string): string | undefined {
  const phone = parsePhoneNumberFromString(text.trim(), { extract: false });
  return phone?.isValid() ? phone.number : undefined;
}

/** A phone number as a log may show it: country code and last two digits. */
export function maskPhone(phone: string): string {
  return `${phone.slice(0, 3)}${"*".repeat(Math.max(0, phone.length - 5))}${phone.slice(-2)}`;
}

/** An e-mail address as a log may show it: first letter and domain. */
export function maskEmail(email: string): string {
  const [name = "", domain = ""] = email.split("@");
  return `${name.slice(0, 1)}***@${domain}`;
}
