import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import { describeLink } from '../describe-link.ts';

interface AddOptions {
  readonly address?: string;
  readonly share?: string[];
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
          ['PEER', 'NODE', 'ADDRESS', 'MAY READ', 'LINK', 'STATE'],
          peers.map((one) => [
            one.name,
            one.peer,
            one.address ?? '-',
            one.shares.join(',') || '-',
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
    .option('--share <tree...>', 'trees that it may read, by name or glob')
    .option('--trusted-link', 'let data travel outside TLS on this link, if the peer says so too (WireGuard, loopback)')
    .addHelpText(
      'after',
      examples(
        'pando peer add backup ABCDEFG-… --address backup.example:7380 --share images homes',
        'pando peer add laptop ABCDEFG-… --share "*"',
      ),
    )
    .action(
      run(async (context, name: string, node: string, { address, share, trustedLink }: AddOptions) => {
        const added = {
          name,
          node,
          address: address ?? null,
          shares: share ?? [],
          trustedLink: trustedLink === true,
        };
        await (await context.client()).addPeer(added);
        const reads = added.shares.length === 0 ? 'no tree' : added.shares.join(', ');
        context.done(`Peer "${name}" may read ${reads}.`, added);
      }),
    );

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
