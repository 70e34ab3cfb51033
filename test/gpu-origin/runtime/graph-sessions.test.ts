import { expect, it } from 'vitest';
import type { BuiltGraphs } from '../../../gpu-origin/model/build-graphs.ts';
import { GRAPH_KINDS, type GraphKind } from '../../../gpu-origin/model/base-model.ts';
import type { Device, Session } from '../../../gpu-origin/runtime/device.ts';
import { GraphSessions } from '../../../gpu-origin/runtime/bindings.ts';

const built = {
  weightsPath: 'weights.bin',
  weights: [],
  graphs: { none: 'none.onnx', qv: 'qv.onnx', all: 'all.onnx' },
  mixed: { none: 'none.mixed.onnx', qv: 'qv.mixed.onnx', all: 'all.mixed.onnx' },
  parts: [0, 1].map((part) => ({
    ...{ from: part, to: part + 1 },
    graphs: { none: `none.${part}.onnx`, qv: `qv.${part}.onnx`, all: `all.${part}.onnx` },
  })),
} as unknown as BuiltGraphs;

/**
 * @param log gets every session that is opened or closed.
 * @param failures of the next sessions.
 */
async function open(
  sharesWeights: boolean,
  kinds: readonly GraphKind[] = GRAPH_KINDS,
  failures: string[] = [],
  decoding: Parameters<typeof GraphSessions.open>[0]['decoding'] = null,
): Promise<{ sessions: GraphSessions; log: string[] }> {
  const log: string[] = [];
  const device = {
    sharesWeights,
    weights: async () => ({ close: () => log.push('weights closed') }),
    async session(model: string): Promise<Session> {
      log.push(model);
      const failure = failures.shift();
      if (failure !== undefined && failure !== '') throw new Error(failure);
      return { bind: () => expect.unreachable(), close: () => log.push(`${model} closed`) };
    },
  } as unknown as Device;
  return {
    sessions: await GraphSessions.open({ device, built, decoding, kinds, onProgress: () => {} }),
    log,
  };
}

it('opens all graphs at once if they share weights, otherwise the smallest first, and the others on demand', async () => {
  const shared = await open(true);
  expect(shared.log).toEqual(
    ['none', 'qv', 'all'].flatMap((kind) => ['', '.0', '.1', '.mixed'].map((part) => `${kind}${part}.onnx`)),
  );
  expect(shared.sessions.mixes).toBe(true);
  expect(shared.sessions.parts).toHaveLength(2);
  const { sessions, log } = await open(false);
  expect(log).toEqual(['none.onnx']);
  expect(sessions.parts).toEqual([]);
  expect(sessions.mixes).toBe(false);
  await Promise.all([sessions.get('all'), sessions.get('all'), sessions.get('none')]);
  expect(log).toEqual(['none.onnx', 'all.onnx']);
  await sessions.close();
  expect(log.slice(2)).toEqual(['none.onnx closed', 'all.onnx closed', 'weights closed']);
});

it('opens other graphs for rows that decode over int8 keys and values, also beside a chunk', async () => {
  const { log } = await open(true, ['qv'], [], {
    graphs: { none: 'none.kv.onnx', qv: 'qv.kv.onnx', all: 'all.kv.onnx' },
    mixed: { none: 'none.kv-mixed.onnx', qv: 'qv.kv-mixed.onnx', all: 'all.kv-mixed.onnx' },
  });
  expect(log).toEqual(['qv.onnx', 'qv.kv.onnx', 'qv.0.onnx', 'qv.1.onnx', 'qv.kv-mixed.onnx']);
});

it('serves all rows by one graph if only that may be opened', async () => {
  const { sessions, log } = await open(false, ['all']);
  expect(log).toEqual(['all.onnx']);
  expect(GRAPH_KINDS.map((kind) => sessions.covering(kind))).toEqual(['all', 'all', 'all']);
  const three = await open(false);
  expect(GRAPH_KINDS.map((kind) => three.sessions.covering(kind))).toEqual(['none', 'qv', 'all']);
});

it('retries a session that could not be opened', async () => {
  const { sessions, log } = await open(false, GRAPH_KINDS, ['', 'no memory left']);
  await expect(sessions.get('qv')).rejects.toThrow('no memory left');
  await sessions.get('qv');
  expect(log).toEqual(['none.onnx', 'qv.onnx', 'qv.onnx']);
});
