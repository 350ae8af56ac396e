/** What many roots of one parent cost: of the pool, and of what ZFS is asked meanwhile. */
import { type ServiceError, status } from '@grpc/grpc-js';
import type { SnapshotsClient } from '../interfaces/grpc/snapshots-client.ts';

export interface RootCosts {
  readonly roots: number;
  readonly seconds: number;
  /** Of the pool, for each. */
  readonly bytesEach: number;
  /** `zfs` processes, for each. */
  readonly processesEach: number;
  /** Commands that list all datasets, and not only what they name. */
  readonly listings: number;
  /** What the pool took when so many roots were there: whether each takes the same. */
  readonly bytesAfter: readonly { readonly roots: number; readonly bytes: number }[];
}

/** Where the roots are made: a node whose `zfs` is that of {@link countingZfs}. */
export interface RootsPlace {
  readonly pool: string;
  /** The dataset of the layer store. */
  readonly store: string;
  /** Runs a program there; gives what it prints. */
  run(program: string, ...words: string[]): Promise<string>;
  /** The file that {@link countingZfs} writes to. */
  readonly commandLog: string;
}

/** A program that writes its words to a file, a line each, and is the `zfs` of that path then. */
export function countingZfs(real: string, commandLog: string): string {
  return `#!/bin/sh\necho "$*" >> ${commandLog}\nexec ${real} "$@"\n`;
}

/** A committed snapshot with nothing in it; gives its name. */
export async function prepareParent(client: SnapshotsClient, name: string): Promise<string> {
  await client.mounts('Prepare', { key: `making-${name}` });
  await client.call('Commit', { name, key: `making-${name}` });
  return name;
}

/** Prepares as many as there is room for, one right after the other; the pool is looked at after each part of them. */
export async function countRoots(
  place: RootsPlace,
  client: SnapshotsClient,
  { rootsMax, parts }: { readonly rootsMax: number; readonly parts: number },
): Promise<RootCosts> {
  const parent = await prepareParent(client, 'many');
  const bytesAfter = [{ roots: 0, bytes: await usedBy(place) }];
  await place.run('sh', '-c', ': > "$1"', 'sh', place.commandLog);
  let [roots, milliseconds, hasRoom] = [0, 0, true];
  while (hasRoom && roots < rootsMax) {
    const until = Math.min(rootsMax, roots + Math.ceil(rootsMax / parts));
    const start = performance.now();
    while (roots < until && hasRoom) {
      hasRoom = await prepared(client, `root-${roots}`, parent);
      if (hasRoom) roots += 1;
    }
    milliseconds += performance.now() - start;
    if (roots > (bytesAfter.at(-1)?.roots ?? 0)) bytesAfter.push({ roots, bytes: await usedBy(place) });
  }
  if (roots === 0) throw new Error('There was no room for a single root');
  const commands = (await place.run('cat', place.commandLog)).split('\n').filter((line) => line !== '');
  const [first, last] = [bytesAfter[0]?.bytes ?? 0, bytesAfter.at(-1)?.bytes ?? 0];
  return {
    roots,
    seconds: milliseconds / 1000,
    bytesEach: (last - first) / roots,
    processesEach: commands.length / roots,
    listings: commands.filter((line) => isListing(line, place)).length,
    bytesAfter,
  };
}

/** Whether a command looks at all that lies below what it names, or at something above the roots. */
function isListing(line: string, { pool, store }: RootsPlace): boolean {
  const above = [pool, store, `${store}/storage`, `${store}/runtime`];
  return /^(list|get) /.test(line) && (/ -r\b/.test(line) || above.includes(line.split(' ').at(-1) ?? ''));
}

/** False where ZFS has no room for one more. */
async function prepared(client: SnapshotsClient, key: string, parent: string): Promise<boolean> {
  try {
    await client.mounts('Prepare', { key, parent });
    return true;
  } catch (error) {
    if ((error as ServiceError).code !== status.RESOURCE_EXHAUSTED) throw error;
    return false;
  }
}

/** Bytes, once what was written is on the disk: a property that is set waits for that. */
async function usedBy({ pool, run }: RootsPlace): Promise<number> {
  await run('zfs', 'set', `bench:at=${Date.now()}`, pool);
  return Number(await run('zfs', 'get', '-Hp', '-o', 'value', 'used', pool));
}
