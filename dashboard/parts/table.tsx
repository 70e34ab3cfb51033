import type { ComponentChildren } from 'preact';

/** What stands above a column; `right` of numbers, which are read from their last digit; '' above buttons. */
export type Column = string | { readonly right: string };

/**
 * A table in a frame that scrolls where it is too wide, by keyboard too, so that the page itself never does.
 * @param label what it is a table of, read out where it is entered.
 */
export function Table(props: { label: string; columns: readonly Column[]; children: ComponentChildren }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={props.label}>
      <table>
        <thead>
          <tr>{props.columns.map(heading)}</tr>
        </thead>
        <tbody>{props.children}</tbody>
      </table>
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
