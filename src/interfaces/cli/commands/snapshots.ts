import type { Command } from 'commander';
import { isPandoError } from '../../../core/errors.ts';
import type { SnapshotUsage } from '../../../core/snapshots/snapshot.ts';
import type { WrittenSnapshot } from '../../../core/snapshots/written-snapshot.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { formatBytes } from '../format.ts';
import { parseLabels } from '../label-arguments.ts';
import { drawBranches, infoLines, kindName, snapshotBranches } from '../snapshot-drawing.ts';
import type { SnapshotsClient } from '../snapshots-client.ts';
import { addMountable } from './snapshot-mounts.ts';

async function snapshotsOf(context: CommandContext): Promise<SnapshotsClient> {
  return (await context.client()).snapshots;
}

/** The usage of every snapshot but those that go away meanwhile. */
async function usageOfAll(client: SnapshotsClient): Promise<readonly (readonly [string, SnapshotUsage])[]> {
  const found: [string, SnapshotUsage][] = [];
  for (const { key } of await client.list([])) {
    try {
      found.push([key, await client.usage(key)]);
    } catch (error) {
      if (!isPandoError(error, 'SNAPSHOT_UNKNOWN')) throw error;
    }
  }
  return found;
}

async function usageOf(client: SnapshotsClient, keys: readonly string[]) {
  if (keys.length === 0) return usageOfAll(client);
  return Promise.all(keys.map(async (key) => [key, await client.usage(key)] as const));
}

function addReading(snapshots: Command, run: Runner): void {
  snapshots
    .command('ls')
    .alias('list')
    .description('list snapshots')
    .argument('[filter...]', "in containerd's language; any of them may match")
    .addHelpText(
      'after',
      examples('pando snapshots ls', 'pando snapshots ls kind==active \'labels.tier==web,parent!=""\''),
    )
    .action(
      run(async (context, filters: string[]) => {
        const found = await (await snapshotsOf(context)).list(filters);
        if (context.json) return context.output.json(found);
        const rows = found.map(({ key, parent, kind }) => [key, parent ?? '', kindName(kind)]);
        context.output.table(['KEY', 'PARENT', 'KIND'], rows);
      }),
    );

  snapshots
    .command('tree')
    .description('draw which snapshot is over which')
    .action(
      run(async (context) => {
        const branches = snapshotBranches(await (await snapshotsOf(context)).list([]));
        if (context.json) return context.output.json(branches);
        for (const line of drawBranches(branches)) context.output.line(line);
      }),
    );

  snapshots
    .command('info')
    .description('show all that is known of a snapshot')
    .argument('<key>', 'its key')
    .action(
      run(async (context, key: string) => {
        const info = await (await snapshotsOf(context)).stat(key);
        if (context.json) return context.output.json(info);
        for (const line of infoLines(info)) context.output.line(line);
      }),
    );

  snapshots
    .command('usage')
    .description('show what snapshots take that those below them do not')
    .argument('[key...]', 'their keys; all without')
    .option('-b', 'sizes in bytes')
    .action(
      run(async (context, keys: string[], { b: inBytes }: { readonly b?: boolean }) => {
        const found = await usageOf(await snapshotsOf(context), keys);
        if (context.json) return context.output.json(found.map(([key, usage]) => ({ key, ...usage })));
        context.output.table(
          ['KEY', 'SIZE', 'INODES'],
          found.map(([key, { bytes, inodes }]) => [
            key,
            inBytes === true ? String(bytes) : formatBytes(bytes),
            String(inodes),
          ]),
        );
      }),
    );
}

function labelLine({ labels }: WrittenSnapshot): string {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return sorted.map(([name, value]) => `${name}=${value}`).join(',');
}

function addChanging(snapshots: Command, run: Runner): void {
  snapshots
    .command('commit')
    .description('turn an active snapshot into a committed one')
    .argument('<name>', 'what it is called then')
    .argument('<active>', 'key of the active one; it is free then')
    .action(
      run(async (context, name: string, key: string) => {
        await (await snapshotsOf(context)).commit({ name, key });
        if (context.json) context.output.json({ name, key });
      }),
    );

  snapshots
    .command('rm')
    .aliases(['delete', 'del', 'remove'])
    .description('remove snapshots that no others are over')
    .argument('<key...>', 'their keys')
    .action(
      run(async (context, keys: string[]) => {
        const client = await snapshotsOf(context);
        for (const key of keys) await client.remove(key);
        if (context.json) context.output.json({ removed: keys });
      }),
    );

  snapshots
    .command('label')
    .description('set labels of a snapshot, and show all')
    .argument('<key>', 'its key')
    .argument('[label...]', 'as NAME=VALUE; an empty value takes it away, none is "true"')
    .addHelpText('after', examples('pando snapshots label base tier=web note='))
    .action(
      run(async (context, key: string, texts: string[]) => {
        const changes = parseLabels(texts);
        const client = await snapshotsOf(context);
        // Without a field, all labels would be replaced.
        const info = texts.length === 0 ? await client.stat(key) : await client.label({ key, ...changes });
        context.done(labelLine(info), info);
      }),
    );
}

/** Arguments, aliases, columns and silence are those of `ctr snapshots`. */
export function addSnapshots(program: Command, run: Runner): void {
  const snapshots = program
    .command('snapshots')
    .description('snapshots as containerd has them: what images are unpacked into, and containers run on')
    .addHelpText(
      'after',
      examples('pando snapshots ls', 'pando snapshots tree', 'pando snapshots prepare -t /mnt web base'),
    );
  addReading(snapshots, run);
  addMountable(snapshots, run);
  addChanging(snapshots, run);
}
