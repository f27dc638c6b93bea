import { toString as qrCodeOf } from "qrcode";
import { ouvira } from "../api.ts";
import { type Child, element, fill, heading, notice } from "../element.ts";
import { form } from "../form.ts";
import { outboxHint } from "../outbox-hint.ts";

/** Who the caller is, and their second factor. */
export async function accountPage(): Promise<readonly Child[]> {
  const profile = await ouvira.GET("/api/account/profile/");
  const factor = element("section");
  fill(factor, ...(profile.is_2fa_enabled ? turnOff(factor) : turnOn(factor)));
  const rows: readonly (readonly [string, string])[] = [
    ["Name", profile.full_name],
    ["E-mail", `${profile.email ?? "none"}${profile.email_verified ? "" : " (not verified yet)"}`],
    ["Mobile", profile.primary_mobile],
  ];
  return [
    heading("Account"),
    element(
      "dl",
      {},
      ...rows.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]),
    ),
    element("h2", {}, "Second factor"),
    factor,
  ];
}

function turnOn(factor: HTMLElement): readonly Child[] {
  return [
    element("p", {}, "Off. With it on, a login needs a code besides the password."),
    form({
      fields: [
        {
          name: "method",
          label: "Codes come from",
          choices: new Map([
            ["totp", "an authenticator app"],
            ["sms", "SMS"],
          ]),
        },
        {
          name: "password",
          label: "Your password",
          type: "password",
          autocomplete: "current-password",
        },
      ],
      submit: "Turn it on",
      onSubmit: async ({ method, password }) => {
        const begun = await ouvira.POST("/api/auth/settings_enable-2fa/", {
          body: { method: method === "sms" ? "sms" : "totp", password },
        });
        const title = element("h3", { tabIndex: -1 }, "Two more steps");
        fill(factor, title, ...(await enrolment(begun)), confirmation(factor));
        // Not the input below: what is to be scanned, and kept, comes before it.
        title.focus();
      },
    }),
  ];
}

interface Enrolment {
  readonly secret: string | null;
  readonly qr_code: string | null;
  readonly backup_codes: readonly string[];
}

/** What the person needs to see: once, here. */
async function enrolment({ secret, qr_code, backup_codes }: Enrolment): Promise<readonly Child[]> {
  const shown: Child[] = [];
  if (secret !== null && qr_code !== null) {
    const svg = await qrCodeOf(qr_code, { type: "svg", margin: 2 });
    shown.push(
      element("p", {}, "Scan this with your app, or type the key into it."),
      element("img", {
        className: "qr",
        alt: "QR code with the key below",
        src: `data:image/svg+xml,${encodeURIComponent(svg)}`,
      }),
      element("p", {}, element("code", { id: "totp-secret" }, secret)),
    );
  } else {
    shown.push(element("p", {}, "A code is on its way to your phone."), outboxHint());
  }
  shown.push(
    element("h3", {}, "Backup codes"),
    element("p", {}, "For the day the phone is gone. Keep them: they are not shown again."),
    element(
      "ul",
      { className: "codes" },
      ...backup_codes.map((code) => element("li", {}, element("code", {}, code))),
    ),
  );
  return shown;
}

function confirmation(factor: HTMLElement): HTMLFormElement {
  return form({
    fields: [
      {
        name: "code",
        label: "A code, to show that it works",
        hint: "Until it was right, nothing changes.",
        isCode: true,
      },
    ],
    submit: "Confirm",
    onSubmit: async (body) => {
      const { message } = await ouvira.POST("/api/auth/settings_confirm-2fa/", { body });
      fill(factor, notice(message), ...turnOff(factor));
    },
  });
}

function turnOff(factor: HTMLElement): readonly Child[] {
  return [
    element("p", {}, "On: a login needs a code besides the password."),
    form({
      fields: [
        {
          name: "password",
          label: "Your password",
          type: "password",
          autocomplete: "current-password",
        },
        { name: "code", label: "A code, or a backup code", isCode: true },
      ],
      submit: "Turn it off",
      onSubmit: async (body) => {
        const { message } = await ouvira.POST("/api/auth/settings_disable-2fa/", { body });
        fill(factor, notice(message), ...turnOn(factor));
      },
    }),
  ];
}
