/** ONNX Runtime's calls in WebAssembly, checked, with the tensors of a binding kept as long as it. */
import { OrtError } from '../device.ts';
import type { Bindings, BoundTensor } from './wasm-messages.ts';
import type { ExternalData, WasmFactory, WasmModule } from './wasm-module.ts';

/** OrtLoggingLevel: 3 = error. */
const LOG_ERRORS = 3;
/** GraphOptimizationLevel: 99 = all. */
const OPTIMIZE_ALL = 99;
/** Where a tensor's data lies, of api.cc's DataLocation: 1 = CPU. */
const LOCATION_CPU = 1;
/** ORT_FAIL and ORT_INVALID_ARGUMENT of OrtErrorCode. */
const FAIL = 1;
const INVALID_ARGUMENT = 2;

interface Binding {
  session: number;
  pointer: number;
  tensors: number[];
  outputs: number;
}

export class WasmApi {
  private readonly sessions = new Map<number, number>();
  private readonly bindings = new Map<number, Binding>();

  private constructor(private readonly module: WasmModule) {}

  /** Once a thread: the module is the thread's own. @throws OrtError */
  static async load(factory: WasmFactory, threads: number): Promise<WasmApi> {
    const api = new WasmApi(await factory({ numThreads: threads }));
    api.check('OrtInit', api.module._OrtInit(threads, LOG_ERRORS));
    return api;
  }

  get memory(): SharedArrayBuffer {
    this.module.getValue(0, 'i8');
    return this.module.HEAPU8.buffer;
  }

  /** @param bytes at least 64 are taken, so that an empty tensor has an address as well. @throws OrtError */
  allocate(bytes: number): number {
    const pointer = this.module._malloc(Math.max(64, bytes));
    if (pointer === 0)
      throw new OrtError(
        'malloc',
        FAIL,
        `WebAssembly's 4 GiB have no ${bytes.toLocaleString('en')} bytes left`,
      );
    return pointer;
  }

  free(pointer: number): void {
    this.module._free(pointer);
  }

  /** @param weights the file that the model refers to. @throws OrtError */
  async open(
    id: number,
    model: Uint8Array,
    weights: { name: string; data: ExternalData } | null,
  ): Promise<void> {
    const { module } = this;
    const options = this.options();
    const at = this.allocate(model.length);
    try {
      new Uint8Array(this.memory).set(model, at);
      if (weights !== null) module.mountExternalData(weights.name, weights.data);
      const session = await module._OrtCreateSession(at, model.length, options);
      if (session === 0) this.check('OrtCreateSession', FAIL);
      this.sessions.set(id, session);
    } finally {
      module.unmountExternalData();
      module._free(at);
      module._OrtReleaseSessionOptions(options);
    }
  }

  private options(): number {
    const { module } = this;
    return this.withStack((text) => {
      // No memory pattern: shapes change from step to step, and one would be kept for each of them.
      const options = module._OrtCreateSessionOptions(
        ...([OPTIMIZE_ALL, true, false, 0, false, 0, text('graft'), LOG_ERRORS, 0, 0] as const),
      );
      if (options === 0) this.check('OrtCreateSessionOptions', FAIL);
      for (const [key, value] of [
        // Between steps the core belongs to sampling, HTTP and the edge.
        ['session.force_spinning_stop', '1'],
        // The arena takes powers of two: of 4 GiB that is too much for weights.
        ['session.use_device_allocator_for_initializers', '1'],
      ] as const)
        this.check(key, module._OrtAddSessionConfigEntry(options, text(key), text(value)));
      return options;
    });
  }

  close(id: number): void {
    const session = this.sessions.get(id);
    if (session !== undefined) this.module._OrtReleaseSession(session);
    this.sessions.delete(id);
  }

  /** @throws OrtError */
  bind(id: number, { session, inputs, outputs }: Bindings): void {
    const { module } = this;
    const opened = this.sessions.get(session);
    if (opened === undefined) throw new OrtError('bind', INVALID_ARGUMENT, 'the session is closed');
    const pointer = module._OrtCreateBinding(opened);
    if (pointer === 0) this.check('OrtCreateBinding', FAIL);
    const binding: Binding = { session: opened, pointer, tensors: [], outputs: outputs.length };
    this.bindings.set(id, binding);
    // One value for what is input and output, so that attention sees that it may append in place.
    const made = new Map<string, number>();
    const value = (tensor: BoundTensor): number => {
      const key = `${tensor.pointer} ${tensor.dims.join()}`;
      const known = made.get(key);
      if (known !== undefined) return known;
      const created = this.tensor(tensor);
      made.set(key, created);
      binding.tensors.push(created);
      return created;
    };
    try {
      for (const tensor of inputs)
        this.withStack((text) =>
          this.check('OrtBindInput', module._OrtBindInput(pointer, text(tensor.name), value(tensor))),
        );
      for (const tensor of outputs)
        this.withStack((text) =>
          this.check('OrtBindOutput', module._OrtBindOutput(pointer, text(tensor.name), value(tensor), 0)),
        );
    } catch (error) {
      this.unbind(id);
      throw error;
    }
  }

  private tensor({ type, pointer, bytes, dims }: BoundTensor): number {
    const { module } = this;
    return this.withStack(() => {
      const shape = module.stackAlloc(4 * Math.max(1, dims.length));
      dims.forEach((size, index) => module.setValue(shape + 4 * index, size, '*'));
      const tensor = module._OrtCreateTensor(type, pointer, bytes, shape, dims.length, LOCATION_CPU);
      if (tensor === 0) this.check('OrtCreateTensor', FAIL);
      return tensor;
    });
  }

  /** @throws OrtError */
  async run(id: number): Promise<void> {
    const { module } = this;
    const binding = this.bindings.get(id);
    if (binding === undefined) throw new OrtError('run', INVALID_ARGUMENT, 'the binding is closed');
    const { session, pointer, outputs } = binding;
    const values = this.allocate(4 * outputs);
    try {
      const code = await module._OrtRunWithBinding(session, pointer, outputs, values, 0);
      this.check('OrtRunWithBinding', code);
      // Further references to the outputs that were bound.
      for (let index = 0; index < outputs; index++)
        module._OrtReleaseTensor(module.getValue(values + 4 * index, '*'));
    } finally {
      module._free(values);
    }
  }

  unbind(id: number): void {
    const binding = this.bindings.get(id);
    if (binding === undefined) return;
    this.bindings.delete(id);
    this.module._OrtReleaseBinding(binding.pointer);
    for (const tensor of binding.tensors) this.module._OrtReleaseTensor(tensor);
  }

  /** @throws OrtError with what ONNX Runtime says of its last failure. */
  private check(call: string, code: number): void {
    if (code === 0) return;
    const { module } = this;
    const said = this.withStack(() => {
      const at = module.stackAlloc(8);
      module._OrtGetLastError(at, at + 4);
      const message = module.getValue(at + 4, '*');
      return { code: module.getValue(at, 'i32'), message: message === 0 ? '' : module.UTF8ToString(message) };
    });
    throw new OrtError(call, said.code, said.message);
  }

  /** @param work its texts are on WebAssembly's stack, and gone when it ends. */
  private withStack<T>(work: (text: (value: string) => number) => T): T {
    const { module } = this;
    const stack = module.stackSave();
    try {
      return work((value) => {
        const bytes = module.lengthBytesUTF8(value) + 1;
        const pointer = module.stackAlloc(bytes);
        module.stringToUTF8(value, pointer, bytes);
        return pointer;
      });
    } finally {
      module.stackRestore(stack);
    }
  }
}
