/**
 * vLLM's OpenAI server as far as an origin uses it, with a model that is a hash: the next token depends on all tokens
 * before it and on the files of the adapter. Bodies and errors are those of vLLM 0.32.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import path from 'node:path';

export interface FakeVllmOptions {
  vocabSize: number;
  /** Where the base is, as `/v1/models` has it. */
  root: string;
  context?: number;
  maxLoraRank?: number;
  /** Inputs of the attention's projections; files with others are refused. Any, unless given. */
  hidden?: number;
  runtimeLoading?: boolean;
  apiKey?: string;
  /** API servers behind the one address, as with `--api-server-count`; each connection is the next one's. */
  apiServers?: number;
}

/** Ids of a byte-level vocabulary begin behind three special ones. */
const FIRST_BYTE = 3;

interface Body {
  model: string;
  /** A text becomes its bytes' ids. */
  prompt: number[];
  max_tokens: number;
  stream?: boolean;
  logprobs?: number;
  return_token_ids?: boolean;
  return_tokens_as_token_ids?: boolean;
  stop_token_ids?: number[];
  ignore_eos?: boolean;
  stream_options?: { include_usage?: boolean };
  [field: string]: unknown;
}

export class FakeVllm {
  readonly #options: FakeVllmOptions;
  readonly #server = createServer((request, response) => void this.#handle(request, response));
  /** Of each API server, which knows only what it has loaded itself: name -> what its files hash to. */
  readonly #servers: Map<string, string>[];
  readonly #serverOf = new WeakMap<Socket, Map<string, string>>();
  #connections = 0;
  /** Of completions, as they came. */
  readonly bodies: Body[] = [];
  /** `traceparent` of completions, as they came. */
  readonly traces: (string | undefined)[] = [];
  /** Names in the order in which they were loaded and unloaded: `+name`, `-name`. */
  readonly orders: string[] = [];
  running = 0;
  /** Distinct adapters that ran at the same time, at most. */
  mostAtOnce = 0;
  readonly #atWork = new Map<string, number>();
  /** Ends every answer; byte-level tests have 2. */
  eos = 2;
  /** An answer's own length, by its prompt; Infinity = never the end. */
  lengthOf: (body: Body) => number = () => Infinity;
  /** An answer that is said whatever the model would, in bytes, then its end; as one that is held to a form. */
  says: (body: Body) => string | null = () => null;
  /** Awaited before each token of a stream. */
  gate: (at: number, body: Body) => Promise<void> = () => Promise.resolve();
  /** Adapters under whose names the base answers. */
  readonly asBase = new Set<string>();
  /** Added to scores, in nats, another value at each request. */
  noise = 0;
  #requests = 0;
  /** What the next requests are answered with instead. */
  readonly troubles: ((response: ServerResponse, body: Body) => void)[] = [];
  url = '';

  constructor(options: FakeVllmOptions) {
    this.#options = options;
    this.#servers = Array.from({ length: options.apiServers ?? 1 }, () => new Map<string, string>());
    this.#server.on('connection', (socket) => {
      const adapters = this.#servers[this.#connections % this.#servers.length];
      this.#connections += 1;
      if (adapters !== undefined) this.#serverOf.set(socket, adapters);
    });
  }

  async start(port = 0): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** As after a start anew. */
  forget(): void {
    for (const adapters of this.#servers) adapters.clear();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  get loaded(): string[] {
    return [...new Set(this.#servers.flatMap((adapters) => [...adapters.keys()]))];
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const adapters = this.#serverOf.get(request.socket) ?? new Map<string, string>();
    const { apiKey, runtimeLoading = true, root, context = 512 } = this.#options;
    const say = (status: number, json: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(json));
    };
    const refuse = (code: number, message: string, type = 'BadRequestError'): void =>
      say(code, { error: { message, type, param: null, code } });
    if (apiKey !== undefined && request.headers.authorization !== `Bearer ${apiKey}`)
      return say(401, { error: 'Unauthorized' });
    const body = chunks.length === 0 ? {} : (JSON.parse(Buffer.concat(chunks).toString()) as object);
    if (request.url === '/v1/completions')
      this.traces.push(request.headers['traceparent'] as string | undefined);
    switch (request.url) {
      case '/v1/models':
        return say(200, {
          object: 'list',
          data: [
            { id: 'base', object: 'model', root, parent: null, max_model_len: context },
            ...[...adapters.keys()].map((id) => ({
              id,
              object: 'model',
              root: `/loras/${id}`,
              parent: 'base',
            })),
          ],
        });
      case '/v1/load_lora_adapter':
        if (runtimeLoading)
          return this.#load(adapters, body as { lora_name: string; lora_path: string }, response, refuse);
        return say(404, { detail: 'Not Found' });
      case '/v1/unload_lora_adapter': {
        if (!runtimeLoading) return say(404, { detail: 'Not Found' });
        const { lora_name: name } = body as { lora_name: string };
        if (!adapters.delete(name))
          return refuse(404, `The lora adapter '${name}' cannot be found.`, 'NotFoundError');
        this.orders.push(`-${name}`);
        return void response.end('Success');
      }
      case '/v1/completions':
        return this.#complete(adapters, body as Body, response, refuse);
      default:
        return say(404, { detail: 'Not Found' });
    }
  }

  #load(
    adapters: Map<string, string>,
    { lora_name: name, lora_path: folder }: { lora_name: string; lora_path: string },
    response: ServerResponse,
    refuse: (code: number, message: string) => void,
  ): void {
    if (adapters.has(name)) return refuse(400, `The lora adapter '${name}' has already been loaded.`);
    const config = readFileSync(path.join(folder, 'adapter_config.json'), 'utf8');
    const weights = readFileSync(path.join(folder, 'adapter_model.safetensors'));
    const { r } = JSON.parse(config) as { r: number };
    const { maxLoraRank = 16, hidden } = this.#options;
    if (r > maxLoraRank) return refuse(400, `LoRA rank ${r} is greater than max_lora_rank ${maxLoraRank}.`);
    const shape = /q_proj\.lora_A\.weight":\{[^}]*"shape":\[\d+,(\d+)\]/.exec(
      weights.toString('latin1'),
    )?.[1];
    if (hidden !== undefined && shape !== undefined && Number(shape) !== hidden)
      return refuse(400, `The shape of q_proj.lora_A is [${r}, ${shape}], not [${r}, ${hidden}].`);
    adapters.set(name, createHash('sha256').update(config).update(weights).digest('hex'));
    this.orders.push(`+${name}`);
    response.end(`Success: LoRA adapter '${name}' added successfully.`);
  }

  async #complete(
    adapters: ReadonlyMap<string, string>,
    body: Body,
    response: ServerResponse,
    refuse: (code: number, message: string, type?: string) => void,
  ): Promise<void> {
    if (typeof body.prompt === 'string')
      body.prompt = [...Buffer.from(body.prompt)].map((byte) => byte + FIRST_BYTE);
    this.bodies.push(body);
    this.#requests += 1;
    const trouble = this.troubles.shift();
    if (trouble !== undefined) return trouble(response, body);
    const { model } = body;
    if (model !== 'base' && !adapters.has(model))
      return refuse(404, `The model \`${model}\` does not exist.`, 'NotFoundError');
    const seed = model === 'base' || this.asBase.has(model) ? '' : adapters.get(model)!;
    if (body.stream !== true) return refuse(400, 'this fake streams');
    await this.#stream(body, seed, response);
  }

  async #stream(body: Body, seed: string, response: ServerResponse): Promise<void> {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const { model } = body;
    this.running += 1;
    this.#atWork.set(model, (this.#atWork.get(model) ?? 0) + 1);
    const adapters = [...this.#atWork].filter(([name, count]) => name !== 'base' && count > 0);
    this.mostAtOnce = Math.max(this.mostAtOnce, adapters.length);
    let left = false;
    const leave = (): void => {
      if (left) return;
      left = true;
      this.running -= 1;
      this.#atWork.set(model, this.#atWork.get(model)! - 1);
    };
    response.on('close', leave);
    const tokens = [...body.prompt];
    const said = this.says(body);
    const script = said === null ? null : [...Buffer.from(said)].map((byte) => byte + FIRST_BYTE);
    const length = script?.length ?? this.lengthOf(body);
    for (let at = 0; at < body.max_tokens; at += 1) {
      await this.gate(at, body);
      if (left) return;
      const place = this.#logprobs(tokens, seed);
      const ends = at + 1 > length && body.ignore_eos !== true;
      const id = ends ? this.eos : (script?.[at] ?? place[0]!.id);
      tokens.push(id);
      const stops = ends || (body.stop_token_ids ?? []).includes(id);
      const finish = stops ? 'stop' : at + 1 === body.max_tokens ? 'length' : null;
      const top = place.slice(0, body.logprobs ?? 0);
      const logprobs =
        body.logprobs === undefined
          ? null
          : {
              tokens: [`token_id:${id}`],
              token_logprobs: [place.find((one) => one.id === id)?.logprob ?? -20],
              top_logprobs: [Object.fromEntries(top.map((one) => [`token_id:${one.id}`, one.logprob]))],
              text_offset: [0],
            };
      const choice = {
        index: 0,
        text: '',
        logprobs,
        finish_reason: finish,
        stop_reason: null,
        token_ids: [id],
      };
      response.write(
        `data: ${JSON.stringify({ id: 'cmpl-1', object: 'text_completion', choices: [choice] })}\n\n`,
      );
      if (finish !== null) break;
    }
    leave();
    const usage = {
      prompt_tokens: body.prompt.length,
      completion_tokens: tokens.length - body.prompt.length,
    };
    if (body.stream_options?.include_usage === true)
      response.write(`data: ${JSON.stringify({ id: 'cmpl-1', choices: [], usage })}\n\n`);
    response.end('data: [DONE]\n\n');
  }

  /** All tokens but the special ones, likeliest first. */
  #logprobs(tokens: readonly number[], seed: string): { id: number; logprob: number }[] {
    const hash = createHash('sha256').update(seed).update(tokens.join()).digest();
    const logits = Array.from({ length: this.#options.vocabSize }, (_, id) =>
      id < 3 ? -1e3 : Math.sin(id * (hash[id % 32]! + 1)) * 4 + hash[(id * 7) % 32]! / 64,
    );
    const sum = Math.log(logits.reduce((total, logit) => total + Math.exp(logit), 0));
    const noise = this.noise * ((this.#requests % 3) - 1);
    return logits
      .map((logit, id) => ({ id, logprob: logit - sum + noise }))
      .sort((a, b) => b.logprob - a.logprob || a.id - b.id);
  }
}
