import { PERMISSIONS } from "../access-control/catalogue.ts";
import { type ErrorCode, STATUS_BY_CODE } from "../errors.ts";
import type { RouteLimit } from "./rate-limits.ts";

/** How the limits that routes declare are called to clients. */
export const LIMIT_NAMES: Readonly<Record<RouteLimit, string>> = {
  login: "*login*",
  otpSend: "*OTP send*",
  otpVerify: "*OTP verify*",
  finalize: "*finalize*",
  refresh: "*token refresh*",
};

/** What each code means to a client, for the table of codes and the examples. */
export const MEANING_BY_CODE: Readonly<Record<ErrorCode, string>> = {
  bad_host: "This host name is not served here.",
  tenant_required: "The request names no tenant, neither by X-Tenant nor by its host.",
  bad_request: "The request could not be read.",
  validation_error: "A field is missing, unknown or not valid; `errors` says which.",
  invalid_otp: "The code is wrong, or it was tried too often.",
  otp_expired: "The code is older than 10 minutes. Ask for another.",
  invalid_2fa_code: "The code of the second factor is wrong or was used before.",
  invalid_token: "The token of a link or proof is wrong, expired or used.",
  captcha_failed: "The captcha was not solved.",
  authentication_required: "The access token is missing or not valid.",
  invalid_credentials: "The identifier and the password do not belong together.",
  token_expired: "The token has expired. Exchange the refresh token, or log in.",
  token_revoked: "The login behind the token has ended. Log in again.",
  token_tenant_mismatch: "The token belongs to another tenant.",
  refresh_reused: "The refresh token was exchanged before; the login has ended.",
  permission_denied: "The caller sees this but may not do it.",
  tenant_suspended: "This tenant is suspended.",
  tenant_read_only: "This tenant can be read, not changed, at the moment.",
  account_disabled: "This account is disabled.",
  origin_refused: "Requests from pages of this origin are refused.",
  not_found: "There is no such thing, or the caller may not see it.",
  tenant_not_found: "There is no such tenant.",
  method_not_allowed: "The path exists but not with this method; see `Allow`.",
  request_timeout: "The request took too long to arrive.",
  conflict: "A duplicate, or a state that does not allow the change; `detail` says which.",
  payload_too_large: "The body is too large.",
  uri_too_long: "The address is too long.",
  unsupported_media_type:
    "The body is not of a kind that the operation takes: `application/json`, mostly.",
  rate_limited: "Too many requests. `Retry-After` says when to try again.",
  headers_too_large: "The headers are too large.",
  internal_error: "Something went wrong. It was logged under this request's id.",
  overloaded: "The service is busy. Try again.",
  not_ready: "The service cannot do its work yet. Try again.",
};

/** Headings of the document, in its order; a route's tag must be one of them. Unused ones are left out. */
export const TAGS = [
  {
    name: "Authentication",
    description: "Sign-up by a code sent to a phone, login, tokens, passwords.",
  },
  { name: "Account", description: "What users see and change of their own account." },
  { name: "Company", description: "Companies of a tenant, their settings and subsidiaries." },
  {
    name: "Access control",
    description: "Roles, permissions, memberships of companies, invitations.",
  },
  { name: "Audit", description: "Notifications, and the logs of what was done." },
  {
    name: "Platform",
    description: "For operators: tenants and their domains. Outside any tenant.",
  },
  { name: "Service", description: "For load balancers and monitors. Outside any tenant." },
  { name: "Development", description: "Only with APP_ENV=local." },
] as const;

const CODE_TABLE = (Object.keys(STATUS_BY_CODE) as ErrorCode[])
  .toSorted((a, b) => STATUS_BY_CODE[a] - STATUS_BY_CODE[b])
  .map((code) => `| ${STATUS_BY_CODE[code]} | \`${code}\` | ${MEANING_BY_CODE[code]} |`)
  .join("\n");

const PERMISSION_TABLE = Object.entries(PERMISSIONS)
  .map(([code, { description }]) => `| \`${code}\` | ${description} |`)
  .join("\n");

/** The conventions that hold for every operation, in Markdown. */
export const DESCRIPTION = `
Multi-tenant backend for B2B products: identity, companies, access control and audit.

# Conventions

JSON in, JSON out; names in \`snake_case\`, integer ids, times in ISO 8601 UTC with \`Z\`.
Every path ends in \`/\`; without it the answer is the same, not a redirect.
Unknown fields of a body are refused, never ignored. \`PUT\` replaces all writable fields, \`PATCH\` those sent.
\`DELETE\` is a soft delete: the row then answers 404, and its name can be taken again.

# Tenant

Every operation below \`/api/\`, except \`/api/platform/\`, needs a tenant, sign-up and login included:
a user belongs to one tenant. Name it in the header \`X-Tenant: <subdomain>\`, or call the host
\`<subdomain>.<base domain>\` or a domain of the tenant. The header wins.

# Tokens

Send the \`access\` token of a login as \`Authorization: Bearer <access>\`. It is bound to its tenant.
When it has expired (401 \`token_expired\`), exchange the \`refresh\` token at \`/api/auth/token/refresh/\`.

# Permissions

Who may do what is decided by the company of the row that is touched. Its roles \`Owner\` and \`Admin\` pass, and so do the
tenant's own admins, everywhere. Other members need a role that grants the permission; what one of their roles denies
they have not. Nobody gives, assigns or invites to more than they hold. Rights do not pass from a company to those
below it. \`/api/access-control/my-permissions/\` says what the caller may do in a company.

| permission | allows to |
|---|---|
${PERMISSION_TABLE}

# Lists

\`{"count": 41, "next": "http://…?page=3", "previous": "http://…?page=1", "results": […]}\`, with
\`?page=\` (from 1), \`?page_size=\` (20 unless said, 100 at most), \`?search=\` and \`?ordering=\`
(\`name\`, \`-created_at\`) where an operation lists them. A page past the end is 404 \`not_found\`. The logs also take \`?cursor=\`, the
\`next_cursor\` of the page before: it costs the same at any depth, and new entries do not shift it.

# Rate limits

Below \`/api/\` requests are counted, in windows that begin with the first one. Every answer says in
\`RateLimit-Limit\`, \`RateLimit-Remaining\` and \`RateLimit-Reset\` (seconds) where the caller stands with
the limit that has the fewest requests left. Past it the answer is 429 \`rate_limited\`. How many requests
are allowed is the operator's choice; what they are counted by is not:

| limit | counted by |
|---|---|
| *anonymous*: requests without an accepted access or refresh token | tenant and address |
| *authenticated*: all others | user |
| *login* | tenant and address; the identifier, for each part of the network |
| *OTP send* | tenant and address; whom the code goes to, for each part of the network |
| *OTP verify* | user, pending login, or the phone number for each part of the network |
| *finalize*, *token refresh* | tenant and address |

An IPv6 address counts as its /64. A part of the network is a /24 of IPv4, a /48 of IPv6.

# Errors

Every failure is \`application/problem+json\` (RFC 9457) with a \`code\` that never changes its meaning.
What the caller may not see answers 404, what it sees but may not do 403. 429 and 503 say in \`Retry-After\`
after how many seconds to try again.

Each operation lists its own codes. Any request can also meet the ones about its form: \`bad_host\`,
\`bad_request\`, \`origin_refused\`, \`method_not_allowed\`, \`request_timeout\`, \`payload_too_large\`,
\`uri_too_long\`, \`unsupported_media_type\` and \`headers_too_large\`.

| status | code | meaning |
|---|---|---|
${CODE_TABLE}
`.trim();
