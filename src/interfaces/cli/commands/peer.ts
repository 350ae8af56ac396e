import type { Command } from 'commander';
import type { Role } from '../../../core/grants.ts';
import { examples, type Runner } from '../command-context.ts';
import { describeLink } from '../describe-link.ts';
import { roleOption } from '../role-option.ts';
import { addInvitations } from './invitation.ts';

interface AddOptions {
  readonly address?: string;
  readonly share?: string[];
  readonly role: Role;
  readonly trustedLink?: boolean;
}

export function addPeer(program: Command, run: Runner): void {
  const peer = program
    .command('peer')
    .description('nodes that this one exchanges with, and what each may read')
    .addHelpText(
      'after',
      examples('pando peer add backup ABCDEFG-… --address backup:7380 --share "*"', 'pando peer ls'),
    );

  peer
    .command('ls')
    .description('list the peers')
    .action(
      run(async (context) => {
        const peers = await (await context.client()).peers();
        if (context.json) return context.output.json(peers);
        const now = context.dependencies.now();
        context.output.table(
          ['PEER', 'NODE', 'ADDRESS', 'GRANTS', 'LINK', 'STATE'],
          peers.map((one) => [
            one.name,
            one.peer,
            one.address ?? '-',
            one.grants.map(({ trees, role }) => `${trees}:${role}`).join(',') || '-',
            one.trustedLink ? 'trusted' : 'sealed',
            describeLink(one, now),
          ]),
        );
      }),
    );

  peer
    .command('add')
    .description('add a peer, or replace what is kept of one; the peer has to add this node as well')
    .argument('<name>', 'what to call it here')
    .argument('<node>', 'its id, as "pando id" prints it there')
    .option('--address <host:port>', 'where it listens; without it, the peer has to dial this node')
    .option('--share <tree...>', 'trees that it is granted, by name or glob ("pando grant" gives and takes more)')
    .addOption(roleOption())
    .option('--trusted-link', 'let data travel outside TLS on this link, if the peer says so too (WireGuard, loopback)')
    .addHelpText(
      'after',
      examples(
        'pando peer add backup ABCDEFG-… --address backup.example:7380 --share images homes',
        'pando peer add laptop ABCDEFG-… --share "*"',
      ),
    )
    .action(
      run(async (context, name: string, node: string, { address, share = [], role, trustedLink }: AddOptions) => {
        const added = {
          name,
          node,
          address: address ?? null,
          grants: share.map((trees) => ({ trees, role })),
          trustedLink: trustedLink === true,
        };
        await (await context.client()).addPeer(added);
        const what = share.length === 0 ? '' : `, ${role} of ${share.join(', ')}`;
        context.done(`Peer "${name}" is known here${what}.`, added);
      }),
    );

  addInvitations(peer, run);

  peer
    .command('rm')
    .description('forget a peer')
    .argument('<peer>', 'its name or id')
    .action(
      run(async (context, name: string) => {
        await (await context.client()).removePeer(name);
        context.done(`Peer "${name}" is forgotten.`, { peer: name });
      }),
    );
}
