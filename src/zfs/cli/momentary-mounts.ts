/** What is mounted for a moment, to be looked at: nobody unmounts what another still looks at, or what is to stay. */
import type { DatasetName } from '../../core/ids.ts';
import { Semaphore } from './semaphore.ts';

/** Where a filesystem is mounted by its `mountpoint`, and whether it was before somebody looked. */
export interface MountedPlace {
  readonly mountpoint: string;
  readonly wasMounted: boolean;
}

interface Mounting {
  /** Mounts it unless it is. */
  readonly mount: (name: DatasetName) => Promise<MountedPlace>;
  readonly unmount: (name: DatasetName) => Promise<void>;
}

interface Use {
  /** One mounts or unmounts at a time. */
  readonly turn: Semaphore;
  /** Those that have their turn, or wait for it. */
  turns: number;
  users: number;
  place: MountedPlace | null;
  /** Called once there are no users any more. */
  readonly left: (() => void)[];
}

export class MomentaryMounts {
  readonly #mounting: Mounting;
  readonly #uses = new Map<DatasetName, Use>();

  constructor(mounting: Mounting) {
    this.#mounting = mounting;
  }

  /** Does something while a filesystem is mounted, which is as it was behind the last who does; where others stand in it by then, it stays. */
  async during<Result>(name: DatasetName, task: (place: MountedPlace) => Promise<Result>): Promise<Result> {
    const place = await this.#alone(name, async (use) => {
      use.place ??= await this.#mounting.mount(name);
      use.users += 1;
      return use.place;
    });
    try {
      return await task(place);
    } finally {
      await this.#alone(name, (use) => this.#leave(name, use));
    }
  }

  /** Mounts a filesystem to stay so. */
  mount(name: DatasetName): Promise<MountedPlace> {
    return this.#alone(name, async (use) => {
      const place = await this.#mounting.mount(name);
      if (use.place !== null) use.place = { ...use.place, wasMounted: true };
      return place;
    });
  }

  /** Unmounts a filesystem once nobody looks at it. */
  async unmount(name: DatasetName): Promise<void> {
    for (let isDone = false; !isDone; ) {
      const { left } = await this.#alone(name, async (use) => {
        if (use.users > 0) return { left: new Promise<void>((resolve) => use.left.push(resolve)) };
        await this.#mounting.unmount(name);
        return { left: null };
      });
      isDone = left === null;
      await left;
    }
  }

  async #leave(name: DatasetName, use: Use): Promise<void> {
    use.users -= 1;
    if (use.users > 0) return;
    const { place } = use;
    use.place = null;
    for (const resolve of use.left.splice(0)) resolve();
    if (place?.wasMounted === false) await this.#mounting.unmount(name).catch(() => undefined);
  }

  async #alone<Result>(name: DatasetName, task: (use: Use) => Promise<Result>): Promise<Result> {
    const use = this.#uses.get(name) ?? { turn: new Semaphore(1), turns: 0, users: 0, place: null, left: [] };
    this.#uses.set(name, use);
    use.turns += 1;
    try {
      return await use.turn.run(() => task(use));
    } finally {
      use.turns -= 1;
      if (use.turns === 0 && use.users === 0) this.#uses.delete(name);
    }
  }
}
