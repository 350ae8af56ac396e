import type { Zfs } from '../../src/zfs/zfs.ts';

/** What changes something. */
const CHANGES: ReadonlySet<string> = new Set<keyof Zfs>([
  'create',
  'snapshot',
  'clone',
  'promote',
  'rename',
  'destroy',
  'destroySnapshot',
  'setProperties',
  'inheritProperty',
  'mount',
  'unmount',
]);

/** A ZFS that is gone from some moment on, for this process: what a node sees of its own death. */
export class MortalZfs {
  #changes = 0;
  #last = Number.POSITIVE_INFINITY;
  #lastCommand: keyof Zfs | undefined;
  #isDead = false;

  get isDead(): boolean {
    return this.#isDead;
  }

  /** Dies before the change of that number from now on (from 1). */
  dieBefore(change: number): void {
    this.#changes = 0;
    this.#last = change;
  }

  /** Dies before the next command of that kind. */
  dieBeforeNext(command: keyof Zfs): void {
    this.#lastCommand = command;
  }

  around(zfs: Zfs): Zfs {
    return new Proxy(zfs, {
      get: (target, name: keyof Zfs) => {
        const method = target[name].bind(target) as (...words: unknown[]) => Promise<unknown>;
        // The dead node's own processes are this one's to end
        if (name === 'close') return method;
        return (...words: unknown[]) => {
          if (name === this.#lastCommand) this.#isDead = true;
          return this.#call(CHANGES.has(name), () => method(...words));
        };
      },
    });
  }

  async #call(isChange: boolean, call: () => Promise<unknown>): Promise<unknown> {
    if (isChange) this.#changes += 1;
    if (this.#changes >= this.#last) this.#isDead = true;
    if (this.#isDead) throw new Error('killed');
    return call();
  }
}
