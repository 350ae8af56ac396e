/** Two nodes, a hierarchy, a mirror: what Pando is for, in a minute. Cleans up after itself, also on Ctrl-C and on failure. */
import { execa } from 'execa';
import { describeError } from '../../src/core/errors.ts';
import { buildHierarchy, changeHierarchy, TREE_ROOT } from './hierarchy.ts';
import { type ShownGraph, sideBySide } from './side-by-side.ts';
import { type DemoNode, Stage, setUp } from './stage.ts';

const TREE = 'images';
/** Exit status of a program that SIGINT ended: 128 and the number of the signal. */
const INTERRUPTED = 130;

function heading(text: string): void {
  process.stdout.write(`\n── ${text} ${'─'.repeat(Math.max(0, 76 - text.length))}\n`);
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

async function bytesReceived(node: DemoNode): Promise<number> {
  const lines = (await node.pando('log', '--transfers', '--json')).split('\n').filter((line) => line !== '');
  const ended = lines.map((line) => JSON.parse(line) as { readonly type: string; readonly bytes?: number });
  return ended.reduce((sum, { type, bytes }) => sum + (type === 'transfer.ended' ? (bytes ?? 0) : 0), 0);
}

/** Bytes if each dataset had been copied in full, as tools do that lose clone origins: what its newest snapshot sends. */
async function fullCopyBytes(node: DemoNode, { datasets }: ShownGraph): Promise<number> {
  let bytes = 0;
  for (const { name, snapshots } of datasets) {
    const newest = snapshots.at(-1);
    if (newest === undefined) continue;
    const dataset = `${node.pool.name}/${TREE_ROOT}${name === '' ? '' : `/${name}`}`;
    const { stdout } = await execa('zfs', ['get', '-Hp', '-o', 'value', 'referenced', `${dataset}@${newest.name}`]);
    bytes += Number(stdout);
  }
  return bytes;
}

async function graphOf(node: DemoNode): Promise<ShownGraph> {
  return JSON.parse(await node.pando('graph', TREE, '--json')) as ShownGraph;
}

async function play(studio: DemoNode, laptop: DemoNode): Promise<void> {
  heading('The studio builds images with plain zfs: a base, three layers, five containers');
  await buildHierarchy(studio);

  heading('The studio shares its tree and invites the laptop, which joins with one line');
  await studio.show('tree', 'add', TREE, `${studio.pool.name}/${TREE_ROOT}`);
  const invitation = ['peer', 'invite', '--tree', TREE, '--address', studio.address, '--name', 'laptop'];
  const line = (await studio.pando(...invitation)).trim();
  process.stdout.write(`\n  studio$ pando ${invitation.join(' ')}\n${line}\n`);
  await laptop.show('peer', 'join', line, '--as', 'studio');
  await laptop.show('mirror', 'add', TREE, '--from', 'studio', '--into', `${laptop.pool.name}/mirror`);

  heading('The laptop mirrors the tree');
  await laptop.show('sync', TREE);
  const first = await bytesReceived(laptop);

  heading('The studio goes on: new snapshots, a new container');
  await changeHierarchy(studio);

  heading('The laptop follows, by increments');
  await laptop.show('sync', TREE);
  const second = (await bytesReceived(laptop)) - first;

  heading('Both graphs');
  const [theirs, ours] = [await graphOf(studio), await graphOf(laptop)];
  process.stdout.write(`${sideBySide(theirs, ours, ['studio', 'laptop'])}\n`);

  heading('What it cost');
  const full = await fullCopyBytes(studio, theirs);
  process.stdout.write(`  first sync            ${mebibytes(first).padStart(12)}\n`);
  process.stdout.write(`  second sync           ${mebibytes(second).padStart(12)}\n`);
  process.stdout.write(`  full copies of each   ${mebibytes(full).padStart(12)}, once; and again for each change\n`);

  heading('The verdict');
  await laptop.show('verify', TREE);
}

const stage = new Stage();
let interrupted = false;
// More than once: from a terminal both npm and the demo get Ctrl-C, and npm hands its own on
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (interrupted) return;
    interrupted = true;
    process.stdout.write('\nStopping, and cleaning up …\n');
    void stage.clear().then(() => process.exit(INTERRUPTED));
  });
}

try {
  const { studio, laptop } = await setUp(stage);
  await play(studio, laptop);
} catch (error) {
  if (!interrupted) {
    process.stderr.write(`The demo failed: ${describeError(error)}\n`);
    process.exitCode = 1;
  }
} finally {
  await stage.clear();
}
