import { TokenizerError, type TokenizerJson } from './tokenizer-definition.ts';

/**
 * GPT-2's byte alphabet (`bytes_to_unicode`): printable bytes stand for themselves, the other 68 for U+0100 onwards,
 * so that every byte is a visible character.
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const characters: string[] = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push(String.fromCharCode(printable ? byte : next++));
  }
  return characters;
})();

/**
 * The bytes of every token, by id.
 * @throws TokenizerError when the decoder is neither byte-level nor SentencePiece's with byte fallback.
 */
export function tokenBytesOf(json: TokenizerJson, size: number): (Uint8Array<ArrayBuffer> | undefined)[] {
  const kinds = JSON.stringify(json.decoder ?? null);
  const toBytes = kinds.includes('"ByteLevel"')
    ? byteLevel()
    : kinds.includes('"ByteFallback"') || kinds.includes('"Metaspace"')
      ? sentencePiece
      : null;
  if (toBytes === null)
    throw new TokenizerError(`the tokenizer's decoder ${json.decoder?.type ?? 'null'} is not supported`);
  const bytes = new Array<Uint8Array<ArrayBuffer> | undefined>(size);
  for (const [text, id] of Object.entries(json.model.vocab)) bytes[id] = toBytes(text);
  for (const token of json.added_tokens) bytes[token.id] = new TextEncoder().encode(token.content);
  return bytes;
}

function byteLevel(): (text: string) => Uint8Array<ArrayBuffer> {
  const values = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));
  const encoder = new TextEncoder();
  return (text) => {
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) {
      const value = values.get(text.charAt(i));
      if (value === undefined) return encoder.encode(text);
      bytes[i] = value;
    }
    return bytes;
  };
}

function sentencePiece(text: string): Uint8Array<ArrayBuffer> {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(text)?.[1];
  if (byte !== undefined) return Uint8Array.of(parseInt(byte, 16));
  return new TextEncoder().encode(text.replaceAll('\u2581', ' '));
}
