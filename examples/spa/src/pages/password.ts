import { ouvira } from "../api.ts";
import { type Child, element, fill, heading, link, notice } from "../element.ts";
import { form } from "../form.ts";
import { forgetLinkToken, isOver, linkToken } from "../link-token.ts";
import { outboxHint } from "../outbox-hint.ts";

/** Asks for a link. The answer does not say whether there is such an account. */
export async function forgotPasswordPage(): Promise<readonly Child[]> {
  const step = element("div");
  const ask = form({
    fields: [
      { name: "identifier", label: "E-mail address or mobile number", autocomplete: "username" },
    ],
    submit: "Send me a link",
    onSubmit: async (body) => {
      const { message } = await ouvira.POST("/api/auth/password/forgot/", { body });
      fill(step, notice(message), outboxHint());
    },
  });
  step.append(ask);
  return [heading("A new password"), step];
}

/** Where the link leads: also that of a tenant's first owner, who has no password yet. */
export async function resetPasswordPage(): Promise<readonly Child[]> {
  const title = heading("Choose a password");
  const token = linkToken("password");
  if (token === undefined) {
    const again = link("/forgot-password", "Ask for another.");
    return [title, element("p", {}, "This link is not complete. ", again)];
  }
  const step = element("div");
  const choose = form({
    fields: [
      {
        name: "password",
        label: "New password",
        hint: "At least 8 characters. Every login so far ends.",
        type: "password",
        autocomplete: "new-password",
      },
    ],
    submit: "Set the password",
    onSubmit: async ({ password }) => {
      try {
        await ouvira.POST("/api/auth/password/reset/", { body: { token, password } });
      } catch (error) {
        if (isOver(error)) forgetLinkToken("password");
        throw error;
      }
      forgetLinkToken("password");
      step.replaceChildren(notice("Your password is set."), link("/log-in", "Log in"));
    },
  });
  step.append(choose);
  return [title, step];
}
