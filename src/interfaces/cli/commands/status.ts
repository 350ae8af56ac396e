import type { Command } from 'commander';
import { examples, type Runner } from '../command-context.ts';
import type { DaemonStatus, MirrorStatus, PeerStatus, TreeStatus } from '../daemon-client.ts';
import { describeLink } from '../describe-link.ts';
import { formatAge, formatBytes, formatCount, formatDuration } from '../format.ts';
import type { Output } from '../output.ts';

function showNode(output: Output, status: DaemonStatus, now: number): void {
  const { capabilities, error } = status.zfs;
  output.line(`node      ${status.node}`);
  output.line(`version   ${status.version}, up ${formatDuration(now - status.startedAt)}`);
  output.line(`address   ${status.address}`);
  output.line(`data      ${status.dataDirectory}`);
  output.line(
    `zfs       ${capabilities === null ? error?.message : `${capabilities.dialect} ${capabilities.version}`}`,
  );
  for (const fault of status.faults) output.line(`log       ${fault.error.message}`);
}

function formatSize(datasets: number | null, snapshots: number | null): string {
  if (datasets === null || snapshots === null) return '';
  return `${formatCount(datasets, 'dataset')}, ${formatCount(snapshots, 'snapshot')}, `;
}

function describeTree(tree: TreeStatus, now: number): string {
  const { kind, root, datasets, snapshots, lookedAt, error } = tree;
  const looked = lookedAt === null ? 'not looked at yet' : `looked at ${formatAge(lookedAt, now)}`;
  return `${kind} at ${root}: ${formatSize(datasets, snapshots)}${looked}${error === null ? '' : `; ${error.message}`}`;
}

/** How streams go, as the newest one went; before that, how they may go. */
function describeMode({ streams, trustedLink }: PeerStatus): string {
  if (streams === null) return trustedLink ? 'trusted link' : 'sealed link';
  const { mode, compressed, apart } = streams;
  return `streams ${mode}${compressed ? ', compressed' : ''}${apart ? ', in processes of their own' : ''}`;
}

/** Who hands on what a peer says that is not connected. */
function describeRelays({ link }: PeerStatus, peers: readonly PeerStatus[]): string {
  const names = peers.filter(({ peer }) => link?.heardThrough.includes(peer)).map(({ name }) => name);
  return names.length === 0 ? '' : `, heard through ${names.join(', ')}`;
}

function describePeer(peer: PeerStatus, peers: readonly PeerStatus[], now: number): string {
  const { link, notices } = peer;
  const bytes = link === null ? '' : `, ${formatBytes(link.bytesReceived)} in, ${formatBytes(link.bytesSent)} out`;
  const error = link === null || link.state === 'connected' ? null : link.lastError;
  return `${describeLink(peer, now)}${describeRelays(peer, peers)}, ${describeMode(peer)}${bytes}${error === null ? '' : `; ${error.message}`}${notices.map(({ text }) => `; it ${text}`).join('')}`;
}

function describeMirror({ behind, error, receiving, diverged }: MirrorStatus): string {
  const now = receiving ? 'syncing now, ' : '';
  if (behind === null) return `${now}${error?.message ?? ''}`;
  const { steps, bytes, conflicts, waiting } = behind;
  const notes = [
    steps === 0 ? 'nothing to fetch' : `behind by ${formatCount(steps, 'step')}, about ${formatBytes(bytes)}`,
    ...(conflicts.length === 0 ? [] : [`${formatCount(conflicts.length, 'conflict')} ("pando plan" explains)`]),
    ...(diverged === null || diverged === 0
      ? []
      : [`${diverged === 1 ? '1 copy' : `${diverged} copies`} of what diverged ("pando diverged ls")`]),
    ...(waiting.length === 0 ? [] : [`${formatCount(waiting.length, 'dataset')} waiting ("pando plan" explains)`]),
  ];
  return `${now}${notes.join(', ')}`;
}

/** A heading and a line for each thing below it; nothing where there is none. */
function showSection(output: Output, heading: string, entries: readonly { name: string; text: string }[]): void {
  if (entries.length === 0) return;
  output.line();
  output.line(heading);
  const width = Math.max(...entries.map(({ name }) => name.length));
  for (const { name, text } of entries) output.line(`  ${name.padEnd(width)}  ${text}`);
}

export function addStatus(program: Command, run: Runner): void {
  program
    .command('status')
    .description('show the running node: its trees, its peers, and how far its mirrors are behind')
    .addHelpText('after', examples('pando status', 'pando status --json'))
    .action(
      run(async (context) => {
        const { output } = context;
        const status = await (await context.client()).status();
        if (context.json) return output.json(status);
        const now = context.dependencies.now();
        const { trees, peers, mirrors } = status;
        showNode(output, status, now);
        showSection(
          output,
          'trees',
          trees.map((tree) => ({ name: tree.tree, text: describeTree(tree, now) })),
        );
        showSection(
          output,
          'peers',
          peers.map((peer) => ({ name: peer.name, text: describePeer(peer, peers, now) })),
        );
        showSection(
          output,
          'mirrors',
          mirrors.map((mirror) => ({ name: mirror.tree, text: describeMirror(mirror) })),
        );
      }),
    );
}
