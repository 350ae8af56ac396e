import type { Command } from 'commander';
import type { Role } from '../../../core/grants.ts';
import { examples, type Runner } from '../command-context.ts';
import { roleOption } from '../role-option.ts';

interface AddOptions {
  readonly role: Role;
}

export function addGrant(program: Command, run: Runner): void {
  const grant = program
    .command('grant')
    .description('what each peer may do in which trees; without a grant, a peer does not even learn that a tree exists')
    .addHelpText(
      'after',
      `\nRoles, each of which may what those before it may:
  reader       pulls the tree
  contributor  this node takes datasets that the peer owns into the tree
  standby      may take over any dataset of the tree, which this node then follows
  operator     may have this node change the tree
${examples('pando grant add backup images', 'pando grant add laptop images --role contributor', 'pando grant rm laptop images')}`,
    );

  grant
    .command('ls')
    .description('list what was granted')
    .argument('[peer]', 'only to this peer, by name or id')
    .action(
      run(async (context, only: string | undefined) => {
        const client = await context.client();
        const [grants, peers] = [await client.grants(), await client.peers()];
        const names = new Map(peers.map(({ peer, name }) => [peer, name]));
        const shown = grants.filter(({ peer }) => only === undefined || peer === only || names.get(peer) === only);
        if (context.json) return context.output.json(shown);
        context.output.table(
          ['PEER', 'TREES', 'ROLE'],
          shown.map(({ peer, trees, role }) => [names.get(peer) ?? peer, trees, role]),
        );
      }),
    );

  grant
    .command('add')
    .description('let a peer do something in a tree; takes the place of its grant for the same name or glob')
    .argument('<peer>', 'its name or id')
    .argument('<trees>', 'a tree, or a glob of names')
    .addOption(roleOption())
    .addHelpText('after', examples('pando grant add backup "*"', 'pando grant add laptop images --role contributor'))
    .action(
      run(async (context, peer: string, trees: string, { role }: AddOptions) => {
        const given = { peer, trees, role };
        await (await context.client()).giveGrant(given);
        context.done(`Peer "${peer}" is ${role} of ${trees}.`, given);
      }),
    );

  grant
    .command('rm')
    .description('take a grant back; sessions and transfers that lived by it end at once')
    .argument('<peer>', 'its name or id')
    .argument('<trees>', 'as it was granted')
    .action(
      run(async (context, peer: string, trees: string) => {
        await (await context.client()).revokeGrant(peer, trees);
        context.done(`Peer "${peer}" has no grant for ${trees} any more.`, { peer, trees });
      }),
    );
}
