/** `pando peer invite` and what belongs to it: how two nodes become peers by one line. */
import type { Command } from 'commander';
import { renderUnicodeCompact } from 'uqr';
import { allows, type Role } from '../../../core/grants.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { parseDuration } from '../duration.ts';
import { formatDuration, formatTime } from '../format.ts';
import { roleOption } from '../role-option.ts';

interface InviteOptions {
  readonly tree: string;
  readonly role: Role;
  readonly address?: string;
  readonly name?: string;
  readonly expires: string;
}

interface JoinOptions {
  readonly share?: string[];
  readonly as?: string;
  readonly name?: string;
  readonly address?: string;
}

async function invite(context: CommandContext, options: InviteOptions): Promise<void> {
  const { tree, role, address, name, expires } = options;
  const lifetimeMs = parseDuration(expires);
  const client = await context.client();
  const line = await client.invite({
    trees: tree,
    role,
    address: address ?? null,
    name: name ?? null,
    lifetimeMs,
  });
  if (context.json) {
    context.output.json({ line, trees: tree, role });
    return;
  }
  context.output.line(line);
  if (!context.output.isTTY) return;
  context.output.line();
  for (const row of renderUnicodeCompact(line).split('\n')) context.output.line(row);
  context.output.line();
  context.output.line(
    `Whoever runs "pando peer join" with that line within ${formatDuration(lifetimeMs)} is ${role} of ${tree}, once.`,
  );
}

async function join(context: CommandContext, line: string, options: JoinOptions): Promise<void> {
  const { as, name, address, share = [] } = options;
  const client = await context.client();
  const request = { line, as: as ?? null, name: name ?? null, address: address ?? null, shares: share };
  const { peer, trees, role } = await client.join(request);
  const joined = `Joined: "${peer.name}" is a peer, where this node is ${role} of ${trees}.`;
  const isUnread = allows(role, 'contribute') && share.length === 0;
  const hint = ` What this node contributes it can take once it may read it: "pando grant add ${peer.name} TREE".`;
  context.done(isUnread ? joined + hint : joined, { peer, trees, role, shares: share });
}

/** Adds the commands to those of `pando peer`. */
export function addInvitations(peer: Command, run: Runner): void {
  peer
    .command('invite')
    .description('print a line with which another node becomes a peer, once; on a terminal also as a QR code')
    .requiredOption('--tree <trees>', 'what it is for: a tree, or a glob of names')
    .addOption(roleOption())
    .option(
      '--address <host:port>',
      'where the other node finds this one (default: as configured, or by its host name)',
    )
    .option('--name <name>', 'what to call the other node here (default: what it calls itself)')
    .option('--expires <duration>', 'how long the line is good, 30 days at most', '24h')
    .addHelpText(
      'after',
      examples('pando peer invite --tree images', 'pando peer invite --tree "*" --role contributor --expires 1h'),
    )
    .action(run(invite));

  peer
    .command('join')
    .description('become a peer of the node that made this line, and it one of this')
    .argument('<line>', 'what "pando peer invite" printed there')
    .option('--as <name>', 'what to call the other node here (default: by its address)')
    .option('--name <name>', 'what this node calls itself there (default: its host name)')
    .option('--address <host:port>', 'where the other node finds this one, if it can (default: as configured)')
    .option('--share <tree...>', 'what the other node may read here, by name or glob; a contributor has to be read')
    .addHelpText('after', examples('pando peer join pando://build:7380/…', 'pando peer join pando://… --share images'))
    .action(run(join));

  peer
    .command('invitations')
    .description('list the lines that can still be used')
    .action(
      run(async (context) => {
        const open = await (await context.client()).invitations();
        if (context.json) return context.output.json(open);
        context.output.table(
          ['INVITATION', 'TREES', 'ROLE', 'NAME', 'UNTIL'],
          open.map((one) => [one.invitation, one.trees, one.role, one.name ?? '-', formatTime(one.expiresAt)]),
        );
      }),
    );

  peer
    .command('withdraw')
    .description('make a line useless before it expires')
    .argument('<invitation>', 'its id, as "pando peer invitations" lists it')
    .action(
      run(async (context, invitation: string) => {
        await (await context.client()).withdrawInvitation(invitation);
        context.done(`Invitation ${invitation} is withdrawn.`, { invitation });
      }),
    );
}
