import { ouvira } from "../api.ts";
import { button } from "../button.ts";
import { type Child, element, fill, heading, link, notice, showStep } from "../element.ts";
import { form } from "../form.ts";
import { pathAfterLogin } from "../link-token.ts";
import { outboxHint } from "../outbox-hint.ts";
import { go } from "../router.ts";

/** A password, and the code of a second factor where one is on. */
export async function logInPage(_id: number): Promise<readonly Child[]> {
  const step = element("div");
  const password = form({
    fields: [
      {
        name: "identifier",
        label: "E-mail address or mobile number",
        autocomplete: "username",
      },
      {
        name: "password",
        label: "Password",
        type: "password",
        autocomplete: "current-password",
      },
    ],
    submit: "Log in",
    onSubmit: async (body) => {
      const answer = await ouvira.POST("/api/auth/login/", { body });
      if ("requires_2fa" in answer) {
        showStep(step, secondFactor(answer.session_id, answer.method));
        return;
      }
      await ouvira.keepTokens(answer.tokens);
      go(pathAfterLogin());
    },
  });
  step.append(
    password,
    element("p", {}, link("/forgot-password", "Forgot your password?")),
    element("p", {}, "New here? ", link("/sign-up", "Sign up")),
  );
  return [heading("Log in"), step];
}

/** The second step. The id that the first answered with opens nothing else, for ten minutes. */
function secondFactor(sessionId: string, method: "totp" | "sms"): HTMLElement {
  const step = element("div");
  const code = form({
    fields: [
      {
        name: "code",
        label: method === "totp" ? "The code your app shows" : "The code sent to your phone",
        isCode: true,
      },
    ],
    submit: "Go on",
    onSubmit: async ({ code: entered }) => {
      const { tokens } = await ouvira.POST("/api/auth/login-2fa-verify-code/", {
        body: { session_id: sessionId, code: entered },
      });
      await ouvira.keepTokens(tokens);
      go(pathAfterLogin());
    },
  });
  const answers = element("div");
  const resend = button("Send another code", async () => {
    const { message } = await ouvira.POST("/api/auth/login-2fa-resend/", {
      body: { session_id: sessionId },
    });
    answers.replaceChildren(notice(message));
  });
  const toBackup = button("Use a backup code", async () => {
    showStep(step, backupForm(sessionId));
  });
  const isSms = method === "sms";
  fill(step, code, isSms && outboxHint(), isSms && resend, toBackup, answers);
  return step;
}

function backupForm(sessionId: string): HTMLFormElement {
  return form({
    fields: [{ name: "backup_code", label: "One of your backup codes", hint: "It works once." }],
    submit: "Go on",
    onSubmit: async ({ backup_code }) => {
      const { tokens } = await ouvira.POST("/api/auth/login-2fa-verify-backup/", {
        body: { session_id: sessionId, backup_code },
      });
      await ouvira.keepTokens(tokens);
      go(pathAfterLogin());
    },
  });
}
