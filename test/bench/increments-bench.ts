/** Many small increments: Pando against the shell loop that people write, and against syncoid. */
import { join } from 'node:path';
import { execa } from 'execa';
import type { FilePool } from '../../peers/provision/file-pool.ts';
import type { DatasetName, TreeName } from '../../src/core/ids.ts';
import type { NodeFarewell } from './node-process.ts';
import { provideRivals } from './rivals.ts';
import { Bench, median, shell, syncOnce, timed, writeFileOf, zfs } from './zfs-bench.ts';

const INCREMENT_BYTES = 16 * 1024;
const TREE = 'many' as TreeName;

export interface IncrementTimes {
  readonly datasets: number;
  /** Of each round. */
  readonly loopSeconds: readonly number[];
  readonly pandoSeconds: readonly number[];
  /** Null where syncoid is not installed, and then why. */
  readonly syncoidSeconds: number | null;
  readonly missing: string | null;
  readonly loopRatio: number;
  readonly syncoidRatio: number | null;
  readonly nodes: readonly NodeFarewell[];
}

/** The datasets that are sent, and what copies there are of them: one for each rival. */
class Source {
  readonly root: DatasetName;
  readonly #source: FilePool;
  readonly #target: FilePool;
  readonly #names: readonly string[];

  constructor(source: FilePool, target: FilePool, datasets: number) {
    this.root = `${source.name}/${TREE}` as DatasetName;
    this.#source = source;
    this.#target = target;
    this.#names = Array.from({ length: datasets }, (_, index) => `d${index}`);
  }

  async create(): Promise<void> {
    await zfs('create', this.root);
    for (const name of this.#names) await zfs('create', `${this.root}/${name}`);
    await this.snapshot(0);
  }

  /** Writes something into each, and takes a snapshot of all; syncoid takes "0" for none. */
  async snapshot(number: number): Promise<void> {
    for (const name of this.#names) {
      await writeFileOf(join(this.#source.mountpoint, TREE, name, `r${number}`), INCREMENT_BYTES);
    }
    await zfs('snapshot', '-r', `${this.root}@r${number}`);
  }

  /** The first copies. */
  async copyFor(rival: string): Promise<void> {
    await zfs('create', `${this.#target.name}/${rival}`);
    for (const name of this.#names) {
      await shell(`zfs send ${this.root}/${name}@r0 | zfs receive -u ${this.#target.name}/${rival}/${name}`);
    }
  }

  /** One after the other, as people write it. */
  async loop(number: number): Promise<void> {
    const steps = this.#names.map((name) => {
      const send = `zfs send -i @r${number - 1} ${this.root}/${name}@r${number}`;
      return `${send} | zfs receive -u ${this.#target.name}/loop/${name}`;
    });
    await shell(steps.join('\n'));
  }

  /** Without SSH: over it, syncoid does not get along with a ZFS as old as zfs-fuse. */
  async syncoid(): Promise<void> {
    for (const name of this.#names) {
      const copy = `${this.#target.name}/syncoid/${name}`;
      await execa('syncoid', ['--no-sync-snap', '--quiet', `${this.root}/${name}`, copy]);
    }
  }
}

/** One small increment of each of many datasets: Pando in turns with a bare loop, and once syncoid, each onto copies of its own; ratios of medians. */
export function measureIncrements(datasets: number, rounds: number): Promise<IncrementTimes> {
  return Bench.run(async (bench, from, to) => {
    const source = new Source(from, to, datasets);
    await source.create();
    const { sender, receiver } = await bench.pair(true);
    await sender.order({ do: 'share', tree: TREE, root: source.root });
    await receiver.order({ do: 'mirror', tree: TREE, from: sender.id, root: `${to.name}/pando` as DatasetName });
    await syncOnce(receiver, TREE);
    const missing = await provideRivals();
    await source.copyFor('loop');
    if (missing === null) await source.copyFor('syncoid');
    const times = { loop: [] as number[], pando: [] as number[] };
    let syncoidSeconds: number | null = null;
    for (let round = 1; round <= rounds; round += 1) {
      await source.snapshot(round);
      await sender.order({ do: 'look' });
      await receiver.order({ do: 'catch-up', peer: sender.id });
      times.loop.push(await timed(() => source.loop(round)));
      times.pando.push(await syncOnce(receiver, TREE));
      // Once: it takes more than a minute, and would make one stream of two snapshots
      if (round === 1 && missing === null) syncoidSeconds = await timed(() => source.syncoid());
    }
    return {
      datasets,
      missing,
      loopSeconds: times.loop,
      pandoSeconds: times.pando,
      syncoidSeconds,
      loopRatio: median(times.pando) / median(times.loop),
      syncoidRatio: syncoidSeconds === null ? null : median(times.pando) / syncoidSeconds,
      nodes: [await sender.stop(), await receiver.stop()],
    };
  });
}
