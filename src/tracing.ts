import {
  type Attributes,
  context,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import type { Config } from "./config.ts";
import { nameOf } from "./db/slow-statements.ts";
import type { TraceStatements } from "./db/tenant-database.ts";

/** How long a stopping process tries to hand on what is not yet sent. */
const FLUSH_MS = 2_000;

/** Names of statements remembered: there are a few hundred. */
const NAMES_MAX = 2_000;

/** Spans of what this process does, sent to a collector by OTLP over HTTP. */
export interface Tracing {
  /** Runs a tenant's statements as a span of the request that asks for them. */
  readonly statements: TraceStatements;
  /** Hands on what is not yet sent, for a while. */
  stop(): Promise<void>;
}

/**
 * Starts tracing where OTEL_EXPORTER_OTLP_ENDPOINT says to; loads nothing otherwise. A collector that is away costs
 * spans, never requests. https://opentelemetry.io/docs/specs/otlp/
 */
export async function startTracing({
  tracesUrl,
  serviceName,
}: Pick<Config, "tracesUrl" | "serviceName">): Promise<Tracing | undefined> {
  if (tracesUrl === undefined) return undefined;
  const [{ BatchSpanProcessor, NodeTracerProvider }, { OTLPTraceExporter }, resources] =
    await Promise.all([
      import("@opentelemetry/sdk-trace-node"),
      import("@opentelemetry/exporter-trace-otlp-proto"),
      import("@opentelemetry/resources"),
    ]);
  const exporter = new OTLPTraceExporter({ url: `${tracesUrl}/v1/traces` });
  const provider = new NodeTracerProvider({
    resource: resources.resourceFromAttributes({ "service.name": serviceName }),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  // Requests' spans are found by what runs within them, and in the traceparent of who calls (W3C Trace Context).
  provider.register();
  return {
    statements: traceStatements(),
    async stop() {
      let timer: NodeJS.Timeout | undefined;
      const patience = new Promise((resolve) => {
        timer = setTimeout(resolve, FLUSH_MS);
      });
      await Promise.race([provider.shutdown().catch(() => undefined), patience]);
      clearTimeout(timer);
    },
  };
}

function traceStatements(): TraceStatements {
  const tracer = trace.getTracer("ouvira");
  const names = new Map<string, string>();
  const named = (text: string) => {
    let name = names.get(text);
    if (name === undefined) {
      name = nameOf(text);
      if (names.size >= NAMES_MAX) names.clear();
      names.set(text, name);
    }
    return name;
  };
  return (schema, texts, work) => {
    const name = texts === "transaction" ? texts : texts.map(named).join(", ");
    const attributes = { "db.system.name": "postgresql", "db.namespace": schema };
    const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes });
    return context.with(trace.setSpan(context.active(), span), () => settle(span, work()));
  };
}

async function settle<T>(span: Span, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    endWithError(span, error instanceof Error ? error.name : "error");
    throw error;
  } finally {
    span.end();
  }
}

/** Marks a span as failed. What failed is the log's: a message may quote a value. */
export function endWithError(span: Span, kind: string, attributes: Attributes = {}): void {
  span.setAttributes({ "error.type": kind, ...attributes });
  span.setStatus({ code: SpanStatusCode.ERROR });
}
