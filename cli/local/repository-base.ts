/** Parses `--base hf:…`, and selects the files of a repository that make a base. */
import { usageError } from '../flags.ts';

export interface RepositoryBase {
  /** `owner/name` */
  repository: string;
  /** A GGUF of the repository, if it has several. */
  file: string | null;
  /** Branch, tag or commit. */
  revision: string;
}

export interface RepositoryFile {
  path: string;
  size: number;
  /** Of large files. */
  sha256: string | null;
  /** Git's id of the content, sha1 over `blob <size>\0` and the bytes; known of small files. */
  blobId: string | null;
}

const PREFIX = 'hf:';
const NAME = /^[A-Za-z0-9][\w.-]{0,95}$/;
const REVISION = /^[\w][\w./-]{0,254}$/;

/**
 * `hf:<owner>/<name>[/<file.gguf>][@<revision>]`.
 * @returns null for a path. @throws CliError
 */
export function parseRepositoryBase(base: string): RepositoryBase | null {
  if (!base.startsWith(PREFIX)) return null;
  const [place = '', revision = 'main', ...more] = base.slice(PREFIX.length).split('@');
  const [owner = '', name = '', ...rest] = place.split('/');
  const file = rest.length === 0 ? null : rest.join('/');
  const safe = (part: string): boolean => part !== '' && !part.startsWith('.');
  if (
    more.length > 0 ||
    !NAME.test(owner) ||
    !NAME.test(name) ||
    !REVISION.test(revision) ||
    revision.includes('..') ||
    (file !== null && !(file.endsWith('.gguf') && rest.every(safe)))
  )
    throw usageError(
      `--base ${base}: use hf:<owner>/<name>, with /<file>.gguf if it has several and @<revision> if ` +
        'you want one.',
    );
  return { repository: `${owner}/${name}`, file, revision };
}

/** Files beside the weights, if they exist. */
const BESIDE = [
  ...['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'],
  ...[
    'chat_template.jinja',
    'chat_template.json',
    'special_tokens_map.json',
    'model.safetensors.index.json',
    'LICENSE',
  ],
];
const PART = /-\d{5}-of-\d{5}\.gguf$/;

/** @returns the files to fetch and what the origin loads, relative to the folder; '' = the folder. @throws CliError */
export function chooseFiles(
  base: RepositoryBase,
  files: readonly RepositoryFile[],
): { files: RepositoryFile[]; load: string } {
  const ggufs = files.filter(
    ({ path }) => path.endsWith('.gguf') && !/-(?!00001)\d{5}-of-\d{5}\.gguf$/.test(path),
  );
  const weights = files.filter(({ path }) => path.endsWith('.safetensors') && !path.includes('/'));
  if (base.file !== null || (weights.length === 0 && ggufs.length === 1)) {
    const chosen = ggufs.find(({ path }) => base.file === null || path === base.file);
    if (chosen === undefined)
      throw usageError(`${base.repository} has no ${base.file}. Its GGUF files: ${list(ggufs)}.`);
    const stem = chosen.path.replace(PART, '');
    const parts = PART.test(chosen.path)
      ? files.filter(({ path }) => PART.test(path) && path.replace(PART, '') === stem)
      : [chosen];
    return { files: parts, load: chosen.path };
  }
  if (weights.length === 0)
    throw usageError(
      ggufs.length === 0
        ? `${base.repository} has neither .safetensors nor .gguf files; older .bin files are not supported.`
        : `${base.repository} has several GGUF files. Choose one, as ` +
            `hf:${base.repository}/${ggufs[0]!.path} (${list(ggufs)}).`,
    );
  const shards = weights.filter(({ path }) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(path));
  const single = weights.filter(({ path }) => path === 'model.safetensors');
  const chosen = single.length > 0 ? single : shards.length > 0 ? shards : weights;
  return { files: [...files.filter(({ path }) => BESIDE.includes(path)), ...chosen], load: '' };
}

const list = (files: readonly RepositoryFile[]): string =>
  files.length === 0 ? 'none' : files.map(({ path }) => path).join(', ');
