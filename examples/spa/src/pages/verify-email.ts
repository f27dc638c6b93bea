import { ouvira, sentenceOf } from "../api.ts";
import { type Child, heading, link, notice } from "../element.ts";
import { forgetLinkToken, isOver, linkToken } from "../link-token.ts";

/** Where the link leads that a new address was sent. It needs no login: it may be another device. */
export async function verifyEmailPage(): Promise<readonly Child[]> {
  const title = heading("Your e-mail address");
  const token = linkToken("email");
  if (token === undefined) {
    return [title, notice("This link is not complete. Open it in the e-mail again.", "failure")];
  }
  try {
    await ouvira.POST("/api/account/email/verify/", { body: { token } });
    forgetLinkToken("email");
  } catch (error) {
    if (isOver(error)) forgetLinkToken("email");
    return [title, notice(sentenceOf(error), "failure")];
  }
  return [title, notice("Your e-mail address is verified."), link("/", "Go on")];
}
