import { type Command, InvalidArgumentError } from 'commander';
import { parseRate } from '../../../core/rate.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { describeContributions } from '../describe-contributions.ts';
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

interface ContributionOptions {
  readonly filesystems?: number;
  readonly snapshots?: number;
}

/** How many, as it is typed. */
function howMany(text: string): number {
  if (/^\d+$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
  throw new InvalidArgumentError('It has to be a whole number from 0 on.');
}

async function setContributions(context: CommandContext, peer: string, given: ContributionOptions): Promise<void> {
  const limits = { filesystems: given.filesystems ?? null, snapshots: given.snapshots ?? null };
  await (await context.client()).setContributionLimits({ peer, ...limits });
  context.done(`"${peer}" may bring ${describeContributions(limits)} into each tree that it contributes to.`, {
    peer,
    ...limits,
  });
}

export function addLimit(program: Command, run: Runner): void {
  const limit = program
    .command('limit')
    .description('how fast streams may be, and how much a peer may bring into the trees that it contributes to')
    .addHelpText(
      'after',
      `\nStreams that run follow a new limit at once, but for those outside TLS that have begun.\n${examples('pando limit set 20M', 'pando limit set 2M --peer laptop', 'pando limit rm', 'pando limit contributions laptop --snapshots 500')}`,
    );

  limit
    .command('ls')
    .description('list the limits')
    .action(
      run(async (context) => {
        const { overall, peers, contributions } = await (await context.client()).limits();
        if (context.json) return context.output.json({ overall, peers, contributions });
        const names = new Map((await (await context.client()).peers()).map(({ peer, name }) => [peer, name]));
        const rate = (bytesPerSecond: number): string => `${formatBytes(bytesPerSecond)}/s each way`;
        context.output.table(
          ['WHAT', 'PEER', 'LIMIT'],
          [
            ...(overall === null ? [] : [['streams', 'all together', rate(overall)]]),
            ...peers.map((one) => ['streams', names.get(one.peer) ?? one.peer, rate(one.bytesPerSecond)]),
            ...contributions.map((one) => [
              'contributions',
              names.get(one.peer) ?? one.peer,
              describeContributions(one),
            ]),
          ],
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

  limit
    .command('contributions')
    .description(
      'how much one peer may bring into each tree that it contributes to; without options, what the configuration says',
    )
    .argument('<peer>', 'its name or id')
    .option('--filesystems <number>', 'datasets of its own', howMany)
    .option('--snapshots <number>', 'snapshots of these together', howMany)
    .addHelpText(
      'after',
      examples('pando limit contributions laptop --filesystems 64 --snapshots 500', 'pando limit contributions laptop'),
    )
    .action(run((context, peer: string, options: ContributionOptions) => setContributions(context, peer, options)));
}
