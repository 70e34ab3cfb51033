/** What the thread that WebAssembly runs in is told, and what it answers. Pointers are byte offsets into its memory. */

export interface WasmStart {
  /** That a run uses, the module's own included. */
  threads: number;
}

/** Where memory lies: WebAssembly's own, or a buffer of the GPU's. */
export type Place = 'heap' | 'gpu';

export interface BoundTensor {
  name: string;
  /** Of what it lies in; of the GPU's, where the buffer begins. */
  place: Place;
  /** onnx.TensorProto.DataType */
  type: number;
  pointer: number;
  bytes: number;
  dims: readonly number[];
}

export interface Bindings {
  session: number;
  inputs: readonly BoundTensor[];
  outputs: readonly BoundTensor[];
}

/** Where WebAssembly runs, as the device sees it. */
export interface WasmHost {
  /** All that was allocated lies in it. */
  readonly memory: SharedArrayBuffer;
  nextId(): number;
  /** Requests are done in the order in which they are made. @throws OrtError */
  ask(question: WasmQuestion): Promise<WasmAnswer>;
  tell(order: WasmOrder): void;
  end(): Promise<void>;
}

/** Those with a job are answered. Numbers of sessions and bindings are the sender's choice. */
export type WasmRequest =
  | { kind: 'allocate'; job: number; place: Place; bytes: number }
  | { kind: 'free'; place: Place; pointer: number }
  | { kind: 'open'; job: number; session: number; model: string | Uint8Array; weights: string | null }
  | { kind: 'close'; session: number }
  /** @property bindings at the first run of a binding. @property changed inputs of one before whose content is a new one, and which a GPU therefore has a copy of no more. */
  | { kind: 'run'; job: number; binding: number; bindings: Bindings | null; changed: readonly BoundTensor[] }
  | { kind: 'unbind'; binding: number };

/** @property job 0 = it has started. @property memory as it is now: it may have grown. */
export type WasmReply =
  | { job: number; pointer: number; memory: SharedArrayBuffer }
  | { job: number; error: { call: string; code: number; message: string } };

export type WasmAnswer = Extract<WasmReply, { pointer: number }>;
/** One that is answered, without its number. */
export type WasmQuestion = WasmRequest extends infer R
  ? R extends { job: number }
    ? Omit<R, 'job'>
    : never
  : never;
export type WasmOrder = Exclude<WasmRequest, { job: number }>;
