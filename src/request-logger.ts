import type { FastifyBaseLogger } from "fastify";
import type { Bindings, ChildLoggerOptions } from "pino";

type Level = "fatal" | "error" | "warn" | "info" | "debug" | "trace" | "silent";

/**
 * The logger of one request, made of the service's when it is first used: most requests log nothing but the one line
 * that does not need it (plugins/observability.ts), and making it, with its search for secrets, is
 * a twenty-fifth of a read.
 */
export class RequestLogger implements FastifyBaseLogger {
  readonly #logger: FastifyBaseLogger;
  readonly #bindings: Bindings;
  readonly #options: ChildLoggerOptions;
  #child: FastifyBaseLogger | undefined;

  constructor(logger: FastifyBaseLogger, bindings: Bindings, options: ChildLoggerOptions) {
    this.#logger = logger;
    this.#bindings = bindings;
    this.#options = options;
  }

  get #own(): FastifyBaseLogger {
    return (this.#child ??= this.#logger.child(this.#bindings, this.#options));
  }

  get level(): string {
    return this.#own.level;
  }

  set level(level: string) {
    this.#own.level = level;
  }

  child(bindings: Bindings, options?: ChildLoggerOptions): FastifyBaseLogger {
    return this.#own.child(bindings, options);
  }

  fatal(...line: unknown[]): void {
    this.#log("fatal", line);
  }

  error(...line: unknown[]): void {
    this.#log("error", line);
  }

  warn(...line: unknown[]): void {
    this.#log("warn", line);
  }

  info(...line: unknown[]): void {
    this.#log("info", line);
  }

  debug(...line: unknown[]): void {
    this.#log("debug", line);
  }

  trace(...line: unknown[]): void {
    this.#log("trace", line);
  }

  silent(...line: unknown[]): void {
    this.#log("silent", line);
  }

  #log(level: Level, line: unknown[]): void {
    Reflect.apply(this.#own[level], this.#own, line);
  }
}
