import { FolderOpen } from 'lucide';
import { useId } from 'preact/hooks';
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
