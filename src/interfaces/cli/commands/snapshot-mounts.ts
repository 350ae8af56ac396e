import type { Command } from 'commander';
import type { Mount } from '../../../core/snapshots/snapshot.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { mountCommands, mountLines } from '../snapshot-drawing.ts';
import type { SnapshotsClient } from '../snapshots-client.ts';

interface CreateOptions {
  readonly target?: string;
  readonly mounts?: boolean;
}

type Create = (client: SnapshotsClient, snapshot: { key: string; parent: string | null }) => Promise<readonly Mount[]>;

function showMounts(
  context: CommandContext,
  mounts: readonly Mount[],
  { target, mounts: asJson }: CreateOptions,
): void {
  if (context.json) {
    context.output.json(mounts);
    return;
  }
  if (target !== undefined) for (const line of mountCommands(mounts, target)) context.output.line(line);
  if (asJson === true) for (const line of mountLines(mounts)) context.output.line(line);
}

function addCreate(snapshots: Command, run: Runner, name: string, description: string, create: Create): void {
  snapshots
    .command(name)
    .description(description)
    .argument('<key>', 'key of the new snapshot')
    .argument('[parent]', 'key of the committed one that it is over; nothing without')
    .option('-t, --target <path>', 'show the commands that mount it there')
    .option('--mounts', 'show its mounts as JSON')
    .addHelpText('after', examples(`pando snapshots ${name} -t /mnt web base`))
    .action(
      run(async (context, key: string, parent: string | undefined, options: CreateOptions) => {
        const { snapshots: client } = await context.client();
        showMounts(context, await create(client, { key, parent: parent ?? null }), options);
      }),
    );
}

/** What gives mounts: nothing is mounted here, since that is done by who asked for them. */
export function addMountable(snapshots: Command, run: Runner): void {
  addCreate(snapshots, run, 'prepare', 'make a snapshot that can be written to', (client, snapshot) =>
    client.prepare(snapshot),
  );
  addCreate(snapshots, run, 'view', 'make a snapshot that can only be read', (client, snapshot) =>
    client.view(snapshot),
  );

  snapshots
    .command('mounts')
    .aliases(['m', 'mount'])
    .description('show the commands that mount a snapshot')
    .argument('<target>', 'where to mount it')
    .argument('<key>', 'its key')
    .addHelpText('after', examples('pando snapshots mounts /mnt web | sh'))
    .action(
      run(async (context, target: string, key: string) => {
        showMounts(context, await (await context.client()).snapshots.mounts(key), { target });
      }),
    );
}
