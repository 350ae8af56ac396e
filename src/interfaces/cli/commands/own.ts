import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { formatCount } from '../format.ts';

interface OwnOptions {
  readonly recursive?: boolean;
  readonly withoutOwner?: boolean;
}

export function addOwn(program: Command, run: Runner): void {
  program
    .command('own')
    .description('take over a replica from its owner, which follows from then on')
    .argument('<place>', 'TREE or TREE/NAME')
    .option('-r, --recursive', 'take over all below as well')
    .option('--without-owner', 'although the owner cannot be asked: what it has not sent is not here')
    .addHelpText(
      'after',
      `
The owner has to have granted this node to be standby of the tree, and everything that it has must be here. With
--without-owner neither is asked. Should such an owner come back, it yields where it granted that, and keeps what
is not here aside ("pando diverged" there).
${examples('pando own images/web', 'pando own images -r --without-owner')}`,
    )
    .action(
      run(async (context, dataset: string, { recursive = false, withoutOwner = false }: OwnOptions) => {
        const client = await context.client();
        const taken = await client.own({ dataset, recursive, withoutOwner });
        const names = new Map((await client.peers()).map(({ peer, name }) => [peer, name]));
        const told = taken.letRead.map((peer) => names.get(peer) ?? peer);
        context.done(
          taken.datasets.length === 0
            ? `${dataset} is this node's own already.`
            : [
                `This node owns ${formatCount(taken.datasets.length, 'dataset')} of ${dataset} now.`,
                ...told.map((name) => `Peer "${name}" may read the tree here from now on, so that it hears of it.`),
              ].join(' '),
          taken,
        );
      }),
    );
}
