/**
 * Random faults on real ZFS: while a random history happens to a tree and its mirror follows, nodes and `zfs` are killed, the link is cut and the pool is filled.
 * After each fault everything is started again, and the mirror must come to be as its owner is, with nothing lost and nothing left behind.
 */
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { describeError } from '../../src/core/errors.ts';
import type { Difference } from '../../src/core/graph/difference.ts';
import { type DatasetName, ID_PROPERTY } from '../../src/core/ids.ts';
import type { ListedDataset } from '../../src/zfs/zfs.ts';
import { type Action, arbitraryHistory } from '../core/forest.ts';
import { Gardener } from '../suites/gardener.ts';
import { connect, Host } from './host.ts';

const FAULTS = [
  'kill-sender',
  'kill-receiver',
  'kill-both',
  'kill-zfs',
  'kill-zfs',
  'kill-launcher',
  'cut',
  'fill',
] as const;
export type Fault = (typeof FAULTS)[number];

/** What happens in one round. */
interface Round {
  readonly history: readonly Action[];
  readonly fault: Fault;
  /** How long after the beginning of the sync, in ms. */
  readonly afterMs: number;
  readonly pick: number;
}

/** A dataset that waits for people, by its name at the owner. */
interface Excused {
  readonly dataset: string;
  readonly name: string;
}

/** What a sync tells at its end. */
interface Told {
  readonly steps: readonly unknown[];
  readonly conflicts: readonly (Excused & { readonly reason: string })[];
  readonly waiting: readonly Excused[];
}

/** Nothing is in common any more, since the owner destroyed all that was; and what cannot come because of that. */
const FOR_PEOPLE: ReadonlySet<string> = new Set([
  ...['no-common-snapshot', 'written-without-snapshot', 'origin-differs'],
  ...['parent-missing', 'origin-missing'],
]);
const FILE_BYTES = 512 * 1024;
const ACTIONS = 8;
/** Digits of an id or guid that tell it from others at a glance. */
const SHORT_DIGITS = 5;
/** Syncs that may fail after a fault, say because the connection is not back yet, and the pause between them, in ms. */
const SYNCS_MAX = 60;
const SYNC_PAUSE_MS = 500;
/** How long a `zfs` process to kill is waited for, in ms: a sync that has nothing to send starts none. */
const ZFS_AWAITED_MS = 3_000;
/** A process that was killed in mid-write takes its children with it a moment later. */
const CHILDREN_LIMIT_MS = 20_000;

const rounds: fc.Arbitrary<Round> = fc.record({
  history: arbitraryHistory(ACTIONS),
  fault: fc.constantFrom(...FAULTS),
  afterMs: fc.integer({ min: 0, max: 1_500 }),
  pick: fc.nat(1_000),
});

export interface TortureOptions {
  readonly seed: number;
  /** Faults, one after the other. */
  readonly faults: number;
  readonly onRound: (round: number, fault: Fault) => void;
}

/** Runs it. Rejects with what was found wrong, and cleans up either way. */
export async function torture({ seed, faults, onRound }: TortureOptions): Promise<void> {
  const world = await World.start();
  try {
    const [all = []] = fc.sample(fc.array(rounds, { minLength: faults, maxLength: faults, size: 'max' }), {
      seed,
      numRuns: 1,
    });
    for (const [index, round] of all.entries()) {
      onRound(index + 1, round.fault);
      await world.play(round).catch((error: unknown) => {
        throw new Error(`Round ${index + 1} (${round.fault}): ${describeError(error)}`, { cause: error });
      });
    }
  } finally {
    await world.remove();
  }
}

class World {
  readonly #alpha: Host;
  readonly #beta: Host;
  readonly #people: Gardener;
  #writes = 0;

  private constructor(alpha: Host, beta: Host) {
    this.#alpha = alpha;
    this.#beta = beta;
    this.#people = new Gardener({
      zfs: alpha.zfs,
      root: this.#tree,
      write: (name, path) => {
        this.#writes += 1;
        return alpha.write(name, path, Buffer.alloc(FILE_BYTES, `written ${this.#writes} `));
      },
    });
  }

  static async start(): Promise<World> {
    const alpha = await Host.start({ name: 'alpha', address: '10.213.7.1', interface: 'toalpha' });
    const beta = await Host.start({ name: 'beta', address: '10.213.7.2', interface: 'tobeta' }).catch(
      async (error: unknown) => {
        await alpha.remove();
        throw error;
      },
    );
    const world = new World(alpha, beta);
    try {
      await world.#introduce();
      return world;
    } catch (error) {
      await world.remove();
      throw error;
    }
  }

  get #tree(): DatasetName {
    return `${this.#alpha.pool}/images` as DatasetName;
  }

  async remove(): Promise<void> {
    await this.#beta.remove();
    await this.#alpha.remove();
  }

  async #introduce(): Promise<void> {
    const [alpha, beta] = [this.#alpha, this.#beta];
    await connect(alpha, beta, ['toalpha', 'tobeta']);
    await alpha.zfs.create(this.#tree);
    for (const host of [alpha, beta]) await host.startNode();
    const idOf = async (host: Host) => (await expectDone(host.pando('id'))).trim();
    const address = (host: Host) => ['--address', `${host.address}:7380`];
    await expectDone(alpha.pando('peer', 'add', 'beta', await idOf(beta), ...address(beta), '--share', 'images'));
    await expectDone(alpha.pando('tree', 'add', 'images', this.#tree));
    await expectDone(beta.pando('peer', 'add', 'alpha', await idOf(alpha), ...address(alpha)));
    await expectDone(beta.pando('mirror', 'add', 'images', '--from', 'alpha', '--into', `${beta.pool}/copy`));
  }

  async play({ history, fault, afterMs, pick }: Round): Promise<void> {
    const before = await guidsOf(this.#beta);
    await this.#people.live(history);
    const syncing = this.#beta.pando('sync', 'images');
    await delay(afterMs);
    const heal = await this.#inflict(fault, pick);
    await delay(afterMs / 2);
    await heal();
    await syncing;
    for (const host of [this.#alpha, this.#beta]) await host.startNode();
    await this.#check(before, await this.#settle());
  }

  /** Gives how to mend what can be mended. */
  async #inflict(fault: Fault, pick: number): Promise<() => Promise<void>> {
    const nothing = async (): Promise<void> => undefined;
    switch (fault) {
      case 'kill-sender':
        await this.#alpha.killNode();
        return nothing;
      case 'kill-receiver':
        await this.#beta.killNode();
        return nothing;
      case 'kill-both':
        await Promise.all([this.#alpha.killNode(), this.#beta.killNode()]);
        return nothing;
      case 'kill-zfs':
        await this.#killZfs(pick);
        return nothing;
      case 'kill-launcher':
        await Promise.all([this.#alpha.killLauncher(), this.#beta.killLauncher()]);
        return nothing;
      case 'cut':
        await this.#beta.setLink('down');
        return () => this.#beta.setLink('up');
      case 'fill':
        return this.#fill();
    }
  }

  /** One of the `zfs` processes of a host, as soon as there is one; most live for milliseconds. */
  async #killZfs(pick: number): Promise<void> {
    const hosts = pick % 2 === 0 ? [this.#alpha, this.#beta] : [this.#beta, this.#alpha];
    const deadline = performance.now() + ZFS_AWAITED_MS;
    while (performance.now() < deadline) {
      for (const host of hosts) if (await host.killZfs(pick)) return;
    }
  }

  /** Leaves the receiver's pool no room. */
  async #fill(): Promise<() => Promise<void>> {
    const [beta, ballast] = [this.#beta, `${this.#beta.pool}/ballast` as DatasetName];
    await beta.zfs.create(ballast, { compression: 'off' });
    const available = Number(await beta.run('zfs', 'get', '-Hp', '-o', 'value', 'available', beta.pool));
    await beta.run('zfs', 'set', `reservation=${Math.floor(available * 0.99)}`, ballast);
    return async () => {
      await beta.run('zfs', 'set', 'reservation=none', ballast);
      await beta.zfs.destroy(ballast);
    };
  }

  /** Until a sync has nothing to do any more, and nothing that failed. Gives what waits for people, here or at the owner. */
  async #settle(): Promise<readonly Excused[]> {
    let said = '';
    for (let attempt = 1; attempt <= SYNCS_MAX; attempt += 1) {
      const { code, stdout, stderr } = await this.#beta.pando('sync', 'images', '--json');
      const result = stdout.split('\n').findLast((line) => line.includes('"type":"result"'));
      said = result ?? stderr;
      const { steps = [undefined], conflicts = [], waiting = [] } = JSON.parse(result ?? '{}') as Partial<Told>;
      const isAtRest = steps.length === 0 && conflicts.every(({ reason }) => FOR_PEOPLE.has(reason));
      if (isAtRest) return [...conflicts, ...waiting];
      if (code !== 0) await delay(SYNC_PAUSE_MS);
    }
    throw new Error(`The mirror does not come to rest: ${said.slice(0, 2_000)}`);
  }

  async #check(before: ReadonlySet<string>, excused: readonly Excused[]): Promise<void> {
    const [alpha, beta] = [this.#alpha, this.#beta];
    const found: string[] = [];
    const now = await guidsOf(beta);
    for (const guid of before) if (!now.has(guid)) found.push(`snapshot ${guid} is lost (invariant 1)`);
    const { code, stdout, stderr } = await beta.pando('verify', 'images', '--json');
    if (code !== 0) {
      const { differences = [] } = JSON.parse(stdout || '{}') as { differences?: Difference[] };
      // A copy in full where a clone would do costs space, and loses nothing
      const isCopy = (found: Difference) => found.kind === 'origin' && found.actual === null;
      // What is to lie below something that cannot come yet goes on under the name that it has
      const waits = ({ name, dataset }: Difference) =>
        excused.some((one) => one.dataset === dataset || `${name}/`.startsWith(`${one.name}/`));
      const real = differences.filter((found) => !isCopy(found) && !waits(found));
      if (real.length > 0 || stdout === '') {
        found.push(
          `they differ: ${JSON.stringify(real)}, ${JSON.stringify(excused)} wait ${stderr}`,
          ...(await picture(alpha)),
          ...(await picture(beta)),
        );
      }
    }
    const waits = new Set<string>(excused.map(({ dataset: id }) => id));
    for (const host of [alpha, beta]) found.push(...(await leftIn(host, waits)));
    if (found.length > 0) throw new Error(found.join('\n'));
  }
}

async function expectDone(command: ReturnType<Host['pando']>): Promise<string> {
  const { code, stdout, stderr } = await command;
  if (code !== 0) throw new Error(stderr || stdout);
  return stdout;
}

/** What a host has, a line for each dataset: its id, its name, where it grew from, and its snapshots. */
async function picture(host: Host): Promise<string[]> {
  const short = (text: string | null | undefined) => (text ?? '').slice(-SHORT_DIGITS);
  return (await host.zfs.list(host.pool as DatasetName)).map(({ name, properties, origin, snapshots }) => {
    const shown = snapshots.map((one) => `@${one.name}=${short(one.guid)}`).join(' ');
    return `  ${short(properties[ID_PROPERTY])} ${name} <${short(origin?.guid)} ${shown}`;
  });
}

async function guidsOf(host: Host): Promise<Set<string>> {
  const listed = await host.zfs.list(host.pool as DatasetName);
  return new Set(listed.flatMap(({ snapshots }) => snapshots.map(({ guid }) => guid)));
}

/** The `zfs` processes of now that are still there at the end of their time: a node that runs looks at its trees, and others come and go. */
async function lingering(host: Host): Promise<number[]> {
  const deadline = performance.now() + CHILDREN_LIMIT_MS;
  let left = await host.zfsProcesses();
  while (left.length > 0 && performance.now() < deadline) {
    await delay(SYNC_PAUSE_MS);
    const now = new Set(await host.zfsProcesses());
    left = left.filter((pid) => now.has(pid));
  }
  return left;
}

/** What no transfer may leave behind (invariant 6). */
async function leftIn(host: Host, waiting: ReadonlySet<string>): Promise<string[]> {
  const children: string[] = [];
  for (const pid of await lingering(host)) {
    children.push(`${await host.describeProcess(pid)} is left on ${host.name}`);
  }
  const listed = await host.zfs.list(host.pool as DatasetName);
  return [...children, ...listed.flatMap((one) => leftOn(one, waiting))];
}

function leftOn({ name, snapshots, properties }: ListedDataset, waiting: ReadonlySet<string>): string[] {
  const held = snapshots.filter(({ userrefs }) => userrefs > 0).map((one) => `${name}@${one.name} is held`);
  // What waits for the one above it has the name that it had when it had to make way
  const isAside = name.includes('/.pando/diverged/');
  const isStepping = /\/(renaming|pando)-[^/]*$/.test(name) && !isAside && !waiting.has(properties[ID_PROPERTY] ?? '');
  const isTemporary = isStepping || /-successor$/.test(name);
  return isTemporary ? [...held, `${name} is left`] : held;
}
