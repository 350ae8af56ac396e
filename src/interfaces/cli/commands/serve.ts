import type { Command } from 'commander';
import { PandoError } from '../../../core/errors.ts';
import { examples, type Runner } from '../command-context.ts';

export function addServe(program: Command, run: Runner): void {
  program
    .command('serve')
    .description('run the node in the foreground, until SIGTERM or Ctrl-C')
    .addHelpText('after', examples('pando serve', 'pando serve --config ./pando.yaml'))
    .action(
      run(async (context) => {
        if (context.givenSocket !== undefined) {
          throw new PandoError('ARGUMENT_INVALID', 'A node takes its socket from "socket" in the configuration.');
        }
        await context.dependencies.serve(context.configPath);
      }),
    );
}
