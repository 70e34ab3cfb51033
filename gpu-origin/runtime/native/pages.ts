/** What the system is told of pages of this process's memory. */
import koffi from 'koffi';

/** Linux: private memory reads as zeros until it is written again (madvise(2)). Elsewhere the call means other things. */
const MADV_DONTNEED = 4;
/**
 * Where Linux makes large pages of its own accord, one token of a head of 8,192 tokens would make 2 MB resident: all that
 * its row may ever have.
 */
const MADV_NOHUGEPAGE = 15;

interface Pages {
  /** It becomes resident in the smallest pages there are. */
  keepSmall(view: Uint8Array<ArrayBuffer>): void;
  /** Whole pages inside `bytes` from byte `at` of the view on. What the system refuses stays. */
  giveBack(view: Uint8Array<ArrayBuffer>, at: number, bytes: number): void;
}

let opened: Pages | null | undefined;

/** @returns null where pages cannot be given back. */
export function pages(): Pages | null {
  if (opened === undefined) opened = process.platform === 'linux' ? open() : null;
  return opened;
}

function open(): Pages | null {
  try {
    const library = koffi.load(null);
    // What hosts other than Node make of koffi may not have it.
    koffi.address(new Uint8Array(8));
    const size = (library.func('int getpagesize()') as () => number)();
    const madvise = library.func('int madvise(uintptr_t, size_t, int)') as (...args: number[]) => number;
    const advise = (view: Uint8Array<ArrayBuffer>, at: number, bytes: number, advice: number): void => {
      const begin = Number(koffi.address(view)) + at;
      const from = Math.ceil(begin / size) * size;
      const to = Math.floor((begin + bytes) / size) * size;
      if (to > from) madvise(from, to - from, advice);
    };
    return {
      keepSmall: (view) => advise(view, 0, view.byteLength, MADV_NOHUGEPAGE),
      giveBack: (view, at, bytes) => advise(view, at, bytes, MADV_DONTNEED),
    };
  } catch {
    return null;
  }
}
