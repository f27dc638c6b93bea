import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { TurnstileConfig } from "../config.ts";
import { AppError } from "../errors.ts";

/** How long Cloudflare may take, connecting and a second try included: a person waits for it. */
const TIMEOUT_MS = 3_000;

/** Tries to reach Cloudflare within that time: a kept connection may have been closed meanwhile. */
const TRIES = 2;

/** Cloudflare's own bound for what the widget hands out. */
const ANSWER_LENGTH_MAX = 2_048;

/** Verdicts are some 300 bytes; whatever is much longer is none. */
const VERDICT_BYTES_MAX = 16 * 1_024;

const RETRY_AFTER_SECONDS = 5;

/** Reasons that lie with the answer: missing, forged, older than five minutes or used before. */
const REFUSALS = new Set([
  "missing-input-response",
  "invalid-input-response",
  "timeout-or-duplicate",
]);

const Verdict = z.object({
  success: z.boolean(),
  "error-codes": z.array(z.string()).default([]),
});

/** What a code looks like; anything else stays out of the log, where it might be an echo of what was sent. */
const ERROR_CODE = /^[a-z]{1,20}(-[a-z]{1,20}){0,5}$/;

/**
 * Asks Cloudflare whether a captcha was solved. On which pages it may be solved is a setting of the
 * widget there. https://developers.cloudflare.com/turnstile/get-started/server-side-validation/
 */
export class Turnstile {
  readonly #config: TurnstileConfig;
  readonly #timeoutMs: number;

  constructor(config: TurnstileConfig, { timeoutMs = TIMEOUT_MS }: { timeoutMs?: number } = {}) {
    this.#config = config;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Passes when the widget's answer is good; each is so once. Without a clear verdict nobody passes: a
   * captcha that an outage turns off protects from nothing.
   *
   * @throws AppError `captcha_failed` when the answer is missing, too long, refused or used
   * @throws AppError `not_ready` when Cloudflare gives no verdict, or does not take our secret
   */
  async verify(answer: string | undefined, ip: string): Promise<void> {
    // A form sends an empty text where nothing was solved.
    if (!answer || answer.length > ANSWER_LENGTH_MAX) throw captchaFailed();
    let verdict: z.infer<typeof Verdict>;
    try {
      verdict = await this.#ask(answer, ip);
    } catch (error) {
      throw notReady(error);
    }
    if (verdict.success) return;
    const codes = verdict["error-codes"];
    if (codes.every((code) => REFUSALS.has(code))) throw captchaFailed();
    const named = codes.map((code) => (ERROR_CODE.test(code) ? code : "(no code)"));
    throw notReady(new Error(`Turnstile's siteverify answered ${named.slice(0, 5).join(", ")}`));
  }

  async #ask(answer: string, ip: string): Promise<z.infer<typeof Verdict>> {
    const signal = AbortSignal.timeout(this.#timeoutMs);
    const body = new URLSearchParams({
      secret: this.#config.secretKey,
      response: answer,
      remoteip: ip,
      // With it the second try is not refused as a duplicate of the first.
      idempotency_key: randomUUID(),
    });
    for (let tryNumber = 1; ; tryNumber += 1) {
      try {
        // The secret goes to the configured address and to no other.
        const options = { method: "POST", body, signal, redirect: "manual" } as const;
        return await readVerdict(await fetch(this.#config.verifyUrl, options));
      } catch (error) {
        if (tryNumber === TRIES || signal.aborted || error instanceof NoVerdictError) throw error;
      }
    }
  }
}

/** Something answered, but not with a verdict. Its message holds nothing of what was said. */
class NoVerdictError extends Error {
  override readonly name = "NoVerdictError";
}

async function readVerdict(response: Response): Promise<z.infer<typeof Verdict>> {
  // Some refusals come with a 400.
  if (!response.ok && response.status !== 400) {
    await response.body?.cancel();
    throw new NoVerdictError(`Turnstile's siteverify answered with status ${response.status}`);
  }
  const verdict = Verdict.safeParse(parseJson(await readText(response)));
  if (!verdict.success || (verdict.data.success && !response.ok)) {
    throw new NoVerdictError("Turnstile's siteverify answered with something that is no verdict");
  }
  return verdict.data;
}

async function readText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    // Bodies of fetch are streams of bytes (https://fetch.spec.whatwg.org/#bodies).
    const part = chunk as Uint8Array;
    bytes += part.length;
    if (bytes > VERDICT_BYTES_MAX) {
      throw new NoVerdictError(
        `Turnstile's siteverify answered more than ${VERDICT_BYTES_MAX} bytes`,
      );
    }
    chunks.push(part);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Undefined for what is no JSON: the parser's own message would quote it. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function captchaFailed(): AppError {
  return new AppError("captcha_failed", "The captcha was not solved. Solve it and try again.");
}

function notReady(cause: unknown): AppError {
  return new AppError("not_ready", "The captcha cannot be checked at the moment. Try again.", {
    cause,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}
