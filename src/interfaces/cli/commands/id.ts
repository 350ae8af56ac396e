import type { Command } from 'commander';
import { isPandoError, PandoError } from '../../../core/errors.ts';
import type { NodeId } from '../../../core/ids.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';

/** The id of the running node, or of the one that would run: its key is in the data directory. */
async function findIdentity(context: CommandContext): Promise<NodeId> {
  try {
    return (await (await context.client()).identity()).node;
  } catch (error) {
    if (!isPandoError(error, 'DAEMON_UNREACHABLE') || context.givenSocket !== undefined) throw error;
  }
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
  program
    .command('id')
    .description("print this node's id, which peers need to add it; works without a running node")
    .addHelpText('after', examples('pando id', 'pando peer add backup "$(ssh backup pando id)"'))
    .action(
      run(async (context) => {
        const node = await findIdentity(context);
        context.done(node, { node });
      }),
    );
}
