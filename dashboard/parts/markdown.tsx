import { Fragment, type ComponentChild } from 'preact';
import { useMemo } from 'preact/hooks';
import { CopyButton } from './copy-button.tsx';
import { Lexer, type MarkedToken, type Token } from 'marked';

/** An answer rendered as Markdown; as text if that fails. */
export default function MarkdownText({ text }: { text: string }) {
  const tree = useMemo(() => markdownOf(text), [text]);
  return tree === null ? <>{text}</> : <div class="markdown">{drawn(tree)}</div>;
}

/** Numbered in order, so that existing elements stay while more streams in. */
const drawn = (of: readonly Markdown[]): ComponentChild[] =>
  of.map((one, i) => <Fragment key={i}>{draw(one)}</Fragment>);

function draw(one: Markdown): ComponentChild {
  switch (one.kind) {
    case 'text':
      return one.text;
    case 'code':
      return <code>{one.text}</code>;
    case 'break':
      return <br />;
    case 'rule':
      return <hr />;
    case 'checkbox':
      return <input type="checkbox" checked={one.checked} disabled aria-label="Task" />;
    case 'block':
      return <CodeBlock {...one} />;
    case 'link':
      return (
        // The link's target is visible: its text is what the answer claims.
        <a href={one.href} title={one.href} target="_blank" rel="noopener noreferrer">
          {drawn(one.of)}
        </a>
      );
    case 'strong':
      return <strong>{drawn(one.of)}</strong>;
    case 'em':
      return <em>{drawn(one.of)}</em>;
    case 'del':
      return <del>{drawn(one.of)}</del>;
    case 'inline':
      return <span>{drawn(one.of)}</span>;
    case 'paragraph':
      return <p>{drawn(one.of)}</p>;
    case 'quote':
      return <blockquote>{drawn(one.of)}</blockquote>;
    case 'heading':
      // Heading levels below those of the page, which an answer is not part of.
      return (
        <div role="heading" aria-level={Math.min(6, one.depth + 2)} class={`heading-${one.depth}`}>
          {drawn(one.of)}
        </div>
      );
    case 'list': {
      const items = one.items.map((item, i) => <li key={i}>{drawn(item)}</li>);
      return one.start === null ? <ul>{items}</ul> : <ol start={one.start}>{items}</ol>;
    }
    case 'table':
      return (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table">
          <table>
            <thead>
              <tr>
                {one.head.map((cell, i) => (
                  <th key={i}>{drawn(cell)}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {one.rows.map((row, i) => (
                <tr key={i}>
                  {row.map((cell, at) => (
                    <td key={at}>{drawn(cell)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
  }
}

function CodeBlock({ text, language }: { text: string; language: string }) {
  return (
    <div class="code-block" dir="ltr">
      <div class="hint">
        <span>{language}</span>
        <CopyButton text={text} what="the code" />
      </div>
      <pre tabIndex={0} aria-label={language === '' ? 'Code' : `Code, ${language}`}>
        {text}
      </pre>
    </div>
  );
}

/**
 * Markdown of an answer as a tree that is rendered element by element. Markup in it is text, and nothing is
 * fetched.
 */
export type Markdown =
  | { readonly kind: 'text' | 'code'; readonly text: string }
  | { readonly kind: 'break' | 'rule' }
  | { readonly kind: 'checkbox'; readonly checked: boolean }
  /** @property language as the answer names it; empty = none. */
  | { readonly kind: 'block'; readonly text: string; readonly language: string }
  /** @property href of http or https. */
  | { readonly kind: 'link'; readonly href: string; readonly of: readonly Markdown[] }
  | {
      readonly kind: 'strong' | 'em' | 'del' | 'paragraph' | 'quote' | 'inline';
      readonly of: readonly Markdown[];
    }
  | { readonly kind: 'heading'; readonly depth: number; readonly of: readonly Markdown[] }
  /** @property start of the numbering; null = bullets. */
  | { readonly kind: 'list'; readonly start: number | null; readonly items: readonly (readonly Markdown[])[] }
  | {
      readonly kind: 'table';
      readonly head: readonly (readonly Markdown[])[];
      readonly rows: readonly (readonly (readonly Markdown[])[])[];
    };

/** Longer ones stay text: some patterns take the lexer quadratic time, 0.3 s at this length. */
const MOST_CHARACTERS = 20_000;
/** Deeper ones stay text: no readable answer nests this far. */
const MOST_DEPTH = 24;

class TooDeep extends Error {}

/**
 * CommonMark and GitHub's tables, task lists and bare addresses, by marked's lexer. Constructs that are still
 * open at the end, such as half a code block of a streaming answer, extend to the end.
 * @returns null for answers to be shown as text.
 */
export function markdownOf(text: string): Markdown[] | null {
  if (text.length > MOST_CHARACTERS) return null;
  try {
    return nodes(new Lexer({ gfm: true }).lex(text), 0);
  } catch (error) {
    // The lexer recurses at each level of quotes and lists.
    if (error instanceof TooDeep || error instanceof RangeError) return null;
    throw error;
  }
}

function nodes(tokens: readonly Token[], depth: number): Markdown[] {
  if (depth > MOST_DEPTH) throw new TooDeep();
  return tokens.flatMap((token) => node(token as MarkedToken, depth + 1));
}

function node(token: MarkedToken, depth: number): Markdown[] {
  switch (token.type) {
    case 'space':
    case 'def':
      return [];
    case 'hr':
      return [{ kind: 'rule' }];
    case 'br':
      return [{ kind: 'break' }];
    case 'checkbox':
      return [{ kind: 'checkbox', checked: token.checked }];
    case 'code':
      return [{ kind: 'block', text: token.text, language: /^\S*/.exec(token.lang ?? '')![0] }];
    case 'codespan':
      return [{ kind: 'code', text: token.text }];
    case 'escape':
      return [{ kind: 'text', text: token.text }];
    case 'html':
      return token.block
        ? [{ kind: 'paragraph', of: [{ kind: 'text', text: token.text.trimEnd() }] }]
        : [{ kind: 'text', text: token.text }];
    case 'text':
      return token.tokens === undefined
        ? [{ kind: 'text', text: withCharacters(token.text) }]
        : [{ kind: 'inline', of: nodes(token.tokens, depth) }];
    case 'paragraph':
    case 'strong':
    case 'em':
    case 'del':
      return [{ kind: token.type, of: nodes(token.tokens, depth) }];
    case 'blockquote':
      return [{ kind: 'quote', of: nodes(token.tokens, depth) }];
    case 'heading':
      return [{ kind: 'heading', depth: token.depth, of: nodes(token.tokens, depth) }];
    case 'link':
      return link(token.href, nodes(token.tokens, depth));
    case 'image':
      // Loading it would tell the image's server that the answer is being read.
      return link(token.href, [{ kind: 'text', text: `image: ${token.text || token.href}` }]);
    case 'list': {
      const start = token.ordered ? Number(token.start) : null;
      return [{ kind: 'list', start, items: token.items.map((item) => nodes(item.tokens, depth)) }];
    }
    case 'table':
      return [
        {
          kind: 'table',
          head: token.header.map((cell) => nodes(cell.tokens, depth)),
          rows: token.rows.map((row) => row.map((cell) => nodes(cell.tokens, depth))),
        },
      ];
    case 'list_item':
      return nodes(token.tokens, depth);
  }
}

/** Links other than http, and links into this page, become text followed by their target. */
function link(href: string, of: readonly Markdown[]): Markdown[] {
  const to = withCharacters(href);
  if (/^https?:\/\/[^/]/i.test(to) && URL.canParse(to)) return [{ kind: 'link', href: to, of }];
  return [...of, { kind: 'text', text: ` (${to})` }];
}

const NAMED: Readonly<Record<string, string>> = {
  ...{ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0', hellip: '…' },
  ...{ ndash: '–', mdash: '—', copy: '©', times: '×', deg: '°', euro: '€' },
};

/** Character references: the named ones that models write, and all numeric ones. */
const withCharacters = (text: string): string =>
  text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,6}));/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return NAMED[name as string] ?? whole;
    const code = decimal === undefined ? parseInt(hex as string, 16) : Number(decimal);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd';
  });
