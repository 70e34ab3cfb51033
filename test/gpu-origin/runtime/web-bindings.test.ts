/** After a run that fails before all of its inputs are bound, the next run binds all of them. */
import { expect, it } from 'vitest';
import { OrtError } from '../../../gpu-origin/runtime/device.ts';
import { WebGpuDevice } from '../../../gpu-origin/runtime/web/web-device.ts';
import type {
  WasmAnswer,
  WasmHost,
  WasmOrder,
  WasmQuestion,
} from '../../../gpu-origin/runtime/web/wasm-api.ts';

class Host implements WasmHost {
  readonly memory = new SharedArrayBuffer(4_096);
  readonly runs: Extract<WasmQuestion, { kind: 'run' }>[] = [];
  readonly told: WasmOrder['kind'][] = [];
  fails = false;
  #ids = 0;
  #pointer = 0;

  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  async ask(question: WasmQuestion): Promise<WasmAnswer> {
    if (question.kind === 'run') this.runs.push(question);
    if (question.kind === 'run' && this.fails) throw new OrtError('OrtBindInput', 1, 'no memory is left');
    const pointer = this.#pointer;
    if (question.kind === 'allocate') this.#pointer += question.bytes;
    return { job: 1, pointer, memory: this.memory };
  }

  tell(order: WasmOrder): void {
    this.told.push(order.kind);
  }

  end(): Promise<void> {
    return Promise.resolve();
  }
}

it('binds everything again after a failed run', async () => {
  const host = new Host();
  const device = await WebGpuDevice.open(host, 'a GPU', () => false);
  const session = await device.session('graph', null);
  const memory = await device.memory(16);
  const binding = session.bind();
  binding.input('a', device.tensor('f32', memory, 0, [4]));
  const last = () => {
    const { bindings, changed } = host.runs.at(-1)!;
    return { bound: bindings?.inputs.length ?? 0, changed: changed.length };
  };
  await binding.run();
  expect(last()).toEqual({ bound: 1, changed: 1 });
  await binding.run();
  expect(last()).toEqual({ bound: 0, changed: 0 });

  memory.write(0, new Float32Array([1, 2, 3, 4]));
  host.fails = true;
  await expect(binding.run()).rejects.toThrow('no memory is left');
  expect(host.told).toEqual(['unbind']);
  host.fails = false;
  await binding.run();
  expect(last()).toEqual({ bound: 1, changed: 1 });
  binding.close();
  expect(host.told).toEqual(['unbind', 'unbind']);
});
