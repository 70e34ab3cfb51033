/** The runtime's port over ONNX Runtime's C API; everything made here has a `close` that releases it. */
import { closeSync, openSync, existsSync } from 'node:fs';
import { DataType, type WeightEntry } from '../../model/base-model.ts';
import { readFully } from '../../model/read-file.ts';
import {
  type Binding,
  type Device,
  type DeviceMemory,
  type DeviceTensor,
  type Elements,
  type HostMemory,
  OrtError,
  own,
  type Session,
  type SessionCores,
  type SharedArrays,
  tensorBytes,
  type Weights,
} from '../device.ts';
import koffi from 'koffi';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import packageJson from '../../../package.json' with { type: 'json' };

/** OrtLoggingLevel: 3 = error. */
export const LOG_ERRORS = 3;
/** GraphOptimizationLevel: 99 = all. */
export const OPTIMIZE_ALL = 99;

/**
 * Runs wait in libuv's pool, which has four threads by default. With more cores there are no parallel runs: it
 * has not been measured how many rows a core should have there.
 */
const MAX_LANES = 4;

/**
 * Sums attention over whole rows. ONNX Runtime's other way, in blocks, synchronizes its threads once for each
 * row of a batch whose rows differ in length, and splits a single row among more threads than heads, which
 * gives it other bits than in a batch. Read when a session is opened.
 */
const WHOLE_ROWS = ['ORT_GQA_DISABLE_FLASH_ATTENTION', '1'] as const;

/** A part of an ArrayBuffer, which the garbage collector frees: tensors keep it reachable. */
export class NativeMemory implements HostMemory {
  readonly bytes: number;
  constructor(private readonly view: Uint8Array<ArrayBuffer>) {
    this.bytes = view.byteLength;
  }
  /**
   * Memory outside V8's heap: small typed arrays are inside it and may move.
   * @param bytes at least 64 are allocated, so that an empty tensor has an address as well.
   * @throws OrtError when there are none, or more than Node allows in one array.
   */
  static allocate(bytes: number, sparse = false): NativeMemory {
    let view: Uint8Array<ArrayBuffer>;
    try {
      view = new Uint8Array(new ArrayBuffer(Math.max(64, Math.ceil(bytes / 8) * 8)));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const size = `${(bytes / 1e9).toFixed(1)} GB`;
      throw new OrtError(
        'memory',
        6,
        `${size} cannot be allocated at once. Use fewer --slots or a shorter --context`,
      );
    }
    if (sparse) {
      pages()?.keepSmall(view);
      // glibc takes it from its heap if that has enough in one piece, and has then written the zeros.
      pages()?.giveBack(view, 0, view.byteLength);
    }
    return new NativeMemory(view);
  }
  get buffer(): ArrayBuffer {
    return this.view.buffer;
  }
  get offset(): number {
    return this.view.byteOffset;
  }
  write(at: number, values: Elements): void {
    this.view.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
  }
  clear(at: number, bytes: number): void {
    this.view.fill(0, at, at + bytes);
  }
  copy(from: number, to: number, bytes: number): void {
    this.view.copyWithin(to, from, from + bytes);
  }
  giveBack(at: number, bytes: number): void {
    pages()?.giveBack(this.view, at, bytes);
  }
  from(at: number): Uint8Array<ArrayBuffer> {
    return this.view.subarray(at);
  }
  close(): void {
    // Left to the garbage collector, once no tensor refers to it.
  }
}

export class NativeTensor implements DeviceTensor {
  readonly value: Pointer;
  constructor(
    private readonly ort: OrtLibrary,
    memory: Pointer,
    type: DataType,
    /** Must not be moved or freed while the tensor lives; the tensor keeps it reachable. */
    readonly data: Uint8Array<ArrayBuffer>,
    bytes: number,
    dims: readonly number[],
  ) {
    this.value = ort.create(
      'value',
      'CreateTensorWithDataAsOrtValue',
      memory,
      data,
      bytes,
      BigInt64Array.from(dims, BigInt),
      dims.length,
      DataType[type],
    );
  }
  close(): void {
    this.ort.release('value', 'ReleaseValue', this.value);
  }
}

class NativeBinding implements Binding {
  private readonly pointer: Pointer;
  /** Keeps the tensors' memory reachable while the library may use it. */
  private readonly bound: NativeTensor[] = [];
  constructor(
    private readonly ort: OrtLibrary,
    private readonly session: Pointer,
  ) {
    this.pointer = ort.create('binding', 'CreateIoBinding', session);
  }
  input(name: string, tensor: DeviceTensor): void {
    this.bind('BindInput', name, tensor);
  }
  output(name: string, tensor: DeviceTensor): void {
    this.bind('BindOutput', name, tensor);
  }
  private bind(call: 'BindInput' | 'BindOutput', name: string, tensor: DeviceTensor): void {
    const mine = own(tensor, NativeTensor);
    this.bound.push(mine);
    this.ort.call(call, this.pointer, name, mine.value);
  }
  run(): Promise<void> {
    return this.ort.run(this.session, this.pointer);
  }
  close(): void {
    this.ort.release('binding', 'ReleaseIoBinding', this.pointer);
  }
}

class NativeSession implements Session {
  constructor(
    private readonly ort: OrtLibrary,
    private readonly pointer: Pointer,
  ) {}
  bind(): Binding {
    return new NativeBinding(this.ort, this.pointer);
  }
  close(): void {
    this.ort.release('session', 'ReleaseSession', this.pointer);
  }
}

/** Initializers by name, in memory once for all sessions. */
class NativeWeights implements Weights {
  constructor(readonly tensors: ReadonlyMap<string, NativeTensor>) {}
  close(): void {
    for (const tensor of this.tensors.values()) tensor.close();
  }
}

/** @param threads intra-op threads of every session, the calling one included. */
export function createEnv(ort: OrtLibrary, threads: number): Pointer {
  const options = ort.create('threading', 'CreateThreadingOptions');
  ort.call('SetGlobalIntraOpNumThreads', options, threads);
  ort.call('SetGlobalInterOpNumThreads', options, 1);
  const env = ort.create('env', 'CreateEnvWithGlobalThreadPools', LOG_ERRORS, 'graft', options);
  ort.release('threading', 'ReleaseThreadingOptions', options);
  return env;
}

/** Threads, memory and the container of prepacked weights that all sessions of one model share. */
export class NativeDevice implements Device {
  readonly provider = 'cpu';
  readonly flavour = 'cpu';
  readonly own = null;
  readonly sharesWeights = true;
  readonly addressableBytes = null;
  readonly lanes: number;
  private readonly env: Pointer;
  private readonly memoryInfo: Pointer;
  private readonly prepacked: Pointer;
  /**
   * Sets `session.x64quantprecision`: without it the u8 x s8 kernel saturates in 16 bits on x86 without VNNI, and the
   * model is silently wrong. With it, processors with AMX lose their fast kernel (u8 x u8 in 16-bit lanes instead: 350
   * against 1,900 GFLOP/s), so it is set only where the self-test asks for it.
   */
  preciseInt8 = true;

  /** @param threads intra-op threads, the calling one included. */
  constructor(
    private readonly ort: OrtLibrary,
    threads: number,
  ) {
    this.lanes = threads <= MAX_LANES ? threads : 1;
    setForLibrary(...WHOLE_ROWS);
    this.env = createEnv(ort, threads);
    // OrtArenaAllocator = 1, OrtMemTypeDefault = 0: only describes our own buffers.
    this.memoryInfo = ort.create('memory', 'CreateCpuMemoryInfo', 1, 0);
    // One arena for all sessions' temporary buffers: otherwise each would keep its own, sized for the longest
    // prompt it read.
    ort.call('CreateAndRegisterAllocator', this.env, this.memoryInfo, null);
    this.prepacked = ort.create('prepacked', 'CreatePrepackedWeightsContainer');
  }

  get description(): string {
    return `ONNX Runtime ${this.ort.version}, its native library`;
  }

  async memory(bytes: number, sparse = false): Promise<DeviceMemory> {
    return NativeMemory.allocate(bytes, sparse);
  }

  async host(bytes: number, sparse = false): Promise<HostMemory> {
    return NativeMemory.allocate(bytes, sparse);
  }

  async share(arrays: readonly Elements[]): Promise<SharedArrays> {
    const bytesOf = (array: Elements): Uint8Array<ArrayBuffer> =>
      new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    return { memories: arrays.map((array) => new NativeMemory(bytesOf(array))), close: () => {} };
  }

  tensor(type: DataType, memory: DeviceMemory, at: number, dims: readonly number[]): DeviceTensor {
    const bytes = tensorBytes(type, memory, at, dims);
    const data = own(memory, NativeMemory).from(at);
    return new NativeTensor(this.ort, this.memoryInfo, type, data, bytes, dims);
  }

  async weights(path: string, entries: readonly WeightEntry[]): Promise<Weights> {
    const fd = openSync(path, 'r');
    try {
      const tensors = entries.map(({ name, type, dims, offset, bytes }) => {
        const data = NativeMemory.allocate(bytes).from(0);
        if (!readFully(fd, data.subarray(0, bytes), offset))
          throw new Error(`${path} ends before its last tensor`);
        return [name, new NativeTensor(this.ort, this.memoryInfo, type, data, bytes, dims)] as const;
      });
      return new NativeWeights(new Map(tensors));
    } finally {
      closeSync(fd);
    }
  }

  async session(
    model: string | Uint8Array,
    weights: Weights | null,
    cores: SessionCores = 'all',
  ): Promise<Session> {
    const { ort } = this;
    const options = ort.create('options', 'CreateSessionOptions');
    try {
      if (cores === 'all') ort.call('DisablePerSessionThreads', options);
      // A pool of one thread is none: the run stays on the calling thread.
      else ort.call('SetIntraOpNumThreads', options, 1);
      ort.call('AddSessionConfigEntry', options, 'session.use_env_allocators', '1');
      // Between steps the core is needed by sampling, HTTP and the edge; spinning inside a step is worth 30 %.
      ort.call('AddSessionConfigEntry', options, 'session.force_spinning_stop', '1');
      ort.call('SetSessionGraphOptimizationLevel', options, OPTIMIZE_ALL);
      // Shapes change from step to step; planned memory patterns would be kept for each of them.
      ort.call('DisableMemPattern', options);
      if (this.preciseInt8) ort.call('AddSessionConfigEntry', options, 'session.x64quantprecision', '1');
      if (weights !== null)
        for (const [name, tensor] of own(weights, NativeWeights).tensors)
          ort.call('AddInitializer', options, name, tensor.value);
      return new NativeSession(ort, ort.createSession(this.env, model, options, this.prepacked));
    } finally {
      ort.release('options', 'ReleaseSessionOptions', options);
    }
  }

  async close(): Promise<void> {
    this.ort.release('prepacked', 'ReleasePrepackedWeightsContainer', this.prepacked);
    this.ort.release('memory', 'ReleaseMemoryInfo', this.memoryInfo);
    this.ort.release('env', 'ReleaseEnv', this.env);
  }
}

/**
 * Linux: discarded private memory reads as zeros until it is written again (madvise(2)). Elsewhere the call has
 * other meanings.
 */
const MADV_DONTNEED = 4;
/**
 * If Linux creates large pages automatically, one token of a head of 8,192 tokens would make 2 MB resident:
 * everything that its row may ever need.
 */
const MADV_NOHUGEPAGE = 15;

interface Pages {
  /** It becomes resident in the smallest pages there are. */
  keepSmall(view: Uint8Array<ArrayBuffer>): void;
  /** Whole pages inside `bytes` from byte `at` of the view on. Refused ones stay. */
  giveBack(view: Uint8Array<ArrayBuffer>, at: number, bytes: number): void;
}

let opened: Pages | null | undefined;

/** @returns null if pages cannot be returned to the system. */
function pages(): Pages | null {
  if (opened === undefined) opened = process.platform === 'linux' ? open() : null;
  return opened;
}

function open(): Pages | null {
  try {
    const library = koffi.load(null);
    // koffi on hosts other than Node may lack it.
    koffi.address(new Uint8Array(8));
    const size = (library.func('int getpagesize()') as () => number)();
    const madvise = library.func('int madvise(uintptr_t, size_t, int)') as (...args: number[]) => number;
    const advise = (view: Uint8Array<ArrayBuffer>, at: number, bytes: number, advice: number): void => {
      const begin = Number(koffi.address(view)) + at;
      const from = Math.ceil(begin / size) * size;
      const to = Math.floor((begin + bytes) / size) * size;
      if (to > from) madvise(from, to - from, advice);
    };
    return {
      keepSmall: (view) => advise(view, 0, view.byteLength, MADV_NOHUGEPAGE),
      giveBack: (view, at, bytes) => advise(view, at, bytes, MADV_DONTNEED),
    };
  } catch {
    return null;
  }
}

/** A pointer that belongs to ONNX Runtime. */
export type Pointer = { readonly ortPointer: unique symbol };

/** Requested API version; 21 = ONNX Runtime 1.21, older than the shipped one, newer than all called functions. */
const API_VERSION = 21;
/** Entries of the table that are read; the highest position used is 316. */
const TABLE_LENGTH = 320;

/** ORTCHAR_T*: wchar_t on Windows. */
const PATH = process.platform === 'win32' ? 'const char16_t*' : 'const char*';

/** Stack of a run's thread. Koffi's own 128 KiB overflow when WebGPU compiles shaders; its maximum is 16 MiB. */
const RUN_STACK_BYTES = 8 * 1024 ** 2;

/**
 * ONNX Runtime's C API by koffi: the only file that knows pointers' types and positions in OrtApi. Positions are
 * append-only (onnxruntime_c_api.h: "must not be reordered"), so they hold for every later version. name: [position in
 * OrtApi, C signature]
 */
const FUNCTIONS = {
  GetErrorCode: [1, 'int GetErrorCode(void*)'],
  GetErrorMessage: [2, 'const char* GetErrorMessage(void*)'],
  CreateSession: [7, `void* CreateSession(void*, ${PATH}, void*, _Out_ void**)`],
  CreateSessionFromArray: [8, 'void* CreateSessionFromArray(void*, void*, size_t, void*, _Out_ void**)'],
  CreateSessionOptions: [10, 'void* CreateSessionOptions(_Out_ void**)'],
  // Called only by `npm run bench -- profile`.
  EnableProfiling: [
    14,
    `void* EnableProfiling(void*, ${process.platform === 'win32' ? 'const char16_t*' : 'const char*'})`,
  ],
  DisableMemPattern: [17, 'void* DisableMemPattern(void*)'],
  SetSessionLogSeverityLevel: [22, 'void* SetSessionLogSeverityLevel(void*, int)'],
  SetSessionGraphOptimizationLevel: [23, 'void* SetSessionGraphOptimizationLevel(void*, int)'],
  SetIntraOpNumThreads: [24, 'void* SetIntraOpNumThreads(void*, int)'],
  CreateTensorAsOrtValue: [48, 'void* CreateTensorAsOrtValue(void*, int64_t*, size_t, int, _Out_ void**)'],
  CreateTensorWithDataAsOrtValue: [
    49,
    'void* CreateTensorWithDataAsOrtValue(void*, void*, size_t, int64_t*, size_t, int, _Out_ void**)',
  ],
  GetTensorMutableData: [51, 'void* GetTensorMutableData(void*, _Out_ void**)'],
  CreateMemoryInfo: [68, 'void* CreateMemoryInfo(const char*, int, int, int, _Out_ void**)'],
  CreateCpuMemoryInfo: [69, 'void* CreateCpuMemoryInfo(int, int, _Out_ void**)'],
  ReleaseEnv: [92, 'void ReleaseEnv(void*)'],
  ReleaseStatus: [93, 'void ReleaseStatus(void*)'],
  ReleaseMemoryInfo: [94, 'void ReleaseMemoryInfo(void*)'],
  ReleaseSession: [95, 'void ReleaseSession(void*)'],
  ReleaseValue: [96, 'void ReleaseValue(void*)'],
  ReleaseSessionOptions: [100, 'void ReleaseSessionOptions(void*)'],
  CreateEnvWithGlobalThreadPools: [
    119,
    'void* CreateEnvWithGlobalThreadPools(int, const char*, void*, _Out_ void**)',
  ],
  DisablePerSessionThreads: [120, 'void* DisablePerSessionThreads(void*)'],
  CreateThreadingOptions: [121, 'void* CreateThreadingOptions(_Out_ void**)'],
  ReleaseThreadingOptions: [122, 'void ReleaseThreadingOptions(void*)'],
  AddSessionConfigEntry: [130, 'void* AddSessionConfigEntry(void*, const char*, const char*)'],
  CreateAllocator: [131, 'void* CreateAllocator(void*, void*, _Out_ void**)'],
  ReleaseAllocator: [132, 'void ReleaseAllocator(void*)'],
  RunWithBinding: [133, 'void* RunWithBinding(void*, void*, void*)'],
  CreateIoBinding: [134, 'void* CreateIoBinding(void*, _Out_ void**)'],
  ReleaseIoBinding: [135, 'void ReleaseIoBinding(void*)'],
  BindInput: [136, 'void* BindInput(void*, const char*, void*)'],
  BindOutput: [137, 'void* BindOutput(void*, const char*, void*)'],
  CreateAndRegisterAllocator: [144, 'void* CreateAndRegisterAllocator(void*, void*, void*)'],
  SetGlobalIntraOpNumThreads: [147, 'void* SetGlobalIntraOpNumThreads(void*, int)'],
  SetGlobalInterOpNumThreads: [148, 'void* SetGlobalInterOpNumThreads(void*, int)'],
  SetGlobalSpinControl: [149, 'void* SetGlobalSpinControl(void*, int)'],
  AddInitializer: [150, 'void* AddInitializer(void*, const char*, void*)'],
  CreatePrepackedWeightsContainer: [166, 'void* CreatePrepackedWeightsContainer(_Out_ void**)'],
  ReleasePrepackedWeightsContainer: [167, 'void ReleasePrepackedWeightsContainer(void*)'],
  CreateSessionWithPrepackedWeightsContainer: [
    168,
    `void* CreateSessionWithPrepackedWeightsContainer(void*, ${PATH}, void*, void*, _Out_ void**)`,
  ],
  CreateSessionFromArrayWithPrepackedWeightsContainer: [
    169,
    'void* CreateSessionFromArrayWithPrepackedWeightsContainer(void*, void*, size_t, void*, void*, _Out_ void**)',
  ],
  SessionOptionsAppendExecutionProvider: [
    216,
    'void* SessionOptionsAppendExecutionProvider(void*, const char*, void*, void*, size_t)',
  ],
  GetEpDevices: [303, 'void* GetEpDevices(void*, _Out_ void**, _Out_ size_t*)'],
  HardwareDevice_Type: [307, 'int HardwareDevice_Type(void*)'],
  HardwareDevice_Vendor: [309, 'const char* HardwareDevice_Vendor(void*)'],
  EpDevice_EpName: [312, 'const char* EpDevice_EpName(void*)'],
  EpDevice_Device: [316, 'void* EpDevice_Device(void*)'],
} as const satisfies Record<string, readonly [number, string]>;

type Name = keyof typeof FUNCTIONS;
type Argument = Pointer | string | number | ArrayBufferView | null | [null | Pointer];

interface NativeFunction {
  (...args: Argument[]): unknown;
  async(...args: [...Argument[], (error: Error | null, status: Pointer | null) => void]): void;
}

/**
 * Since 1.29 the official libraries for Linux and macOS report to Microsoft unless this is set before they start
 * (onnxruntime/docs/Privacy.md): files' names, shapes and hashes of models, an identifier of the machine that is kept in
 * the home folder. They also search the command line with a recursive regular expression, which overflows the stack where
 * that is longer than about 10 kB.
 */
const NO_TELEMETRY = 'ORT_DISABLE_TELEMETRY';

/** Sets an environment variable that the library reads: in a worker thread `process.env` is a copy of Node's. */
export function setForLibrary(name: string, value: string): void {
  process.env[name] = value;
  if (process.platform !== 'win32')
    koffi.load(null).func('int setenv(const char*, const char*, int)')(name, value, 1);
}

/**
 * The library inside `onnxruntime-node`; its JavaScript binding is not loaded. @throws Error when this platform
 * has none.
 */
function libraryPath(): string {
  const root = packageFolder();
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch);
  for (const file of ['libonnxruntime.so.1', 'libonnxruntime.1.dylib', 'onnxruntime.dll'])
    if (existsSync(join(folder, file))) return join(folder, file);
  throw new Error(`onnxruntime-node ships no library for ${process.platform} ${process.arch}`);
}

/**
 * An optional dependency: npm skips it when its script, which downloads libraries for CUDA, fails.
 * `GRAFT_ONNXRUNTIME` names a folder with that package's content; the command line sets it.
 */
function packageFolder(): string {
  const given = process.env['GRAFT_ONNXRUNTIME'];
  if (given !== undefined && given !== '') return given;
  try {
    return dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  } catch {
    const version = packageJson.optionalDependencies['onnxruntime-node'];
    throw new Error(
      'onnxruntime-node is not installed. Run `npm install --ignore-scripts ' +
        `onnxruntime-node@${version}\` to get answers 2 to 3 times as fast`,
    );
  }
}

class OrtLibrary {
  /** koffi unloads a library when nothing refers to it any more, and the functions' addresses with it. */
  private readonly library: ReturnType<typeof koffi.load>;
  private readonly functions: Record<Name, NativeFunction>;
  readonly version: string;
  /** Objects created and not yet released, by kind; a leak test reads it. */
  readonly alive = new Map<string, number>();

  constructor() {
    koffi.config({ ...koffi.config(), async_stack_size: RUN_STACK_BYTES });
    setForLibrary(NO_TELEMETRY, '1');
    this.library = koffi.load(libraryPath());
    const Base = koffi.struct({ GetApi: 'void*', GetVersionString: 'void*' });
    const base = koffi.decode(this.library.func('void* OrtGetApiBase()')(), Base) as {
      GetApi: unknown;
      GetVersionString: unknown;
    };
    this.version = String(
      koffi.decode(base.GetVersionString, koffi.proto('const char* GetVersionString()'))(),
    );
    const table: unknown = koffi.decode(base.GetApi, koffi.proto('void* GetApi(uint32_t)'))(API_VERSION);
    if (table === null)
      throw new Error(`ONNX Runtime ${this.version} does not offer API version ${API_VERSION}`);
    const pointers = koffi.decode(table, koffi.array('void*', TABLE_LENGTH)) as unknown[];
    this.functions = Object.fromEntries(
      Object.entries(FUNCTIONS).map(([name, [at, signature]]) => [
        name,
        koffi.decode(
          pointers[at],
          koffi.proto(signature.replace(/\b[A-Z]\w+\(/, (call) => `Ort_${call}`)),
        ) as NativeFunction,
      ]),
    ) as Record<Name, NativeFunction>;
  }

  private check(name: Name, status: unknown): void {
    if (status === null || status === undefined) return;
    const pointer = status as Pointer;
    const message = String(this.functions.GetErrorMessage(pointer));
    const code = Number(this.functions.GetErrorCode(pointer));
    this.functions.ReleaseStatus(pointer);
    throw new OrtError(name, code, message);
  }

  /** @throws OrtError */
  call(name: Name, ...args: Argument[]): void {
    this.check(name, this.functions[name](...args));
  }

  /** Calls a function whose last parameter receives a new object of `kind`. @throws OrtError */
  create(kind: string, name: Name, ...args: Argument[]): Pointer {
    const out: [null | Pointer] = [null];
    this.call(name, ...args, out);
    this.alive.set(kind, (this.alive.get(kind) ?? 0) + 1);
    return out[0] as unknown as Pointer;
  }

  /**
   * @param model path of an .onnx file, or its bytes. @param prepacked container of the weights that sessions share;
   * null = the session has its own.
   * @throws OrtError
   */
  createSession(
    env: Pointer,
    model: string | Uint8Array,
    options: Pointer,
    prepacked: Pointer | null,
  ): Pointer {
    const call = prepacked === null ? 'CreateSession' : 'CreateSessionWithPrepackedWeightsContainer';
    const callForBytes =
      prepacked === null ? 'CreateSessionFromArray' : 'CreateSessionFromArrayWithPrepackedWeightsContainer';
    const last = prepacked === null ? [options] : [options, prepacked];
    return typeof model === 'string'
      ? this.create('session', call, env, model, ...last)
      : this.create('session', callForBytes, env, model, model.length, ...last);
  }

  /**
   * Devices that providers find on this machine: provider, OrtHardwareDeviceType, and vendor. @throws OrtError
   */
  devices(env: Pointer): { provider: string; type: number; vendor: string }[] {
    const found: [null | Pointer] = [null];
    const count: [number | bigint] = [0];
    this.call('GetEpDevices', env, found, count as unknown as [null]);
    const pointers = koffi.decode(found[0], koffi.array('void*', Number(count[0]))) as Pointer[];
    const { EpDevice_EpName, EpDevice_Device, HardwareDevice_Type, HardwareDevice_Vendor } = this.functions;
    return pointers.map((pointer) => {
      const hardware = EpDevice_Device(pointer) as Pointer;
      return {
        provider: String(EpDevice_EpName(pointer)),
        type: Number(HardwareDevice_Type(hardware)),
        vendor: String(HardwareDevice_Vendor(hardware)),
      };
    });
  }

  /** Where a tensor's elements lie, in whatever memory. */
  data(value: Pointer): Pointer {
    const out: [null | Pointer] = [null];
    this.call('GetTensorMutableData', value, out);
    return out[0] as unknown as Pointer;
  }

  release(kind: string, name: Name, pointer: Pointer): void {
    this.functions[name](pointer);
    this.alive.set(kind, (this.alive.get(kind) ?? 0) - 1);
  }

  /** Runs on a worker thread; the event loop stays free. @throws OrtError */
  async run(session: Pointer, binding: Pointer): Promise<void> {
    const status = await new Promise<Pointer | null>((resolve, reject) => {
      this.functions.RunWithBinding.async(session, null, binding, (error, result) =>
        error === null || error === undefined ? resolve(result) : reject(error),
      );
    });
    this.check('RunWithBinding', status);
  }
}

export type { OrtLibrary };

let shared: OrtLibrary | undefined;

/** The library is loaded once per process: koffi's type names are global. */
export function ortLibrary(): OrtLibrary {
  shared ??= new OrtLibrary();
  return shared;
}
