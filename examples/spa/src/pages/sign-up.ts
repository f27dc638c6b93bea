import { ouvira } from "../api.ts";
import { button } from "../button.ts";
import { type Child, element, heading, link, notice, showStep } from "../element.ts";
import { form } from "../form.ts";
import { pathAfterLogin } from "../link-token.ts";
import { outboxHint } from "../outbox-hint.ts";
import { go } from "../router.ts";

/** Three steps: who you are, the code that was sent to your phone, how you will log in. */
export async function signUpPage(): Promise<readonly Child[]> {
  const step = element("div");

  const begin = form({
    fields: [
      { name: "full_name", label: "Your name", autocomplete: "name" },
      {
        name: "primary_mobile",
        label: "Mobile number",
        hint: "With the country's code, such as +20 100 123 4567.",
        type: "tel",
        autocomplete: "tel",
      },
    ],
    submit: "Send me a code",
    onSubmit: async (values) => {
      const { primary_mobile: phone } = await ouvira.POST("/api/auth/signup/", { body: values });
      showStep(step, ...enterCode(step, phone));
    },
  });

  step.append(begin, element("p", {}, "Already have an account? ", link("/log-in", "Log in")));
  return [heading("Sign up"), step];
}

function enterCode(step: HTMLElement, phone: string): readonly Child[] {
  const verify = form({
    fields: [{ name: "otp", label: `The code sent to ${phone}`, isCode: true }],
    submit: "Verify",
    onSubmit: async ({ otp }) => {
      const body = { primary_mobile: phone, otp };
      const { verification_token } = await ouvira.POST("/api/auth/verify-otp/", { body });
      showStep(step, ...finish(phone, verification_token));
    },
  });
  const answers = element("div");
  const again = button("Send another code", async () => {
    const { message } = await ouvira.POST("/api/auth/resent-otp/", {
      body: { primary_mobile: phone },
    });
    answers.replaceChildren(notice(message));
  });
  return [verify, outboxHint(), again, answers];
}

function finish(phone: string, proof: string): readonly Child[] {
  const details = form({
    fields: [
      { name: "email", label: "E-mail address", type: "email", autocomplete: "email" },
      {
        name: "password",
        label: "Password",
        hint: "At least 8 characters. A few words make a good one.",
        type: "password",
        autocomplete: "new-password",
      },
    ],
    submit: "Make my account",
    onSubmit: async (values) => {
      const { tokens } = await ouvira.POST("/api/auth/finalize-signin/", {
        body: { primary_mobile: phone, verification_token: proof, ...values },
      });
      await ouvira.keepTokens(tokens);
      go(pathAfterLogin());
    },
  });
  return [notice("Your number is verified."), details];
}
