import { err } from '../../../protocol/index.ts';
import type { Grammars } from '../../grammar/ports.ts';

/** Answers of vLLM are not held to grammars from here: they are written in an alphabet of our own. */
export const noGrammars: Grammars = {
  prepare: ({ param }) =>
    Promise.resolve(
      err({
        code: 'unsupported_parameter',
        message: `'${param}' is not supported by this origin's engine (vLLM); ask an origin that runs the model itself.`,
        param,
      }),
    ),
  update: () => Promise.reject(new Error('no answer of vLLM is held to a grammar')),
  close: () => Promise.resolve(),
};
