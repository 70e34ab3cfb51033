import { FolderOpen } from 'lucide';
import { Icon } from './icon.tsx';

/**
 * Chooses one file of rows. @param props.accept its endings. @param props.describedBy id of what is said about it.
 */
export function FileButton(props: {
  accept: string;
  isWrong: boolean;
  describedBy: string;
  onFiles: (files: readonly File[]) => void;
}) {
  return (
    <label class="button">
      <Icon of={FolderOpen} />
      Choose a file of rows
      <input
        type="file"
        accept={props.accept}
        aria-invalid={props.isWrong}
        aria-describedby={props.describedBy}
        onChange={(event) => {
          const files = [...(event.currentTarget.files ?? [])];
          // The same file, corrected, can be chosen again.
          event.currentTarget.value = '';
          props.onFiles(files);
        }}
      />
    </label>
  );
}
