/** A receiver of OTLP over HTTP that accepts only what protobuf's JSON mapping of the messages allows. */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

const Id = (digits: number) => z.string().regex(new RegExp(`^(?!0+$)[0-9a-f]{${digits}}$`));
const Nanos = z.string().regex(/^[1-9]\d{18}$/);
const Value = z.union([
  z.strictObject({ stringValue: z.string() }),
  z.strictObject({ boolValue: z.boolean() }),
  z.strictObject({ intValue: z.string().regex(/^-?\d+$/) }),
  z.strictObject({ doubleValue: z.number() }),
  z.strictObject({
    arrayValue: z.strictObject({ values: z.array(z.strictObject({ stringValue: z.string() })) }),
  }),
]);
const Attributes = z
  .array(z.strictObject({ key: z.string().min(1), value: Value }))
  .refine((all) => new Set(all.map(({ key }) => key)).size === all.length, 'keys are unique');
/** opentelemetry/proto/trace/v1/trace.proto */
const Span = z.strictObject({
  traceId: Id(32),
  spanId: Id(16),
  parentSpanId: Id(16).optional(),
  traceState: z.string().min(1).optional(),
  flags: z.int().min(0).max(0x3ff),
  name: z.string().min(1),
  kind: z.int().min(1).max(5),
  startTimeUnixNano: Nanos,
  endTimeUnixNano: Nanos,
  attributes: Attributes,
  status: z.strictObject({ code: z.int().min(0).max(2), message: z.string().optional() }).optional(),
});
/** opentelemetry/proto/collector/trace/v1/trace_service.proto */
const ExportTraceServiceRequest = z.strictObject({
  resourceSpans: z.array(
    z.strictObject({
      resource: z.strictObject({ attributes: Attributes }),
      scopeSpans: z.array(
        z.strictObject({
          scope: z.strictObject({ name: z.string(), version: z.string().optional() }),
          spans: z.array(Span).min(1),
        }),
      ),
    }),
  ),
});

export type ReceivedSpan = Omit<z.infer<typeof Span>, 'attributes'> & {
  attributes: Record<string, unknown>;
  /** `service.name` of its sender. */
  service: unknown;
};

const plain = (attributes: z.infer<typeof Attributes>): Record<string, unknown> =>
  Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      'arrayValue' in value ? value.arrayValue.values.map((one) => one.stringValue) : Object.values(value)[0],
    ]),
  );

export async function startReceiver() {
  const received = {
    spans: [] as ReceivedSpan[],
    resources: [] as Record<string, unknown>[],
    headers: [] as IncomingHttpHeaders[],
    paths: [] as (string | undefined)[],
    bodies: [] as string[],
    problems: [] as unknown[],
    /** Statuses of the next answers; then 200. */
    statuses: [] as number[],
    answer: '{}',
    /** It answers nothing while this is pending. */
    held: Promise.resolve() as Promise<unknown>,
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      void received.held.then(() => {
        const body = Buffer.concat(chunks).toString();
        received.paths.push(request.url);
        received.headers.push(request.headers);
        const status = received.statuses.shift() ?? 200;
        if (status === 200) {
          received.bodies.push(body);
          const parsed = ExportTraceServiceRequest.safeParse(JSON.parse(body));
          if (!parsed.success) received.problems.push(parsed.error);
          for (const { resource, scopeSpans } of parsed.data?.resourceSpans ?? []) {
            received.resources.push(plain(resource.attributes));
            for (const span of scopeSpans.flatMap(({ spans }) => spans))
              received.spans.push({
                ...span,
                attributes: plain(span.attributes),
                service: received.resources.at(-1)?.['service.name'],
              });
          }
        }
        response.writeHead(status, { 'content-length': Buffer.byteLength(received.answer) });
        response.end(received.answer);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...{ received, url: `http://127.0.0.1:${port}` },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
