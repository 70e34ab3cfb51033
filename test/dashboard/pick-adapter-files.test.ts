import { expect, it } from 'vitest';
import { pickAdapterFiles } from '../../dashboard/api/publish-file.ts';

const files = (...names: string[]) => names.map((name) => ({ name }));
const pick = (...names: string[]) => {
  const found = pickAdapterFiles(files(...names));
  return found.ok ? [found.value.weights.name, found.value.config?.name ?? null] : found.error;
};

it.each<[string[], unknown]>([
  [
    ['adapter_model.safetensors', 'adapter_config.json', 'README.md'],
    ['adapter_model.safetensors', 'adapter_config.json'],
  ],
  [
    ['adapters.safetensors', '0000100_adapters.safetensors', 'adapter_config.json'],
    ['adapters.safetensors', 'adapter_config.json'],
  ],
  [['mine.gguf'], ['mine.gguf', null]],
  [
    ['packed.safetensors', 'notes.txt'],
    ['packed.safetensors', null],
  ],
  // Read, to be refused with what to do about it.
  [
    ['adapter_model.bin', 'adapter_config.json'],
    ['adapter_model.bin', 'adapter_config.json'],
  ],
  [
    [
      'adapter_model-00001-of-00002.safetensors',
      'adapter_model-00002-of-00002.safetensors',
      'adapter_config.json',
    ],
    ['adapter_model-00001-of-00002.safetensors', 'adapter_config.json'],
  ],
])('%j: chooses %j', (names, expected) => {
  expect(pick(...names)).toEqual(expected);
});

it.each<[string[], string | null]>([
  [['adapter_model.safetensors', 'adapter_config.json', 'config.json'], 'config.json'],
  [['adapter_model.safetensors', 'adapter_config.json'], null],
  [['packed.safetensors', 'config.json'], null],
])('%j: takes the labels of a head from %s', (names, expected) => {
  const found = pickAdapterFiles(files(...names));
  expect(found.ok && (found.value.modelConfig?.name ?? null)).toBe(expected);
});

it.each<[string[], RegExp]>([
  [[], /contain no adapter/],
  [['README.md', 'adapter_config.json'], /contain no adapter/],
  [['a.safetensors', 'b.gguf'], /contain more than one adapter: a.safetensors, b.gguf/],
  [['adapter_model.safetensors', 'adapter_config.json', 'adapter_config.json'], /more than one/],
])('%j: chooses none', (names, expected) => {
  expect(pick(...names)).toMatch(expected);
});
