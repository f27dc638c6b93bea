import { type FastifyBaseLogger } from "fastify";
import { isatty } from "node:tty";
import { type DestinationStream, pino } from "pino";
import type { Config } from "./config.ts";
import { StandardOutput } from "./standard-output.ts";

/** Where secrets stand in what is logged; their values are replaced. */
const SECRET_PATHS = [
  "password",
  "new_password",
  "current_password",
  "otp",
  "code",
  "token",
  "refresh",
  "access",
  "verification_token",
  "backup_code",
  "secret",
].flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);

/** One JSON object a line; for people, with colours, when DEBUG is on and a terminal listens. */
export function makeLogger(config: Config, destination?: DestinationStream): FastifyBaseLogger {
  const isPretty = config.debug && isatty(1) && !destination;
  return pino(
    {
      level: config.logLevel,
      redact: {
        paths: [...SECRET_PATHS, "req.headers.authorization", "req.headers.cookie"],
        censor: "[redacted]",
      },
      serializers: {
        req: (request: { method: string; url: string; ip: string; id: string }) => ({
          method: request.method,
          // A query may hold what somebody searched for; the path says enough.
          path: request.url.split("?")[0],
          ip: request.ip,
        }),
        err: serializeError,
      },
      ...(isPretty
        ? { transport: { target: "pino-pretty", options: { ignore: "pid,hostname" } } }
        : {}),
    },
    ...(isPretty ? [] : [destination ?? new StandardOutput()]),
  );
}

/** An error without what it was about: a driver's error carries the values of the statement. */
function serializeError(error: unknown): object {
  if (!(error instanceof Error)) return { message: String(error) };
  const { name, message, stack, cause } = error;
  const code = "code" in error ? error.code : undefined;
  // PostgreSQL's messages may quote a value ("invalid input syntax for type uuid: …").
  const isServerError = name === "PostgresError";
  return {
    type: name,
    // Not `code`: that is what one-time codes are called, and it is taken out of every line.
    error_code: code,
    message: isServerError ? `PostgreSQL ${String(code)}` : message,
    stack: isServerError ? stack?.split("\n").slice(1).join("\n") : stack,
    ...(cause === undefined ? {} : { cause: serializeError(cause) }),
  };
}
