/** A base as browsers fetch it: `graft base export --web` writes it, `graft-lora/browser` reads it. */
import { z } from 'zod';
import { Digest } from './identity.ts';
import { BaseInfo } from './origin-request.ts';

/** Name of the manifest beside the parts. */
export const WEB_BASE_MANIFEST = 'base.json';

/** Bytes of a part, the last one but: below the 25 MiB that Cloudflare's static assets and KV take in a file. */
export const WEB_BASE_PART_BYTES = 24 * 1024 ** 2;

/** Raise it when a reader of before could not use what is written. */
const FORMAT = 'graft-web-base/1';

/** One file within the bytes of all parts, one behind the other. */
const Place = z.strictObject({ offset: z.int().min(0), bytes: z.int().min(0) });

/** What is in it: the graphs' weights and a list of them, the graphs, and what prompts are encoded with. */
export const WEB_BASE_FILES = [
  'weights.bin',
  'weights.json',
  'none.onnx',
  'qv.onnx',
  'all.onnx',
  'config.json',
  'gains.safetensors',
  'tokenizer.json',
] as const;
export type WebBaseFile = (typeof WEB_BASE_FILES)[number];

export const WebBaseManifest = z.strictObject({
  format: z.literal(FORMAT),
  base: BaseInfo,
  files: z.record(z.enum(WEB_BASE_FILES), Place),
  /** In order; each lies beside the manifest as `<sha256>.bin`. */
  parts: z.array(z.strictObject({ sha256: Digest, bytes: z.int().min(1).max(WEB_BASE_PART_BYTES) })).min(1),
});
export type WebBaseManifest = z.infer<typeof WebBaseManifest>;

export const webBaseManifest = (content: Omit<WebBaseManifest, 'format'>): WebBaseManifest => ({
  format: FORMAT,
  ...content,
});

/** Where a part lies, from the manifest. */
export const webBasePartName = (sha256: string): string => `${sha256}.bin`;
