/** `hf:…` on the command line, and the files of a repository that make a base. */
import { usageError } from '../flags.ts';

export interface Repository {
  /** `owner/name` */
  repository: string;
  /** A file or folder of it; null = whichever is meant. */
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

/** What is fetched of a repository. */
export interface RepositoryContent {
  what: 'base' | 'adapter';
  /** Below the cache. */
  folder: string;
  /** Of the error when it cannot be fetched. */
  code: string;
  /** @returns the files to fetch and what to load, relative to the folder; '' = the folder. @throws CliError */
  choose(from: Repository, files: readonly RepositoryFile[]): { files: RepositoryFile[]; load: string };
}

const PREFIX = 'hf:';
const NAME = /^[A-Za-z0-9][\w.-]{0,95}$/;
const REVISION = /^[\w][\w./-]{0,254}$/;

/**
 * `hf:<owner>/<name>[/<file>][@<revision>]`.
 * @returns null for a path, and if it is not of this form, what is wrong.
 */
export function parseRepository(given: string): Repository | null | 'malformed' {
  if (!given.startsWith(PREFIX)) return null;
  const [place = '', revision = 'main', ...more] = given.slice(PREFIX.length).split('@');
  const [owner = '', name = '', ...rest] = place.split('/');
  const safe = (part: string): boolean => part !== '' && !part.startsWith('.');
  const isGood =
    more.length === 0 &&
    NAME.test(owner) &&
    NAME.test(name) &&
    REVISION.test(revision) &&
    !revision.includes('..') &&
    rest.every(safe);
  if (!isGood) return 'malformed';
  return { repository: `${owner}/${name}`, file: rest.length === 0 ? null : rest.join('/'), revision };
}

/** `--base hf:<owner>/<name>[/<file.gguf>][@<revision>]`. @returns null for a path. @throws CliError */
export function parseRepositoryBase(base: string): Repository | null {
  const parsed = parseRepository(base);
  if (parsed === 'malformed' || (parsed?.file != null && !parsed.file.endsWith('.gguf')))
    throw usageError(
      `--base ${base}: use hf:<owner>/<name>, with /<file>.gguf if it has several and @<revision> if ` +
        'you want one.',
    );
  return parsed;
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

function chooseBase(
  base: Repository,
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

export const BASE: RepositoryContent = {
  what: 'base',
  folder: 'bases',
  code: 'base_unavailable',
  choose: chooseBase,
};

const list = (files: readonly RepositoryFile[]): string =>
  files.length === 0 ? 'none' : files.map(({ path }) => path).join(', ');
