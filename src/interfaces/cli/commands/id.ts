import type { Command } from 'commander';
import { isPandoError, PandoError } from '../../../core/errors.ts';
import type { NodeId } from '../../../core/ids.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import type { DaemonClient } from '../daemon-client.ts';

/** What the running node answers; undefined where none runs, and the data directory says as much. */
async function askNode<Answer>(
  context: CommandContext,
  ask: (client: DaemonClient) => Promise<Answer>,
): Promise<Answer | undefined> {
  try {
    return await ask(await context.client());
  } catch (error) {
    if (!isPandoError(error, 'DAEMON_UNREACHABLE') || context.givenSocket !== undefined) throw error;
    return undefined;
  }
}

/** The id of the running node, or of the one that would run: its key is in the data directory. */
async function findIdentity(context: CommandContext): Promise<NodeId> {
  const running = await askNode(context, (client) => client.identity());
  if (running !== undefined) return running.node;
  const { loadConfig, readIdentity } = context.dependencies;
  const { dataDirectory } = await loadConfig(context.configPath);
  const node = await readIdentity(context.configPath);
  if (node !== null) return node;
  throw new PandoError(
    'IDENTITY_INVALID',
    `There is no node in ${dataDirectory} yet; the first "pando serve" makes its key.`,
    { dataDirectory },
  );
}

export function addId(program: Command, run: Runner): void {
  const id = program
    .command('id')
    .description("print this node's id, which peers need to add it; works without a running node")
    .addHelpText('after', examples('pando id', 'pando peer add backup "$(ssh backup pando id)"', 'pando id rotate'))
    .action(
      run(async (context) => {
        const node = await findIdentity(context);
        context.done(node, { node });
      }),
    );

  id.command('rotate')
    .description('give this node a new key, which the old one vouches for; its id stays as it is')
    .addHelpText(
      'after',
      `
The node uses the new key from its next start on. Peers that have met it then take the old one no more, whoever has it;
a backup of the data directory from before is of no use to them either.
${examples('pando id rotate && systemctl restart pando')}`,
    )
    .action(
      run(async (context) => {
        const running = await askNode(context, (client) => client.rotateKey());
        const keys = running ?? (await context.dependencies.rotateKey(context.configPath));
        const when = running === undefined ? 'when it starts' : 'once it is restarted';
        context.done(`This node has a new key, its key ${keys}; it uses that ${when}.`, {
          keys,
          isRunning: running !== undefined,
        });
      }),
    );
}
