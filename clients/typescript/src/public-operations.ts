// Written by `npm run client` from the OpenAPI document. Change the routes, not this file.

/** Operations that need no login, so that none is sent along, as `method path`. */
export const PUBLIC_OPERATIONS: ReadonlySet<string> = new Set([
  "get /",
  "get /healthz",
  "get /readyz",
  "post /api/platform/login/",
  "post /api/platform/login-2fa-verify-code/",
  "post /api/platform/token/refresh/",
  "post /api/auth/signup/",
  "post /api/auth/verify-otp/",
  "post /api/auth/resent-otp/",
  "post /api/auth/finalize-signin/",
  "post /api/auth/login/",
  "post /api/auth/login-2fa-verify-code/",
  "post /api/auth/login-2fa-resend/",
  "post /api/auth/login-2fa-verify-backup/",
  "post /api/auth/token/refresh/",
  "post /api/auth/password/forgot/",
  "post /api/auth/password/reset/",
  "post /api/account/email/verify/",
]);
