import { ouvira } from "../api.ts";
import { button } from "../button.ts";
import { type Child, element, heading, link, notice } from "../element.ts";
import { form } from "../form.ts";
import { forgetLinkToken, isOver, linkToken } from "../link-token.ts";
import { outboxHint } from "../outbox-hint.ts";
import { go } from "../router.ts";

/** Where an invitation's link leads. docs/INVITATIONS.md has the whole way. */
export async function acceptInvitationPage(): Promise<readonly Child[]> {
  const title = heading("You are invited");
  const token = linkToken("invitation");
  if (token === undefined) {
    return [title, notice("This link is not complete. Open it in the e-mail again.", "failure")];
  }
  if (!(await ouvira.isLoggedIn())) {
    return [
      title,
      element("p", {}, "To join, use the address to which the invitation was sent."),
      element(
        "p",
        { className: "choices" },
        element("a", { href: "/sign-up", className: "button" }, "Sign up"),
        element("a", { href: "/log-in", className: "button secondary" }, "Log in"),
      ),
    ];
  }
  const profile = await ouvira.GET("/api/account/profile/");
  return [title, profile.email_verified ? acceptForm(token) : waiting(profile.email)];
}

/** One button. What it may be refused for is in docs/INVITATIONS.md, with what to do then. */
function acceptForm(token: string): HTMLElement {
  return form({
    fields: [],
    submit: "Accept the invitation",
    onSubmit: async () => {
      try {
        const { company } = await ouvira.POST("/api/access-control/invitations/accept/", {
          body: { token },
        });
        forgetLinkToken("invitation");
        go(`/companies/${company}`);
      } catch (error) {
        if (isOver(error)) forgetLinkToken("invitation");
        throw error;
      }
    },
  });
}

/** The address has to be verified first, in whatever tab or device its link is opened. */
function waiting(email: string | null): HTMLElement {
  const look = async () => {
    const { email_verified: isVerified } = await ouvira.GET("/api/account/profile/");
    if (!isVerified) return;
    document.removeEventListener("visibilitychange", lookWhenShown);
    if (location.pathname === "/accept-invitation") go("/accept-invitation");
  };
  const lookWhenShown = () => {
    // A failure shows at the button, which does the same.
    if (document.visibilityState === "visible") void look().catch(() => undefined);
  };
  document.addEventListener("visibilitychange", lookWhenShown);
  const answers = element("div");
  return element(
    "div",
    {},
    element("p", {}, `We have sent a link to ${email ?? "your address"}. Open it, then come back.`),
    outboxHint(),
    element(
      "p",
      { className: "choices" },
      button("I have opened it", look, "primary"),
      button("Send another link", async () => {
        const { message } = await ouvira.POST("/api/account/email/resend/");
        answers.replaceChildren(notice(message));
      }),
    ),
    answers,
    element("p", {}, "Invited at another address? Log out, then ", link("/log-in", "log in"), "."),
  );
}
