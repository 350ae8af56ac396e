import type { Command } from 'commander';
import { parseRate } from '../../../core/rate.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { formatBytes } from '../format.ts';

interface LimitOptions {
  readonly peer?: string;
}

async function set(context: CommandContext, bytesPerSecond: number | null, { peer }: LimitOptions): Promise<void> {
  await (await context.client()).setLimit({ peer: peer ?? null, bytesPerSecond });
  const which = peer === undefined ? 'All streams together' : `Streams with "${peer}"`;
  const how = bytesPerSecond === null ? 'not limited' : `limited to ${formatBytes(bytesPerSecond)}/s each way`;
  context.done(`${which} are ${how}.`, { peer: peer ?? null, bytesPerSecond });
}

export function addLimit(program: Command, run: Runner): void {
  const limit = program
    .command('limit')
    .description(
      'how fast streams may be, each way; running ones follow at once, but for those outside TLS that have begun',
    )
    .addHelpText('after', examples('pando limit set 20M', 'pando limit set 2M --peer laptop', 'pando limit rm'));

  limit
    .command('ls')
    .description('list the limits')
    .action(
      run(async (context) => {
        const { overall, peers } = await (await context.client()).limits();
        if (context.json) return context.output.json({ overall, peers });
        const names = new Map((await (await context.client()).peers()).map(({ peer, name }) => [peer, name]));
        const all: [string, number][] = overall === null ? [] : [['all together', overall]];
        const rows = [
          ...all,
          ...peers.map((one): [string, number] => [names.get(one.peer) ?? one.peer, one.bytesPerSecond]),
        ];
        context.output.table(
          ['STREAMS', 'LIMIT'],
          rows.map(([which, rate]) => [which, `${formatBytes(rate)}/s`]),
        );
      }),
    );

  limit
    .command('set')
    .description('limit all streams together, or those with one peer')
    .argument('<rate>', 'bytes a second: 512K, 20M, 1G')
    .option('--peer <peer>', 'only those with this peer, by name or id')
    .action(run((context, rate: string, options: LimitOptions) => set(context, parseRate(rate), options)));

  limit
    .command('rm')
    .description('end the limit of all streams together, or of those with one peer')
    .option('--peer <peer>', 'only of those with this peer, by name or id')
    .action(run((context, options: LimitOptions) => set(context, null, options)));
}
