/**
 * What docs/SPA.md and README.md show, between `#region` and `#endregion`. It is compiled with everything else, and
 * `document.test.ts` runs it against the service.
 */
import {
  createOuvira,
  type KeyValueStorage,
  type Ouvira,
  OuviraError,
  tokensInStorage,
} from "../src/client.ts";

/** What a person types into the form of a page. */
type Ask = (question: string) => Promise<string>;

/** Of the page. */
export interface PageParts {
  readonly localStorage: KeyValueStorage;
  readonly showLogin: () => void;
  readonly showRemaining: (requests: number) => void;
  readonly baseUrl: string;
  readonly tenant: string;
}

export async function overview(
  baseUrl: string,
  tenant: string,
  identifier: string,
  password: string,
): Promise<number> {
  // #region overview
  const ouvira = createOuvira({ baseUrl, tenant });

  const answer = await ouvira.POST("/api/auth/login/", { body: { identifier, password } });
  if ("requires_2fa" in answer) throw new Error("Ask for the code: docs/SPA.md shows how");
  await ouvira.keepTokens(answer.tokens);

  const { count } = await ouvira.GET("/api/company/", { params: { query: { search: "engine" } } });
  try {
    await ouvira.POST("/api/company/", { body: { name: "" } });
  } catch (error) {
    if (error instanceof OuviraError && error.code === "validation_error") {
      console.log(error.errors); // { name: ["…"] }
    }
  }
  await ouvira.logOut();
  // #endregion
  return count;
}

export function create({ localStorage, showLogin, baseUrl, tenant }: PageParts): Ouvira {
  // #region create
  const ouvira = createOuvira({
    baseUrl, // http://localhost:8000
    tenant, // demo
    tokens: tokensInStorage(localStorage, `ouvira.${tenant}`),
    onLoggedOut: () => showLogin(),
  });
  // #endregion
  return ouvira;
}

export async function signUp(ouvira: Ouvira, ask: Ask): Promise<void> {
  // #region sign-up
  const { primary_mobile } = await ouvira.POST("/api/auth/signup/", {
    body: { full_name: await ask("name"), primary_mobile: await ask("mobile number") },
  });
  const { verification_token } = await ouvira.POST("/api/auth/verify-otp/", {
    body: { primary_mobile, otp: await ask("code of the SMS") },
  });
  const { tokens, user } = await ouvira.POST("/api/auth/finalize-signin/", {
    body: {
      primary_mobile,
      verification_token,
      email: await ask("e-mail"),
      password: await ask("password"),
    },
  });
  await ouvira.keepTokens(tokens);
  // #endregion
  if (user.email === null) throw new Error("A sign-up has an address");
}

export async function logIn(ouvira: Ouvira, ask: Ask): Promise<void> {
  // #region log-in
  const answer = await ouvira.POST("/api/auth/login/", {
    body: { identifier: await ask("e-mail"), password: await ask("password") },
  });
  if ("requires_2fa" in answer) {
    const { tokens } = await ouvira.POST("/api/auth/login-2fa-verify-code/", {
      body: { session_id: answer.session_id, code: await ask(`code by ${answer.method}`) },
    });
    await ouvira.keepTokens(tokens);
  } else {
    await ouvira.keepTokens(answer.tokens);
  }
  // #endregion
}

export async function turnSecondFactorOn(
  ouvira: Ouvira,
  ask: Ask,
  show: (qrCode: string | null, backupCodes: readonly string[]) => void,
): Promise<void> {
  // #region second-factor
  const { qr_code, backup_codes } = await ouvira.POST("/api/auth/settings_enable-2fa/", {
    body: { method: "totp", password: await ask("password") },
  });
  show(qr_code, backup_codes); // otpauth://…, to draw as a QR code; ten codes, shown only now
  await ouvira.POST("/api/auth/settings_confirm-2fa/", {
    body: { code: await ask("code by totp") },
  });
  // #endregion
}

export async function makeCompany(
  ouvira: Ouvira,
  ask: Ask,
  showAtField: (field: string, sentences: readonly string[]) => void,
  showSentence: (sentence: string) => void,
): Promise<void> {
  // #region errors
  try {
    await ouvira.POST("/api/company/", { body: { name: await ask("company") } });
  } catch (error) {
    if (!(error instanceof OuviraError)) throw error; // nobody answered: say so, offer to try again
    switch (error.code) {
      case "validation_error":
        for (const [field, sentences] of Object.entries(error.errors)) {
          showAtField(field, sentences);
        }
        break;
      case "rate_limited":
        showSentence(`Try again in ${error.retryAfterSeconds} seconds.`);
        break;
      default:
        showSentence(error.detail); // written for people
    }
  }
  // #endregion
}

export async function findCompanies(ouvira: Ouvira): Promise<readonly string[]> {
  // #region lists
  const names: string[] = [];
  for (let page = 1, isLast = false; !isLast; page += 1) {
    const list = await ouvira.GET("/api/company/", {
      params: { query: { search: "engine", ordering: "-created_at", page, page_size: 50 } },
    });
    names.push(...list.results.map(({ name }) => name));
    isLast = list.next === null;
  }
  // #endregion
  return names;
}

export async function readLog(ouvira: Ouvira): Promise<number> {
  let count = 0;
  // #region cursor
  let cursor: string | undefined;
  do {
    const log = await ouvira.GET("/api/audit/activity-logs/my/", {
      params: { query: cursor === undefined ? {} : { cursor } },
    });
    count += log.results.length;
    cursor = log.next_cursor ?? undefined;
  } while (cursor !== undefined);
  // #endregion
  return count;
}

export async function mayInvite(ouvira: Ouvira, company: number): Promise<boolean> {
  // #region permissions
  const { permissions } = await ouvira.GET("/api/access-control/my-permissions/", {
    params: { query: { company } },
  });
  const isInviteShown = permissions.includes("invitations.manage");
  // #endregion
  return isInviteShown;
}

export function createWatching({ showRemaining, baseUrl, tenant }: PageParts): Ouvira {
  // #region limits
  const ouvira = createOuvira({
    baseUrl,
    tenant,
    fetch: async (request) => {
      const response = await fetch(request);
      const remaining = response.headers.get("RateLimit-Remaining");
      if (remaining !== null) showRemaining(Number(remaining));
      return response;
    },
  });
  // #endregion
  return ouvira;
}

export async function uploadLogo(ouvira: Ouvira, company: number, file: Blob): Promise<Blob> {
  // #region bytes
  const path = { id: company };
  await ouvira.PUT("/api/company/{id}/logo/", { params: { path }, body: file });
  const logo = await ouvira.GET("/api/company/{id}/logo/", { params: { path } });
  // #endregion
  return logo;
}

/** What a page has of its address. */
interface Address {
  readonly href: string;
  readonly pathname: string;
}

export function linkParts(
  location: Address,
  history: { replaceState(state: null, unused: string, url: string): void },
): { readonly tenant: string | null; readonly token: string | null } {
  // #region link
  const { searchParams, hash } = new URL(location.href);
  const tenant = searchParams.get("tenant");
  const token = new URLSearchParams(hash.slice(1)).get("token");
  history.replaceState(null, "", location.pathname);
  // #endregion
  return { tenant, token };
}
