/** The manifests: their form, and what must hold between their parts. Not run on a cluster. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { readConfig } from '../../gpu-origin/config.ts';
import { DRAIN_MS } from '../../gpu-origin/http/serve.ts';

const text = readFileSync(
  fileURLToPath(new URL('../../deploy/kubernetes/origin-vllm.yaml', import.meta.url)),
  'utf8',
);

const labels = z.strictObject({ app: z.literal('graft-origin') });
const exec = z.strictObject({ command: z.array(z.string()).min(1) });
const timing = {
  periodSeconds: z.int().positive(),
  timeoutSeconds: z.int().positive(),
  failureThreshold: z.int().positive().optional(),
};
const httpProbe = z.strictObject({
  httpGet: z.strictObject({ path: z.string().startsWith('/'), port: z.literal('http') }),
  ...timing,
});
const execProbe = z.strictObject({ exec, ...timing });
const quantity = z.record(z.string(), z.string().regex(/^\d+(Gi|Mi)?$/));
const container = z.strictObject({
  name: z.string(),
  image: z.string().regex(/^[\w./-]+:v?\d[\w.]*$/),
  command: z.array(z.string()).optional(),
  args: z.array(z.string().startsWith('--')),
  env: z.array(
    z.union([
      z.strictObject({ name: z.string(), value: z.string() }),
      z.strictObject({
        name: z.string(),
        valueFrom: z.union([
          z.strictObject({ fieldRef: z.strictObject({ fieldPath: z.literal('metadata.name') }) }),
          z.strictObject({ secretKeyRef: z.strictObject({ name: z.string(), key: z.string() }) }),
        ]),
      }),
    ]),
  ),
  ports: z.array(z.strictObject({ name: z.literal('http'), containerPort: z.int() })).optional(),
  startupProbe: execProbe.optional(),
  livenessProbe: z.union([httpProbe, execProbe]),
  readinessProbe: httpProbe.optional(),
  lifecycle: z.strictObject({ preStop: z.strictObject({ exec }) }).optional(),
  resources: z.strictObject({ requests: quantity, limits: quantity }),
  securityContext: z.strictObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
  }),
  volumeMounts: z.array(
    z.strictObject({
      name: z.string(),
      mountPath: z.string().startsWith('/'),
      readOnly: z.literal(true).optional(),
      subPath: z.string().optional(),
    }),
  ),
});
/** Kubernetes waits for its start-up before the next container, and ends it behind the pod's others. */
const sidecar = container.extend({ restartPolicy: z.literal('Always'), startupProbe: execProbe });
const emptyDir = z.strictObject({ medium: z.literal('Memory').optional(), sizeLimit: z.string() });
const StatefulSet = z.strictObject({
  apiVersion: z.literal('apps/v1'),
  kind: z.literal('StatefulSet'),
  metadata: z.strictObject({ name: z.string() }),
  spec: z.strictObject({
    serviceName: z.string(),
    replicas: z.int().min(2),
    podManagementPolicy: z.literal('Parallel'),
    selector: z.strictObject({ matchLabels: labels }),
    template: z.strictObject({
      metadata: z.strictObject({ labels }),
      spec: z.strictObject({
        automountServiceAccountToken: z.literal(false),
        terminationGracePeriodSeconds: z.int(),
        securityContext: z.strictObject({
          runAsNonRoot: z.literal(true),
          ...{ runAsUser: z.int().positive(), runAsGroup: z.int().positive(), fsGroup: z.int().positive() },
          seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
        }),
        initContainers: z.tuple([sidecar]),
        containers: z.tuple([container]),
        volumes: z.array(
          z.union([
            z.strictObject({ name: z.string(), emptyDir }),
            z.strictObject({
              name: z.string(),
              persistentVolumeClaim: z.strictObject({ claimName: z.string(), readOnly: z.literal(true) }),
            }),
          ]),
        ),
      }),
    }),
  }),
});
const Service = z.strictObject({
  ...{ apiVersion: z.literal('v1'), kind: z.literal('Service') },
  metadata: z.strictObject({ name: z.string(), labels }),
  spec: z.strictObject({
    clusterIP: z.literal('None'),
    selector: labels,
    ports: z.array(z.strictObject({ name: z.string(), port: z.int(), targetPort: z.string() })),
  }),
});
const Budget = z.strictObject({
  ...{ apiVersion: z.literal('policy/v1'), kind: z.literal('PodDisruptionBudget') },
  metadata: z.strictObject({ name: z.string() }),
  spec: z.strictObject({
    maxUnavailable: z.literal(1),
    selector: z.strictObject({ matchLabels: labels }),
  }),
});

const documents = parseAllDocuments(text).map((document) => {
  expect(document.errors).toEqual([]);
  return document.toJS() as unknown;
});
const [service, , set] = [
  Service.parse(documents[0]),
  Budget.parse(documents[1]),
  StatefulSet.parse(documents[2]),
];
const pod = set.spec.template.spec;
const [origin] = pod.containers;
const [vllm] = pod.initContainers;
const flag = (of: z.infer<typeof container>, name: string) =>
  of.args.find((arg) => arg.startsWith(`--${name}=`))?.split('=')[1];
const preStopSeconds = Number(origin.lifecycle?.preStop.exec.command[1]);

describe('deploy/kubernetes', () => {
  it('has a service, a budget and a set, and nothing else', () => {
    expect(documents).toHaveLength(3);
    expect(set.spec.serviceName).toBe(service.metadata.name);
  });

  it('starts the origin with flags that it understands, under its pod’s name', () => {
    const args = [
      '--host',
      '0.0.0.0',
      ...origin.args.map((arg) => arg.replace('$(POD_NAME)', 'graft-origin-0')),
    ];
    const config = readConfig(args, {
      GRAFT_ORIGIN_KEYS: `k1:${Buffer.alloc(32, 1).toString('base64')}`,
      GRAFT_METRICS_TOKEN: 'x'.repeat(32),
    });
    expect(config).toMatchObject({
      port: origin.ports?.[0]?.containerPort,
      graceMs: 5_000,
      mode: { kind: 'signed' },
    });
    expect(origin.args).toContain('--origin-id=$(POD_NAME)');
  });

  it('keeps vLLM on the pod’s loopback, with the limits that the origin knows', () => {
    expect(vllm.ports).toBeUndefined();
    expect(flag(vllm, 'host')).toBe('127.0.0.1');
    expect(flag(origin, 'engine-url')).toBe(`http://127.0.0.1:${flag(vllm, 'port')}`);
    for (const name of ['max-loras', 'max-lora-rank', 'max-cpu-loras'])
      expect(flag(vllm, name), name).toBe(flag(origin, name));
    expect(vllm.args).toContain('--enable-lora');
    expect(flag(vllm, 'api-server-count')).toBe('1');
    expect(flag(origin, 'base')).toBe(vllm.command?.at(-1));
  });

  it('gives both the adapters’ folder under one path, and every mount a volume', () => {
    const cache = [origin, vllm].map(({ volumeMounts }) => volumeMounts.find(({ name }) => name === 'cache'));
    expect(cache.map((mount) => mount?.mountPath)).toEqual(['/cache', '/cache']);
    expect(origin.env).toContainEqual({ name: 'GRAFT_CACHE', value: '/cache' });
    const volumes = pod.volumes.map(({ name }) => name);
    for (const { volumeMounts } of [origin, vllm])
      for (const { name } of volumeMounts) expect(volumes).toContain(name);
  });

  it('has drained before the pod is killed; vLLM ends behind the origin, having nothing to wait for', () => {
    const drained = preStopSeconds + Number(flag(origin, 'grace-ms')) / 1_000 + DRAIN_MS / 1_000;
    expect(drained).toBeGreaterThan(0);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(drained);
    expect(vllm.lifecycle).toBeUndefined();
  });

  it('takes secrets by reference alone', () => {
    const secret = origin.env.filter((one) => /KEY|TOKEN/.test(one.name));
    expect(secret.map(({ name }) => name)).toEqual(['GRAFT_ORIGIN_KEYS', 'GRAFT_METRICS_TOKEN']);
    for (const one of secret) expect(one).toHaveProperty('valueFrom.secretKeyRef');
  });
});
