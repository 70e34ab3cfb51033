/**
 * ONNX Runtime's C API by koffi: the only file that knows pointers' types and positions in OrtApi.
 * Positions are append-only (onnxruntime_c_api.h: "must not be reordered"), so they hold for every later version.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import packageJson from '../../../package.json' with { type: 'json' };
import { OrtError } from '../device.ts';

/** A pointer that belongs to ONNX Runtime. */
export type Pointer = { readonly ortPointer: unique symbol };

/** API version asked for; 21 = ONNX Runtime 1.21, older than what is shipped, newer than all that is called. */
const API_VERSION = 21;
/** Entries of the table that are read; the highest position used is 316. */
const TABLE_LENGTH = 320;

/** ORTCHAR_T*: wchar_t on Windows. */
const PATH = process.platform === 'win32' ? 'const char16_t*' : 'const char*';

/** Of a run's thread. Koffi's own 128 KiB overflow where WebGPU compiles shaders; its most is 16 MiB. */
const RUN_STACK_BYTES = 8 * 1024 ** 2;

/** name: [position in OrtApi, C signature] */
const FUNCTIONS = {
  GetErrorCode: [1, 'int GetErrorCode(void*)'],
  GetErrorMessage: [2, 'const char* GetErrorMessage(void*)'],
  CreateSession: [7, `void* CreateSession(void*, ${PATH}, void*, _Out_ void**)`],
  CreateSessionFromArray: [8, 'void* CreateSessionFromArray(void*, void*, size_t, void*, _Out_ void**)'],
  CreateSessionOptions: [10, 'void* CreateSessionOptions(_Out_ void**)'],
  // Called by `npm run bench -- profile` alone.
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

/** Sets a variable of the environment that the library reads: in a worker thread `process.env` is a copy of Node's. */
export function setForLibrary(name: string, value: string): void {
  process.env[name] = value;
  if (process.platform !== 'win32')
    koffi.load(null).func('int setenv(const char*, const char*, int)')(name, value, 1);
}

/** The library inside `onnxruntime-node`; its JavaScript binding is not loaded. @throws Error when this platform has none. */
function libraryPath(): string {
  const root = packageFolder();
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch);
  for (const file of ['libonnxruntime.so.1', 'libonnxruntime.1.dylib', 'onnxruntime.dll'])
    if (existsSync(join(folder, file))) return join(folder, file);
  throw new Error(`onnxruntime-node ships no library for ${process.platform} ${process.arch}`);
}

/**
 * It is an optional dependency: npm leaves it out when its script, which fetches libraries for CUDA, fails.
 * `GRAFT_ONNXRUNTIME` names a folder that has what is in that package; the command line sets it.
 */
function packageFolder(): string {
  const given = process.env['GRAFT_ONNXRUNTIME'];
  if (given !== undefined && given !== '') return given;
  try {
    return dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  } catch {
    const version = packageJson.optionalDependencies['onnxruntime-node'];
    throw new Error(
      `onnxruntime-node is not installed: \`npm install --ignore-scripts onnxruntime-node@${version}\` adds it, and answers come 2 to 3 times as fast`,
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

  /** What providers find on this machine: which provider, OrtHardwareDeviceType, and whose it is. @throws OrtError */
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

/** The library is loaded once a process: koffi's type names are global. */
export function ortLibrary(): OrtLibrary {
  shared ??= new OrtLibrary();
  return shared;
}
