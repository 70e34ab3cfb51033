import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { droppedFiles } from '../api/publish-file.ts';

/**
 * Accepts files, or a folder, dropped anywhere in it, and shows that it does.
 * @param props.invites what happens to what is dropped.
 */
export function DropZone(props: {
  invites: string;
  onFiles: (files: File[]) => void;
  children: ComponentChildren;
}) {
  const [isOver, setOver] = useState(false);
  const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') === true;
  return (
    <div
      class={isOver ? 'drop over' : 'drop'}
      onDragOver={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
      }}
      onDrop={(event) => {
        if (!hasFiles(event) || event.dataTransfer === null) return;
        event.preventDefault();
        setOver(false);
        void droppedFiles(event.dataTransfer).then(props.onFiles);
      }}
    >
      {props.children}
      {isOver && <p class="drop-here">{props.invites}</p>}
    </div>
  );
}
