/** `pando`: one program for the node and for everything people do with it (design §11). */
import { Command, CommanderError } from 'commander';
import { describeError, PandoError } from '../../core/errors.ts';
import { CommandContext, examples, type GlobalOptions, type Runner } from './command-context.ts';
import { addAudit } from './commands/audit.ts';
import { addClone } from './commands/clone.ts';
import { addDestroy } from './commands/destroy.ts';
import { addDiverged } from './commands/diverged.ts';
import { addGrant } from './commands/grant.ts';
import { addGraph } from './commands/graph.ts';
import { addId } from './commands/id.ts';
import { addImage } from './commands/image.ts';
import { addLayers } from './commands/layers.ts';
import { addLimit } from './commands/limit.ts';
import { addLog } from './commands/log.ts';
import { addMirror } from './commands/mirror.ts';
import { addOwn } from './commands/own.ts';
import { addPeer } from './commands/peer.ts';
import { addPlan } from './commands/plan.ts';
import { addPromote } from './commands/promote.ts';
import { addRename } from './commands/rename.ts';
import { addRollback } from './commands/rollback.ts';
import { addRoot } from './commands/root.ts';
import { addServe } from './commands/serve.ts';
import { addSnapshot } from './commands/snapshot.ts';
import { addSnapshots } from './commands/snapshots.ts';
import { addStatus } from './commands/status.ts';
import { addSync } from './commands/sync.ts';
import { addTree } from './commands/tree.ts';
import { addVerify } from './commands/verify.ts';
import type { CliDependencies } from './dependencies.ts';
import { EXIT, EXIT_CODE_OF_ERROR, type ExitCode } from './exit-codes.ts';
import { Output } from './output.ts';

/** The commands in the order in which the help lists them. */
const COMMANDS = [
  addServe,
  addStatus,
  addId,
  addTree,
  addPeer,
  addGrant,
  addLimit,
  addMirror,
  addSync,
  addPlan,
  addGraph,
  addLog,
  addAudit,
  addSnapshot,
  addClone,
  addPromote,
  addRename,
  addRollback,
  addDestroy,
  addOwn,
  addVerify,
  addDiverged,
  addLayers,
  addImage,
  addRoot,
  addSnapshots,
] as const;

/**
 * The program with all its commands. Actions tell `ended` with what the process should end; they reject with PandoErrors, and commander
 * throws CommanderErrors instead of ending the process.
 *
 * @internal Exported for tests, which walk all commands.
 */
export function buildProgram(dependencies: CliDependencies, output: Output, ended: (code: ExitCode) => void): Command {
  const program = new Command('pando')
    .description('Keeps ZFS snapshot and clone hierarchies in step across hosts.')
    .version(dependencies.version)
    .option('--config <file>', 'configuration of the node (default: /etc/pando/pando.yaml)')
    .option('--socket <path>', 'socket of the node, instead of the one in the configuration')
    .option('--json', 'write JSON for programs')
    .configureHelp({ showGlobalOptions: true })
    .addHelpText(
      'after',
      examples(
        'pando serve',
        'pando tree add images tank/images',
        'pando peer invite --tree images',
        'pando sync images',
      ),
    )
    .exitOverride()
    .configureOutput({
      writeOut: (text) => dependencies.stdout.write(text),
      writeErr: (text) => dependencies.stderr.write(text),
      // Told by runProgram in the words of every other error
      outputError: () => undefined,
    });
  const run: Runner = (handler) =>
    async function action(this: Command, ...given) {
      const context = new CommandContext(dependencies, output, this.optsWithGlobals<GlobalOptions>());
      ended((await handler(context, ...given)) ?? EXIT.ok);
    };
  for (const add of COMMANDS) add(program, run);
  return program;
}

/** Help and version have been written and are no failure; anything else that commander refuses was typed wrong. */
function usageError(error: CommanderError): PandoError | undefined {
  if (error.exitCode === 0 || error.code === 'commander.help') return undefined;
  const what = error.message
    .replace(/^error: /, '')
    .replace(/\n/g, ' ')
    .replace(/\.?$/, '');
  return new PandoError('ARGUMENT_INVALID', `${what}; "pando --help" and "pando COMMAND --help" tell more.`);
}

function pandoErrorOf(error: unknown): PandoError | undefined {
  if (error instanceof CommanderError) return usageError(error);
  return error instanceof PandoError ? error : new PandoError('INTERNAL', describeError(error), {}, { cause: error });
}

async function runCommand(words: readonly string[], dependencies: CliDependencies, output: Output): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  const program = buildProgram(dependencies, output, (ended) => {
    code = ended;
  });
  try {
    await program.parseAsync([...words], { from: 'user' });
    return code;
  } catch (thrown) {
    const error = pandoErrorOf(thrown);
    if (error === undefined) return (thrown as CommanderError).exitCode === 0 ? EXIT.ok : EXIT.usage;
    output.complain(error, words.includes('--json'));
    return EXIT_CODE_OF_ERROR[error.code];
  }
}

/**
 * Runs the command that these words are (without program and script). Resolves with what the process should end with; a failure has
 * been told by then, in one sentence or with `--json` as an object, on standard error.
 */
export async function runProgram(words: readonly string[], dependencies: CliDependencies): Promise<ExitCode> {
  const output = new Output(dependencies);
  const code = await runCommand(words, dependencies, output);
  const error = await output.finished();
  if (error === null) return code;
  output.complain(
    new PandoError('INTERNAL', `The output could not be written: ${error.message}.`, {}, { cause: error }),
    words.includes('--json'),
  );
  return EXIT.failed;
}
