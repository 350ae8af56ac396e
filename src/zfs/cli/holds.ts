/** Holds (zfs-hold.8), with as few transactions of ZFS as it takes. */
import { allEnded } from '../../core/all-ended.ts';
import type { HoldTag } from '../../core/ids.ts';
import { firstOf, zfsFailure } from '../failure.ts';
import type { HoldReference, SnapshotReference, ZfsCapabilities } from '../zfs.ts';
import { checkTag } from './arguments.ts';
import { MISSING } from './reader.ts';
import type { Runner } from './runner.ts';
import { datasetsOf, writtenName } from './streams.ts';

/** Fewer names than this are not worth another process. */
const NAMES_SIDE_BY_SIDE_MIN = 8;
/** Releases that have nothing to release. */
const NOT_HELD = /no such tag on this dataset|dataset does not exist/;

/** Names for one command, and whether it reaches what lies below them. */
interface HoldCommand {
  readonly options: readonly string[];
  readonly names: readonly string[];
}

export class Holds {
  readonly #runner: Runner;

  constructor(runner: Runner) {
    this.#runner = runner;
  }

  async place(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<void> {
    checkTag(tag);
    const action = `hold ${firstOf(snapshots.map(writtenName))} under ${tag}`;
    const datasets = datasetsOf(snapshots);
    await this.#sideBySide(snapshots, async ({ options, names }) => {
      await this.#runner.run({ action, names: datasets, words: ['hold', ...options, tag, ...names] });
    });
  }

  async release(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<boolean> {
    checkTag(tag);
    let all = true;
    const datasets = datasetsOf(snapshots);
    await this.#sideBySide(snapshots, async ({ options, names }) => {
      const action = `release ${tag} from ${firstOf(names)}`;
      const words = ['release', ...options, tag, ...names];
      const complaints = await this.#runner.run({ action, names: datasets, words, passOver: NOT_HELD });
      if (complaints !== '') all = false;
      // The hold of a pool that is away is not released
      if (/dataset does not exist/.test(complaints)) await this.#runner.requirePools(datasets, action);
    });
    return all;
  }

  async tagsOf(snapshots: readonly SnapshotReference[], capabilities: ZfsCapabilities): Promise<HoldTag[][]> {
    const { commandLine } = this.#runner;
    const names = snapshots.map(writtenName);
    const action = `list the holds of ${firstOf(names)}`;
    if (!capabilities.listHolds) {
      const attempt = { action, command: commandLine.words('zfs', ['holds', '-H', ...names]) };
      const nothing = { exitCode: null, stderr: '' };
      throw zfsFailure('ZFS_UNSUPPORTED', attempt, nothing, `${capabilities.version} cannot list holds`);
    }
    const tags = new Map<string, HoldTag[]>(names.map((name) => [name, []]));
    const datasets = datasetsOf(snapshots);
    for (const batch of commandLine.batches(names)) {
      const onLine = (line: string): void => {
        const [name = '', tag = ''] = line.split('\t');
        tags.get(name)?.push(tag as HoldTag);
      };
      const words = ['holds', '-H', ...batch];
      const complaints = await this.#runner.run({ words, action, names: datasets, onLine, passOver: MISSING });
      if (complaints !== '') await this.#runner.requirePools(datasets, action);
    }
    return names.map((name) => tags.get(name) ?? []);
  }

  /**
   * Divides the snapshots among commands that run side by side: a command waits for a transaction group with each name, and together they wait for
   * one. The first failure is told after all were tried.
   */
  async #sideBySide(snapshots: readonly HoldReference[], run: (command: HoldCommand) => Promise<void>): Promise<void> {
    const commands = [
      ...this.#divided(snapshots, true).map((names) => ({ options: ['-r'], names })),
      ...this.#divided(snapshots, false).map((names) => ({ options: [], names })),
    ];
    await allEnded(commands.map(run));
  }

  #divided(snapshots: readonly HoldReference[], reachingDown: boolean): string[][] {
    const meant = snapshots.filter(({ below = false }) => below === reachingDown);
    return this.#runner.divided(meant.map(writtenName), NAMES_SIDE_BY_SIDE_MIN);
  }
}
