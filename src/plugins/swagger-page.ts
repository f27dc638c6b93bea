/**
 * What is ours on the page of Swagger UI: a log-in above it. Text, since it runs in a browser and `tsc` copies no other
 * files; the browser's tests are what checks it.
 */

/**
 * @param base where the page's files are, without a slash at the end
 * @param tenant what the box for the tenant begins with
 */
export function swaggerBody(base: string, tenant: string): string {
  return `<form id="login" class="login" aria-label="Log in" novalidate>
  <p class="login-links">
    <a href="${base}/../swagger.json">swagger.json</a>
    <a href="${base}/../swagger.yaml">swagger.yaml</a>
    <a href="${base}/../redoc/">ReDoc</a>
  </p>
  <div class="login-fields">
    <label>Tenant
      <input name="tenant" value="${tenant}" autocomplete="organization" autocapitalize="none"
        spellcheck="false" maxlength="253" title="Sent as X-Tenant with every call">
    </label>
    <label class="login-step">E-mail, phone or username
      <input name="identifier" autocomplete="username" autocapitalize="none" spellcheck="false">
    </label>
    <label class="login-step">Password
      <input name="password" type="password" autocomplete="current-password">
    </label>
    <label class="code-step" hidden>Code of the second factor
      <input name="code" autocomplete="one-time-code" inputmode="numeric" maxlength="20">
    </label>
    <button type="submit">Log in</button>
    <button type="button" name="logout" hidden>Log out</button>
  </div>
  <p id="login-status" role="status"></p>
</form>
<div id="swagger-ui"></div>`;
}

export const SWAGGER_STYLES = `body { margin: 0; background: #fafafa; }
.login {
  box-sizing: border-box;
  max-width: 1460px;
  margin: 0 auto;
  padding: 16px 20px;
  border-bottom: 1px solid #d8dde7;
  color: #3b4151;
  font: 14px/1.4 system-ui, sans-serif;
}
.login [hidden] { display: none; }
.login-links { float: right; margin: 0; }
.login-links a { margin-left: 12px; color: #2b5aa8; }
.login-fields { display: flex; flex-wrap: wrap; align-items: flex-end; gap: 12px; }
.login label { display: flex; flex-direction: column; gap: 4px; font-weight: 600; }
.login input {
  min-width: 180px;
  padding: 7px 9px;
  border: 1px solid #6b7280;
  border-radius: 4px;
  font: inherit;
  font-weight: 400;
}
.login button {
  padding: 8px 18px;
  border: 1px solid #1f5f3f;
  border-radius: 4px;
  background: #1f7a4d;
  color: #fff;
  font: inherit;
  font-weight: 600;
  cursor: pointer;
}
.login button[name="logout"] { border-color: #6b7280; background: #fff; color: #3b4151; }
.login button:disabled { opacity: 0.6; cursor: default; }
.login :focus-visible { outline: 3px solid #2b5aa8; outline-offset: 1px; }
#login-status { min-height: 1.4em; margin: 8px 0 0; }
#login-status.failed { color: #a3120a; }
`;

export const SWAGGER_SCRIPT = `"use strict";
(() => {
  const root = new URL("../", document.currentScript.src);
  const form = document.getElementById("login");
  const { tenant, identifier, password, code, logout } = form.elements;
  const submit = form.querySelector("button[type=submit]");
  const status = document.getElementById("login-status");
  const SCHEME = "bearerAuth";

  // Kept in this page alone: a reload forgets it.
  let ui;
  let tokens;
  let challenge;

  function say(text, isFailure = false) {
    status.textContent = text;
    status.classList.toggle("failed", isFailure);
  }

  /** Shows the fields of the step that is next. */
  function showStep() {
    for (const label of form.querySelectorAll(".login-step")) label.hidden = Boolean(tokens || challenge);
    form.querySelector(".code-step").hidden = !challenge;
    submit.hidden = Boolean(tokens);
    submit.textContent = challenge ? "Send the code" : "Log in";
    logout.hidden = !tokens && !challenge;
    logout.textContent = challenge ? "Cancel" : "Log out";
    tenant.readOnly = Boolean(tokens || challenge);
  }

  function tenantHeader() {
    const name = tenant.value.trim();
    return name === "" ? {} : { "X-Tenant": name };
  }

  async function call(path, body, access) {
    const response = await fetch(new URL(path, root), {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        ...tenantHeader(),
        ...(access ? { Authorization: "Bearer " + access } : {}),
      },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    const answer = text === "" ? {} : JSON.parse(text);
    if (!response.ok) {
      const fields = Object.entries(answer.errors ?? {}).map(([field, found]) => field + ": " + found.join(" "));
      throw new Error([answer.detail ?? "The answer was " + response.status + ".", ...fields].join(" "));
    }
    return answer;
  }

  async function logIn() {
    const answer = challenge
      ? await call("api/auth/login-2fa-verify-code/", { session_id: challenge, code: code.value })
      : await call("api/auth/login/", { identifier: identifier.value.trim(), password: password.value });
    password.value = "";
    code.value = "";
    if (answer.requires_2fa) {
      challenge = answer.session_id;
      showStep();
      code.focus();
      say(answer.method === "sms" ? "A code was sent by SMS." : "Enter the code of your authenticator app.");
      return;
    }
    challenge = undefined;
    tokens = answer.tokens;
    ui.preauthorizeApiKey(SCHEME, tokens.access);
    showStep();
    logout.focus();
    const end = new Date(Date.now() + tokens.expires_in * 1000);
    const time = end.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    say("Logged in as " + answer.user.full_name + ". The access token is sent with every call, until " + time + ".");
  }

  async function logOut() {
    const ended = tokens;
    tokens = undefined;
    challenge = undefined;
    ui.authActions.logout([SCHEME]);
    showStep();
    identifier.focus();
    say(ended ? "Logged out." : "");
    if (ended) await call("api/auth/logout/", { refresh: ended.refresh }, ended.access);
  }

  /** Does one thing at a time, and tells how it failed. */
  async function run(work) {
    submit.disabled = true;
    try {
      await work();
    } catch (error) {
      say(error.message, true);
    } finally {
      submit.disabled = false;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void run(logIn);
  });
  logout.addEventListener("click", () => void run(logOut));

  /** An example that is filled in is sent: of what may be left out it is told instead. */
  function withoutFilledIn(parameter) {
    const { example, ...rest } = parameter;
    if (parameter.in === "path" || parameter.required || example === undefined) return parameter;
    return { ...rest, description: rest.description + " For example \`" + example + "\`." };
  }

  function adapted(description) {
    for (const path of Object.values(description.paths)) {
      for (const operation of Object.values(path)) {
        operation.parameters = operation.parameters?.map((one) => (one.$ref ? one : withoutFilledIn(one)));
      }
    }
    const shared = description.components.parameters;
    for (const name of Object.keys(shared)) shared[name] = withoutFilledIn(shared[name]);
    shared.Tenant.description += " Left empty, the tenant above is sent.";
    return description;
  }

  function isTenants(url) {
    const path = new URL(url, document.baseURI).pathname;
    return path.includes("/api/") && !path.includes("/api/platform/");
  }

  async function start() {
    const response = await fetch(new URL("swagger.json", root));
    if (!response.ok) throw new Error("The document could not be loaded: " + response.status + ".");
    ui = SwaggerUIBundle({
      spec: adapted(await response.json()),
      dom_id: "#swagger-ui",
      deepLinking: true,
      displayRequestDuration: true,
      // Over a hundred operations laid out at once would take a laptop seconds.
      docExpansion: "none",
      filter: true,
      tryItOutEnabled: true,
      // Swagger's own service would be sent the document's address.
      validatorUrl: null,
      requestInterceptor(request) {
        // What is written at the operation itself comes first.
        const isNamed = Object.keys(request.headers).some((name) => name.toLowerCase() === "x-tenant");
        if (!isNamed && isTenants(request.url)) Object.assign(request.headers, tenantHeader());
        return request;
      },
    });
  }

  showStep();
  void run(start);
})();
`;
