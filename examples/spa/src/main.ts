import "./style.css";
import { onLoginEnd, ouvira, TENANT } from "./api.ts";
import { button } from "./button.ts";
import { element, link } from "./element.ts";
import { acceptInvitationPage } from "./pages/accept-invitation.ts";
import { accountPage } from "./pages/account.ts";
import { companiesPage } from "./pages/companies.ts";
import { companyPage } from "./pages/company.ts";
import { forgotPasswordPage, resetPasswordPage } from "./pages/password.ts";
import { logInPage } from "./pages/log-in.ts";
import { signUpPage } from "./pages/sign-up.ts";
import { verifyEmailPage } from "./pages/verify-email.ts";
import { go, type Page, startRouter } from "./router.ts";

/** A page that shows the login instead while nobody is logged in. */
const withLogin =
  (page: Page): Page =>
  async (id) =>
    (await ouvira.isLoggedIn()) ? page(id) : logInPage(id);

const header = element("header");

async function showHeader(): Promise<void> {
  const isLoggedIn = await ouvira.isLoggedIn();
  const links = isLoggedIn
    ? [link("/", "Companies"), link("/account", "Account"), button("Log out", logOut, "plain")]
    : [link("/log-in", "Log in"), link("/sign-up", "Sign up")];
  for (const one of links) {
    if (one instanceof HTMLAnchorElement && one.pathname === location.pathname) {
      one.ariaCurrent = "page";
    }
  }
  header.replaceChildren(
    element("a", { href: "/", className: "brand" }, "Ouvira"),
    element("span", { className: "tenant", title: "The tenant of this tab" }, TENANT),
    element("nav", { ariaLabel: "Pages" }, ...links),
  );
}

async function logOut(): Promise<void> {
  // Whatever the API says, or does not: this browser has forgotten the login.
  await ouvira.logOut().catch(() => undefined);
  go("/log-in");
}

const main = element("main");
document.body.append(header, main);
onLoginEnd(() => go("/log-in"));
startRouter({
  main,
  showHeader,
  routes: [
    { path: /^\/$/, page: withLogin(companiesPage) },
    { path: /^\/companies\/(\d+)$/, page: withLogin(companyPage) },
    { path: /^\/account$/, page: withLogin(accountPage) },
    { path: /^\/log-in$/, page: logInPage },
    { path: /^\/sign-up$/, page: signUpPage },
    { path: /^\/forgot-password$/, page: forgotPasswordPage },
    // Where links of e-mails lead.
    { path: /^\/reset-password$/, page: resetPasswordPage },
    { path: /^\/verify-email$/, page: verifyEmailPage },
    { path: /^\/accept-invitation$/, page: acceptInvitationPage },
  ],
});
