import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { BaseShape } from './write-random-adapter.ts';

const HubConfig = z
  .object({
    num_hidden_layers: z.int().positive(),
    hidden_size: z.int().positive(),
    num_attention_heads: z.int().positive(),
    num_key_value_heads: z.int().positive().optional(),
    head_dim: z.int().positive().nullish(),
    intermediate_size: z.int().positive(),
  })
  .transform((config): BaseShape => {
    const heads = config.num_attention_heads;
    const head = config.head_dim ?? config.hidden_size / heads;
    return {
      layers: config.num_hidden_layers,
      hidden: config.hidden_size,
      query: heads * head,
      keyValue: (config.num_key_value_heads ?? heads) * head,
      feedForward: config.intermediate_size,
    };
  });

/** @param folder a dense base of Llama's form, as Hugging Face has it. @throws ZodError when its config.json has another. */
export const readBaseShape = async (folder: string): Promise<BaseShape> =>
  HubConfig.parse(JSON.parse(await readFile(path.join(folder, 'config.json'), 'utf8')));
