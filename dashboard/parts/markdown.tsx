import { Fragment, type ComponentChild } from 'preact';
import { useMemo } from 'preact/hooks';
import { markdownOf, type Markdown } from '../model/markdown.ts';
import { CopyButton } from './copy-button.tsx';

/** An answer as it was meant to be read; as text where it cannot be. */
export default function MarkdownText({ text }: { text: string }) {
  const tree = useMemo(() => markdownOf(text), [text]);
  return tree === null ? <>{text}</> : <div class="markdown">{drawn(tree)}</div>;
}

/** Numbered as they come, so that what is there stays while more streams in. */
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
        // Where it leads is no secret: its text is what the answer says it is.
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
      // Below those of the page, which an answer is no part of.
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
