import Fastify, { type FastifyBaseLogger } from "fastify";
import { pino } from "pino";
import { describe, expect, test, vi } from "vitest";
import { RequestLogger } from "./request-logger.ts";

describe("the logger of a request", () => {
  test("is made when something is logged, and names the request at every level", async () => {
    const lines: Record<string, unknown>[] = [];
    const logger: FastifyBaseLogger = pino(
      { level: "trace", base: null },
      { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
    );
    const app = Fastify({
      loggerInstance: logger,
      disableRequestLogging: true,
      genReqId: () => "req-1",
    });
    app.setChildLoggerFactory(
      (parent, bindings, options) => new RequestLogger(parent, bindings, options),
    );
    app.get("/quiet", () => "nothing");
    app.get("/loud", ({ log }) => {
      for (const level of ["fatal", "error", "warn", "info", "debug", "trace"] as const) {
        log[level]({ level_name: level }, "said");
      }
      log.child({ part: "inner" }).info("said");
      log.level = "warn";
      log.info("not said");
      log.silent("not said either");
      return log.level;
    });

    await app.ready();
    const makeChild = vi.spyOn(app.log, "child");

    await app.inject("/quiet");
    const madeForQuiet = makeChild.mock.calls.length;
    const answer = await app.inject("/loud");

    expect(madeForQuiet).toBe(0);
    expect(answer.body).toBe("warn");
    expect(lines.map(({ level, reqId, msg }) => [level, reqId, msg])).toEqual(
      [60, 50, 40, 30, 20, 10, 30].map((level) => [level, "req-1", "said"]),
    );
    expect(lines.at(-1)).toMatchObject({ part: "inner" });
    await app.close();
  });
});
