import { type IconNode, MoveRight } from 'lucide';
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Icon } from './icon.tsx';

/** Header of a column; `right` for numbers, which are compared by their last digit; '' above buttons. */
export type Column = string | { readonly right: string };

/** Pixels that rounding may add. */
const SLACK = 2;

/**
 * A table in a scrollable frame, for the keyboard too, so that the page itself never scrolls sideways; it shows
 * when there is more to see.
 * @param label content of the table, read aloud on entry.
 * @param asCards on a phone each row is a card, whose cells have the names of their columns: above them, or before them
 * if `compact`.
 */
export function Table(props: {
  label: string;
  columns: readonly Column[];
  asCards?: boolean | 'compact';
  children: ComponentChildren;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const { asCards = false, columns } = props;
  // Of the cells that are there now; states speak for themselves.
  useLayoutEffect(() => {
    if (asCards === false) return;
    for (const row of frame.current?.querySelectorAll<HTMLTableRowElement>('tbody > tr') ?? [])
      if (row.cells.length === columns.length)
        for (const [i, cell] of [...row.cells].entries())
          if (cell.tagName === 'TD' && cell.firstElementChild?.classList.contains('state') !== true)
            cell.dataset['label'] = headingOf(columns[i]!);
  });
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
        <table class={asCards === false ? undefined : `as-cards ${asCards === 'compact' ? 'compact' : ''}`}>
          <thead>
            <tr>{columns.map(heading)}</tr>
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

const headingOf = (column: Column): string => (typeof column === 'string' ? column : column.right);

// By place: a class of a classifier may be called like the first column.
function heading(column: Column, at: number) {
  if (column === '') return <td key={at} class="act" />;
  const text = headingOf(column);
  return (
    <th key={at} scope="col" class={typeof column === 'string' ? undefined : 'right'}>
      {text}
    </th>
  );
}

/** A button of a row, which is an icon alone. */
export function Act(props: { label: string; icon: IconNode; onClick: () => void }) {
  return (
    <button type="button" class="bare" title={props.label} aria-label={props.label} onClick={props.onClick}>
      <Icon of={props.icon} />
    </button>
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
