/** What the thread that WebAssembly runs in is told, and what it answers. Pointers are byte offsets into its memory. */

export interface WasmStart {
  /** That a run uses, the module's own included. */
  threads: number;
}

export interface BoundTensor {
  name: string;
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

/** Those with a job are answered. Numbers of sessions and bindings are the sender's choice. */
export type WasmRequest =
  | { kind: 'allocate'; job: number; bytes: number }
  | { kind: 'free'; pointer: number }
  | { kind: 'open'; job: number; session: number; model: string | Uint8Array; weights: string | null }
  | { kind: 'close'; session: number }
  /** @property bindings at the first run of a binding. */
  | { kind: 'run'; job: number; binding: number; bindings: Bindings | null }
  | { kind: 'unbind'; binding: number };

/** @property job 0 = it has started. @property memory as it is now: it may have grown. */
export type WasmReply =
  | { job: number; pointer: number; memory: SharedArrayBuffer }
  | { job: number; error: { call: string; code: number; message: string } };
