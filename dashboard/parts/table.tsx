import { MoveRight } from 'lucide';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Icon } from './icon.tsx';

/** Header of a column; `right` for numbers, which are compared by their last digit; '' above buttons. */
export type Column = string | { readonly right: string };

/** Pixels that rounding may add. */
const SLACK = 2;

/**
 * A table in a scrollable frame, for the keyboard too, so that the page itself never scrolls sideways; it shows
 * when there is more to see.
 * @param label content of the table, read aloud on entry.
 * @param asCards on a phone each row is a card, whose cells are labelled by `data-label`.
 */
export function Table(props: {
  label: string;
  columns: readonly Column[];
  asCards?: boolean;
  children: ComponentChildren;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const [hides, setHides] = useState<'nothing' | 'some' | 'none-right'>('nothing');
  useEffect(() => {
    const element = frame.current;
    if (element === null) return;
    const look = () => {
      const over = element.scrollWidth - element.clientWidth;
      setHides(over <= SLACK ? 'nothing' : element.scrollLeft >= over - SLACK ? 'none-right' : 'some');
    };
    look();
    element.addEventListener('scroll', look, { passive: true });
    const watch = new ResizeObserver(look);
    watch.observe(element);
    if (element.firstElementChild !== null) watch.observe(element.firstElementChild);
    return () => {
      element.removeEventListener('scroll', look);
      watch.disconnect();
    };
  }, []);
  return (
    <div class="table-frame" data-hides={hides}>
      <div ref={frame} class="scroll" tabIndex={0} role="region" aria-label={props.label}>
        <table class={props.asCards === true ? 'as-cards' : undefined}>
          <thead>
            <tr>{props.columns.map(heading)}</tr>
          </thead>
          <tbody>{props.children}</tbody>
        </table>
      </div>
      {hides !== 'nothing' && (
        <p class="hint more" aria-hidden="true">
          {hides === 'some' && (
            <>
              More to the right <Icon of={MoveRight} />
            </>
          )}
        </p>
      )}
    </div>
  );
}

function heading(column: Column) {
  if (column === '') return <td key="" class="act" />;
  const right = typeof column !== 'string';
  const text = right ? column.right : column;
  return (
    <th key={text} scope="col" class={right ? 'right' : undefined}>
      {text}
    </th>
  );
}

/** A path or code that breaks after a slash or underscore rather than within a word. */
export function Breakable({ text }: { text: string }) {
  return (
    <>
      {text.split(/(?<=[/_])/).map((part, i) => (
        <>
          {i > 0 && <wbr />}
          {part}
        </>
      ))}
    </>
  );
}
