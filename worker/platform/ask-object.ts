import { StoreUnavailable } from './ports.ts';
import { withTimeout } from './store-calls.ts';

/** The part of a Durable Object's namespace that graft uses; `DurableObjectNamespace` fits it. */
export interface DurableNamespace {
  idFromName(name: string): unknown;
  get(id: unknown): { fetch(url: string, init?: RequestInit): Promise<Response> };
}

/**
 * Asks one Durable Object.
 * @param params.what it is called in errors. @param params.call sent as JSON. @param params.parse of its JSON; may throw.
 * @throws StoreUnavailable also when it answers something odd.
 */
export async function askObject<T>(params: {
  namespace: DurableNamespace;
  name: string;
  what: string;
  call: unknown;
  parse: (answer: unknown) => T;
  timeoutMs: number;
}): Promise<T> {
  const { namespace, name, what, call, parse, timeoutMs } = params;
  const send = async (): Promise<T> => {
    const object = namespace.get(namespace.idFromName(name));
    // The address is for nobody: it never leaves the platform.
    const response = await object.fetch('https://object.invalid/', {
      method: 'POST',
      body: JSON.stringify(call),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`the ${what} answered ${response.status}`);
    return parse(JSON.parse(text));
  };
  try {
    return await withTimeout(send(), timeoutMs);
  } catch (error) {
    throw new StoreUnavailable('DO', error);
  }
}
