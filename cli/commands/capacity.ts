import Table from 'cli-table3';
import { defineCommand } from 'citty';
import {
  ASSUMPTIONS,
  type CapacityInput,
  type CapacityPlan,
  type Cost,
  GPUS,
  MODELS,
  planCapacity,
} from '../capacity/plan-capacity.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, parseCount, usageError } from '../flags.ts';
import { createOutput, megabytes } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft capacity --names 1M --rank 16 --params 8b --rps 200 --tokens 256 --gpu h100',
      does: 'what a million names need',
    },
  ],
  notes: [
    'Reckons and asks nobody: memory, origins, storage and what Cloudflare costs a month, with adapters in KV alone and in R2. Every price and assumption is printed with its source and date; prices change, included amounts of KV and R2 are left out, and GPUs are not in the cost. How fast a GPU decodes is bound by its memory here, with another adapter in every row: measure before you buy.',
  ],
};

export default defineCommand({
  meta: { name: 'capacity' },
  args: {
    names: { type: 'string', description: 'Names, one live version each', valueHint: 'n', default: '1M' },
    rank: { type: 'string', description: 'Rank of each adapter', valueHint: 'n', default: '16' },
    params: {
      type: 'string',
      description: `Base: ${Object.keys(MODELS).join(', ')}`,
      valueHint: 'size',
      default: '8b',
    },
    modules: {
      type: 'string',
      description: 'Linears that adapters change: all, qv',
      valueHint: 'which',
      default: 'all',
    },
    rps: { type: 'string', description: 'Requests a second', valueHint: 'n', default: '200' },
    tokens: { type: 'string', description: 'Tokens of an answer', valueHint: 'n', default: '256' },
    gpu: {
      type: 'string',
      description: `GPU: ${Object.keys(GPUS).join(', ')}`,
      valueHint: 'kind',
      default: 'h100',
    },
    ...commonFlags,
  },
  run({ args }) {
    const input: CapacityInput = {
      names: parseCount(args.names, '--names'),
      rank: parseCount(args.rank, '--rank'),
      params: oneOf('--params', args.params, MODELS),
      modules: oneOf('--modules', args.modules, { all: true, qv: true }),
      rps: parseCount(args.rps, '--rps'),
      tokens: parseCount(args.tokens, '--tokens'),
      gpu: oneOf('--gpu', args.gpu, GPUS),
    };
    const plan = planCapacity(input);
    const output = createOutput({ json: args.json === true });
    output.result({ input, plan, assumptions: Object.values(ASSUMPTIONS) }, () => capacityText(input, plan));
  },
});

function oneOf<T extends object>(flag: string, text: string, known: T): keyof T & string {
  const found = Object.keys(known).find((one) => one === text.toLowerCase());
  if (found !== undefined) return found as keyof T & string;
  throw usageError(`${flag} ${text} is none of ${Object.keys(known).join(', ')}.`);
}

const number = (value: number): string => value.toLocaleString('en', { maximumFractionDigits: 0 });
const dollars = (value: number): string => `$${number(value)}`;

function capacityText(input: CapacityInput, plan: CapacityPlan): string {
  const { origin, origins } = plan;
  const costs = (name: string, pick: (cost: Cost) => number): string[] => [
    name,
    dollars(pick(plan.kvAlone)),
    dollars(pick(plan.kvAndR2)),
  ];
  const cost = new Table({
    head: ['Cloudflare, a month', 'KV alone', 'KV + R2'],

    colAligns: ['left', 'right', 'right'],
    style: { head: [], border: [] },
  });
  cost.push(
    costs('storage', ({ storage }) => storage),
    costs('requests', ({ requests }) => requests),
    costs('CPU', ({ cpu }) => cpu),
    costs('reads', ({ reads }) => reads),
    costs('all', ({ total }) => total),
    costs('once, to write it all', ({ upload }) => upload),
  );
  const assumed = new Table({ head: ['assumed', 'is', '', 'source', 'of'], style: { head: [], border: [] } });
  for (const { what, value, unit, source, date } of Object.values(ASSUMPTIONS))
    assumed.push([what, value.toLocaleString('en'), unit, source, date]);
  return [
    `adapter    ${megabytes(plan.adapterBytes)} (rank ${input.rank}, ${input.modules}), ${plan.parts} parts`,
    `storage    ${number(plan.storageGb)} GB for ${number(input.names)} names`,
    `base       ${number(plan.baseGb)} GB of ${GPUS[input.gpu].memory} GB on each ${input.gpu}`,
    origin === null
      ? `origins    the base does not fit one ${input.gpu}: several GPUs an origin, which is not reckoned here`
      : `origins    ${number(origins ?? 0)}, each ${number(origin.rows)} rows, ${number(origin.tokensPerSecond)} tokens a second, ${number(origin.residentAdapters)} adapters in its memory`,
    '',
    cost.toString(),
    assumed.toString(),
  ].join('\n');
}
