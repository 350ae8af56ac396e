import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isPandoError } from '../../core/errors.ts';
import { absoluteName, type RelativeName } from '../../core/ids.ts';
import type { Mount } from '../../core/snapshots/snapshot.ts';
import type { SnapshotParts } from './parts.ts';

/**
 * How to mount what a dataset holds: by the kernel's own ZFS, or where FUSE has it mounted, bound to where it is wanted (zfs-rules, "Dialects"). What is mounted
 * here is so wherever `zfs mount` was done; nothing is mounted for the caller.
 */
export class Mounts {
  readonly #parts: Pick<SnapshotParts, 'store' | 'zfs'>;
  /** Where those below a dataset were mounted last, by its name: asking ZFS is a process more for each. */
  readonly #directories = new Map<string, string>();

  constructor(parts: Pick<SnapshotParts, 'store' | 'zfs'>) {
    this.#parts = parts;
  }

  async of(kind: 'active' | 'view', dataset: RelativeName): Promise<readonly Mount[]> {
    const { store, zfs } = this.#parts;
    const name = absoluteName(store().root, dataset);
    const { dialect } = await zfs.capabilities();
    if (dialect === 'openzfs')
      return [{ type: 'zfs', source: name, options: [...(kind === 'view' ? ['ro'] : []), 'nodev'] }];
    return [{ type: 'bind', source: await this.#directoryOf(name), options: ['rbind', kind === 'view' ? 'ro' : 'rw'] }];
  }

  /** Whether a dataset is there still: asking ZFS takes no transaction group, and where it is mounted it need not be asked. Rejects as ZFS does. */
  async isThere(dataset: RelativeName): Promise<boolean> {
    const { store, zfs } = this.#parts;
    const name = absoluteName(store().root, dataset);
    const { dialect } = await zfs.capabilities();
    try {
      await (dialect === 'openzfs' ? zfs.used(name) : this.#directoryOf(name));
      return true;
    } catch (error) {
      if (isPandoError(error, 'ZFS_NOT_FOUND')) return false;
      throw error;
    }
  }

  async #directoryOf(name: Parameters<SnapshotParts['zfs']['mount']>[0]): Promise<string> {
    const parent = dirname(name);
    const known = this.#directories.get(parent);
    const guessed = known === undefined ? undefined : `${known}${name.slice(parent.length)}`;
    if (guessed !== undefined && (await isMountpoint(guessed))) return guessed;
    const directory = await this.#parts.zfs.mount(name);
    if (directory.endsWith(name.slice(parent.length))) this.#directories.set(parent, dirname(directory));
    return directory;
  }
}

/** Whether a file system begins there. */
async function isMountpoint(directory: string): Promise<boolean> {
  const [own, above] = await Promise.all(
    [directory, dirname(directory)].map((path) => stat(path).catch(() => undefined)),
  );
  return own !== undefined && above !== undefined && own.dev !== above.dev;
}
