/** The memory of a node while a peer that it let in does everything wrong. */
import type { DatasetName, TreeName } from '../../src/core/ids.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { WebSocketTransport } from '../../src/sync/websocket-transport.ts';
import { ATTACKS, HostileClient } from './hostile-client.ts';
import { MemoryWatch } from './memory-watch.ts';
import type { Usage } from './node-process.ts';
import { Bench, zfs } from './zfs-bench.ts';

export interface HostileRun {
  readonly secondsEach: number;
  /** Resident memory of the node before, in MB (10^6 bytes). */
  readonly restMegabytes: number;
  /** By attack: every half second. */
  readonly memory: Readonly<Record<string, readonly number[]>>;
  /** Whether an honest peer was answered behind each of them. */
  readonly answered: Readonly<Record<string, boolean>>;
}

/** Each attack for so many seconds, one after the other, on one node. */
export function measureHostile(secondsEach: number): Promise<HostileRun> {
  return Bench.run(async (bench, source) => {
    const tree = 'images' as TreeName;
    const root = `${source.name}/images` as DatasetName;
    await zfs('create', root);
    await zfs('snapshot', `${root}@1`);
    const { sender, receiver } = await bench.pair(false);
    await sender.order({ do: 'share', tree, root });
    const identity = createIdentity();
    const grants = [{ trees: '*', role: 'standby' as const }];
    await sender.order({ do: 'introduce', peer: identity.node, address: '127.0.0.1:1', trustedLink: false, grants });
    const transport = new WebSocketTransport({ identity, host: '127.0.0.1', port: 0 });
    const client = new HostileClient(identity, { node: sender.id, address: sender.address }, transport);
    const { megabytes: restMegabytes } = await sender.order<Usage>({ do: 'usage' });
    const memory: Record<string, readonly number[]> = {};
    const answered: Record<string, boolean> = {};
    for (const [name, attack] of Object.entries(ATTACKS)) {
      const watch = new MemoryWatch({ node: sender.pid });
      await attack(client, AbortSignal.timeout(secondsEach * 1_000));
      memory[name] = watch.stop().node ?? [];
      answered[name] = await receiver.order({ do: 'catch-up', peer: sender.id }).then(
        () => true,
        () => false,
      );
    }
    await transport.close();
    await sender.stop();
    await receiver.stop();
    return { secondsEach, restMegabytes, memory, answered };
  });
}
