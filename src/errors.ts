/**
 * Every failure a client can be told about, and its HTTP status (RFC 9110). Codes are public: add,
 * never rename. The table is the type: an unlisted code does not compile.
 */
export const STATUS_BY_CODE = {
  bad_host: 400,
  tenant_required: 400,
  bad_request: 400,
  validation_error: 400,
  invalid_otp: 400,
  otp_expired: 400,
  invalid_2fa_code: 400,
  invalid_token: 400,
  captcha_failed: 400,
  authentication_required: 401,
  invalid_credentials: 401,
  token_expired: 401,
  token_revoked: 401,
  token_tenant_mismatch: 401,
  refresh_reused: 401,
  permission_denied: 403,
  tenant_suspended: 403,
  tenant_read_only: 403,
  account_disabled: 403,
  origin_refused: 403,
  not_found: 404,
  tenant_not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  conflict: 409,
  payload_too_large: 413,
  uri_too_long: 414,
  unsupported_media_type: 415,
  rate_limited: 429,
  headers_too_large: 431,
  internal_error: 500,
  overloaded: 503,
  not_ready: 503,
} as const;

export type ErrorCode = keyof typeof STATUS_BY_CODE;

/** One field's complaints: dotted path → sentences. Only `validation_error` carries them. */
export type FieldErrors = Record<string, string[]>;

export interface AppErrorOptions extends ErrorOptions {
  /** Sent as `Retry-After` (RFC 9110 §10.2.3). */
  retryAfterSeconds?: number;
  errors?: FieldErrors;
}

/**
 * A failure the caller can act on. Its `detail` is written for the caller and reaches the response
 * body as it is; the `cause` never does. Anything else thrown is a bug or an outage: a bare 500.
 */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ErrorCode;
  readonly retryAfterSeconds: number | undefined;
  readonly errors: FieldErrors | undefined;

  constructor(code: ErrorCode, detail: string, options: AppErrorOptions = {}) {
    super(detail, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.errors = options.errors;
  }

  get statusCode(): number {
    return STATUS_BY_CODE[this.code];
  }
}
