import { FolderOpen } from 'lucide';
import type { ComponentChildren } from 'preact';
import { useId, useState } from 'preact/hooks';
import { droppedFiles } from '../../api/adapter-files.ts';
import { bytes } from '../../model/words.ts';
import { Icon } from '../../parts/icon.tsx';

/** Files that are chosen, or were dropped. */
export function FileField(props: {
  files: readonly File[];
  problem: string | undefined;
  onFiles: (files: File[]) => void;
}) {
  const { files, problem } = props;
  const id = useId();
  return (
    <div class="field files">
      <label class="button">
        <Icon of={FolderOpen} />
        Choose files
        <input
          type="file"
          multiple
          aria-invalid={problem !== undefined}
          aria-describedby={id}
          onChange={(event) => props.onFiles([...(event.currentTarget.files ?? [])])}
        />
      </label>
      <p id={id} class={problem === undefined ? 'hint' : 'wrong'}>
        {problem ??
          (files.length === 0
            ? 'adapter_model.safetensors and adapter_config.json of PEFT, or one .safetensors or .gguf file.'
            : files.map(({ name, size }) => `${name} (${bytes(size)})`).join(', '))}
      </p>
    </div>
  );
}

/** Takes files, or a folder, that are dropped anywhere in it, and shows that it would. */
export function DropZone(props: { onFiles: (files: File[]) => void; children: ComponentChildren }) {
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
      {isOver && <p class="drop-here">Drop an adapter’s files or folder to publish it</p>}
    </div>
  );
}
