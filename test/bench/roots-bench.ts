/** A thousand roots of one parent on OpenZFS, in the virtual machine: zfs-fuse has no room for as many. Its processor is emulated: what counts is bytes and commands. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SnapshotsClient } from '../interfaces/grpc/snapshots-client.ts';
import { Guest } from '../platform/vm/guest.ts';
import { startMachine } from '../platform/vm/machine.ts';
import { countingZfs, countRoots, type RootCosts } from './root-costs.ts';

const SHIM = '/run/counting';
const COMMAND_LOG = '/run/commands';

/** Makes `rootsMax` of them; the pool is looked at after each of so many `parts`. */
export async function measureRootsOnOpenZfs(rootsMax: number, parts: number): Promise<RootCosts> {
  const machine = await startMachine();
  const work = await mkdtemp(join(tmpdir(), 'pando-bench-roots-'));
  try {
    const guest = await Guest.install(machine);
    const store = `${guest.pool}/images`;
    await guest.run('zfs', 'create', store);
    await guest.pando('tree', 'add', 'images', store);
    await guest.pando('layers', 'init', 'images');
    await countCommands(guest);
    const socket = join(work, 'snapshotter.sock');
    await guest.forwardSnapshotter(socket);
    const client = new SnapshotsClient(socket);
    try {
      const run = (program: string, ...words: string[]): Promise<string> => guest.run(program, ...words);
      return await countRoots({ pool: guest.pool, store, run, commandLog: COMMAND_LOG }, client, { rootsMax, parts });
    } finally {
      client.close();
    }
  } finally {
    await rm(work, { recursive: true });
    await machine.stop();
  }
}

/** Starts the node again, with a `zfs` between that writes down what it is asked. */
async function countCommands(guest: Guest): Promise<void> {
  const real = await guest.shell('command -v zfs');
  await guest.shell(`mkdir ${SHIM} && cat > ${SHIM}/zfs && chmod 755 ${SHIM}/zfs`, countingZfs(real, COMMAND_LOG));
  const path = await guest.shell('echo "$PATH"');
  await guest.killNode();
  await guest.startNode({ PATH: `${SHIM}:${path}` });
}
