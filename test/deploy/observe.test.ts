/** deploy/observe: its form, and that it names what deploy/ has. Docker is not needed, and nothing here says that it was run. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

const DEPLOY = path.join(import.meta.dirname, '../../deploy');
/** Compose resolves paths of all its files from the first one's folder. */
const FIRST = path.join(DEPLOY, 'compose');
const read = (file: string): unknown => parse(readFileSync(path.join(DEPLOY, file), 'utf8'), { merge: true });

const Started = z.object({
  services: z.record(z.string(), z.object({ command: z.array(z.string()).optional() })),
});
/** What is added to services of ../compose/compose.yaml. */
const Added = z.strictObject({
  environment: z.record(z.string(), z.string()).optional(),
  command: z.array(z.string()).optional(),
});
const Tool = z.strictObject({
  restart: z.literal('unless-stopped'),
  cap_drop: z.tuple([z.literal('ALL')]),
  security_opt: z.tuple([z.literal('no-new-privileges:true')]),
  image: z.string().regex(/^[a-z]+\/[a-z]+:v?\d+\.\d+\.\d+$/),
  command: z.array(z.string().startsWith('--')).optional(),
  environment: z.record(z.string(), z.string()).optional(),
  depends_on: z.array(z.string()).optional(),
  secrets: z.array(z.string()).optional(),
  volumes: z.array(z.string()).default([]),
  ports: z.array(z.string()).min(1),
});
const { services, secrets, volumes } = z
  .looseObject({
    services: z.strictObject({
      ...{ 'origin-1': Added, 'origin-2': Added, edge: Added },
      ...{ jaeger: Tool, prometheus: Tool, grafana: Tool },
    }),
    secrets: z.record(z.string(), z.strictObject({ environment: z.string() })),
    volumes: z.record(z.string(), z.null()),
  })
  .parse(read('observe/compose.yaml'));
const { jaeger, prometheus, grafana } = services;
const before = Started.parse(read('compose/compose.yaml')).services;

const Config = z.strictObject({
  global: z.strictObject({ scrape_interval: z.string(), evaluation_interval: z.string() }),
  rule_files: z.array(z.string()),
  scrape_configs: z.tuple([
    z.strictObject({
      job_name: z.string(),
      authorization: z.strictObject({ credentials_file: z.string() }),
      static_configs: z.tuple([z.strictObject({ targets: z.array(z.string()) })]),
    }),
  ]),
});
const Sources = z.strictObject({
  apiVersion: z.literal(1),
  datasources: z.array(
    z.strictObject({
      ...{ name: z.string(), uid: z.string(), type: z.string() },
      access: z.literal('proxy'),
      url: z.url(),
      isDefault: z.boolean().optional(),
      jsonData: z.strictObject({ timeInterval: z.string() }).optional(),
    }),
  ),
});
const Provider = z.strictObject({
  apiVersion: z.literal(1),
  providers: z.tuple([
    z.strictObject({
      ...{ name: z.string(), type: z.literal('file'), allowUiUpdates: z.literal(false) },
      options: z.strictObject({ path: z.string() }),
    }),
  ]),
});
const { datasources } = Sources.parse(read('observe/grafana/datasources/datasources.yaml'));
const config = Config.parse(read('observe/prometheus.yaml'));
/** Of a service: path in its container -> path or volume outside. */
const mounts = (tool: z.infer<typeof Tool>): Map<string, string> =>
  new Map(tool.volumes.map((mount) => mount.split(':')).map(([from = '', to = '']) => [to, from]));

describe('deploy/observe/compose.yaml', () => {
  it('mounts files that there are, which are not written to', () => {
    for (const tool of [jaeger, prometheus, grafana])
      for (const mount of tool.volumes) {
        const [from = '', , mode] = mount.split(':');
        if (!from.startsWith('.')) expect(volumes).toHaveProperty(from);
        else {
          expect(existsSync(path.join(FIRST, from)), mount).toBe(true);
          expect(mode, mount).toBe('ro');
        }
      }
  });

  it('opens its ports on this machine alone, and none twice', () => {
    const ports = [jaeger, prometheus, grafana].flatMap((tool) => tool.ports);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:(\d+):\1$/);
    expect(new Set([...ports, '127.0.0.1:8787:8787', '127.0.0.1:8788:8788']).size).toBe(ports.length + 2);
  });

  it('starts the edge as before, with traces', () => {
    expect(services.edge.command).toEqual([
      ...(before['edge']?.command ?? []),
      '--var=OTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger:4318',
      '--var=TRACE_SAMPLE=1',
    ]);
    expect(jaeger.command).toContain('--set=receivers.otlp.protocols.http.endpoint=0.0.0.0:4318');
    for (const origin of [services['origin-1'], services['origin-2']])
      expect(origin.environment?.['OTEL_EXPORTER_OTLP_ENDPOINT']).toBe('http://jaeger:4318');
  });

  it('does not start without a token, and has no password', () => {
    for (const origin of [services['origin-1'], services['origin-2']])
      expect(origin.environment?.['GRAFT_METRICS_TOKEN']).toMatch(/^\$\{GRAFT_METRICS_TOKEN:\?.+\}$/);
    expect(grafana.environment).toMatchObject({
      GF_AUTH_ANONYMOUS_ORG_ROLE: 'Viewer',
      GF_AUTH_BASIC_ENABLED: 'false',
      GF_AUTH_DISABLE_LOGIN_FORM: 'true',
      GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION: 'true',
    });
    expect(Object.keys(grafana.environment ?? {}).join()).not.toMatch(/PASSWORD|SECRET_KEY/);
  });
});

describe('its Prometheus', () => {
  it('reads what is mounted, and scrapes every origin under the job that the alerts ask for', () => {
    const [job] = config.scrape_configs;
    for (const file of config.rule_files)
      expect(mounts(prometheus).get(file)).toBe('../prometheus/alerts.yaml');
    const own = prometheus.command?.find((flag) => flag.startsWith('--config.file='))?.split('=')[1] ?? '';
    expect(mounts(prometheus).get(own)).toBe('../observe/prometheus.yaml');
    expect(readFileSync(path.join(DEPLOY, 'prometheus/alerts.yaml'), 'utf8')).toContain(
      `job="${job.job_name}"`,
    );
    const origins = Object.keys(before).filter((name) => name.startsWith('origin-'));
    expect(job.static_configs[0].targets).toEqual(origins.map((name) => `${name}:8788`));
    const [, secret = ''] = /^\/run\/secrets\/(.+)$/.exec(job.authorization.credentials_file) ?? [];
    expect(prometheus.secrets).toEqual([secret]);
    expect(secrets[secret]).toEqual({ environment: 'GRAFT_METRICS_TOKEN' });
  });
});

describe('its Grafana', () => {
  it('asks services where they listen', () => {
    const listens = (tool: z.infer<typeof Tool>) => Number(tool.ports[0]?.split(':').at(-1));
    expect(datasources.map(({ uid, type, url }) => [uid, type, url])).toEqual([
      ['prometheus', 'prometheus', `http://prometheus:${listens(prometheus)}`],
      ['jaeger', 'jaeger', `http://jaeger:${listens(jaeger)}`],
    ]);
    expect(jaeger.command).toContain(
      `--set=extensions.jaeger_query.http.endpoint=0.0.0.0:${listens(jaeger)}`,
    );
    expect(datasources[0]?.jsonData?.timeInterval).toBe(config.global.scrape_interval);
  });

  it('shows boards whose sources there are', () => {
    const [{ options }] = Provider.parse(read('observe/grafana/dashboards/dashboards.yaml')).providers;
    const boards = [...mounts(grafana)].filter(([to]) => to.startsWith(`${options.path}/`));
    expect(boards.map(([to]) => path.basename(to)).sort()).toEqual(['origins.json', 'traces.json']);
    expect(
      mounts(grafana).has(grafana.environment?.['GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH'] ?? ''),
    ).toBe(true);
    const text = readFileSync(path.join(DEPLOY, 'observe/grafana/traces.json'), 'utf8');
    const { panels } = z
      .object({ panels: z.array(z.object({ datasource: z.object({ uid: z.string() }) })).min(1) })
      .parse(JSON.parse(text));
    for (const { datasource } of panels) expect(datasources.map(({ uid }) => uid)).toContain(datasource.uid);
    // Jaeger's own page, as a browser reaches it.
    expect(text).toContain(`http://${jaeger.ports[0]?.replace(/:\d+$/, '')}/trace/`);
  });
});
