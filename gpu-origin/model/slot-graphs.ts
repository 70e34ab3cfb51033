/**
 * Small graphs that copy rows of tensors `[slots, …]` on the device: what a device needs whose tensors cannot begin
 * inside memory. ScatterND and Gather of ONNX, which WebGPU's provider has.
 */
import type { Precision } from './graph-flavour.ts';
import { GraphBuilder } from './onnx-proto.ts';

/** `put`: a row of its own into a slot. `take`: out of one. `move`: from one slot to another. */
export const SLOT_GRAPHS = ['put', 'take', 'move'] as const;
export type SlotGraph = (typeof SLOT_GRAPHS)[number];

/**
 * Inputs `slots.<i>` `[S, …dims]`, `row.<i>` `[1, …dims]` (put), `from` `[1]` (take, move) and `to` `[1, 1]` (put, move);
 * outputs `row.<i>` (take) and `kept.<i>`, to be bound where `slots.<i>` is: only the one row is then written.
 * @param tensors dimensions of each behind the first one.
 */
export function buildSlotGraph(
  which: SlotGraph,
  type: Precision,
  tensors: readonly (readonly number[])[],
): Uint8Array {
  const g = new GraphBuilder();
  if (which !== 'put') g.input('from', 'i64', [1]);
  if (which !== 'take') g.input('to', 'i64', [1, 1]);
  for (const [index, dims] of tensors.entries()) {
    const slots = g.input(`slots.${index}`, type, ['S', ...dims]);
    const row = `row.${index}`;
    if (which === 'put') g.input(row, type, [1, ...dims]);
    else g.node('Gather', [slots, 'from'], row, { axis: 0 });
    if (which === 'take') g.output(row, type, [1, ...dims]);
    else {
      g.node('ScatterND', [slots, 'to', row], `kept.${index}`);
      g.output(`kept.${index}`, type, ['S', ...dims]);
    }
  }
  return g.build(`slots-${which}`);
}
