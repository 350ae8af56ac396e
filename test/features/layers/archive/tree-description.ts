import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** All that a layer can say of one path, as text; names are latin1. */
export type TreeDescription = Readonly<Record<string, string>>;

/** Describes a tree completely: types, attributes, contents and which names are one inode. Not what only the machine knows. */
export function describeTree(root: string): TreeDescription {
  const described: Record<string, string> = {};
  const firstNames = new Map<bigint, string>();
  const xattrs = xattrsIn(root);
  const visit = (path: Buffer, name: string): void => {
    const stats = lstatSync(path, { bigint: true });
    if (!stats.isDirectory() && !firstNames.has(stats.ino)) firstNames.set(stats.ino, name);
    const { mode, uid, gid, mtimeNs, rdev } = stats;
    described[name] = [
      mode.toString(8),
      `${uid}:${gid}`,
      mtimeNs,
      rdev,
      contentOf(path, stats),
      firstNames.get(stats.ino) ?? '',
      xattrs.get(name) ?? '',
    ].join(' ');
    if (!stats.isDirectory()) return;
    for (const child of readdirSync(path, 'buffer').sort(Buffer.compare)) {
      visit(Buffer.concat([path, Buffer.from('/'), child]), `${name}/${child.toString('latin1')}`);
    }
  };
  visit(Buffer.from(root), '.');
  return described;
}

function contentOf(path: Buffer, stats: BigIntStats): string {
  if (stats.isSymbolicLink()) return readlinkSync(path, 'buffer').toString('latin1');
  if (!stats.isFile()) return '';
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** By the name of the file; the dump of each as it is, sorted. */
function xattrsIn(root: string): Map<string, string> {
  const words = ['-R', '-P', '-d', '-m', '-', '-e', 'base64', '--absolute-names', '.'];
  const { stdout } = spawnSync('getfattr', words, { cwd: root, encoding: 'latin1' });
  const blocks = stdout.split('\n\n').filter((block) => block !== '');
  return new Map(
    blocks.map((block) => {
      const [file = '', ...lines] = block.split('\n');
      const name = file
        .replace('# file: ', '')
        .replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
      return [name, lines.sort().join(' ')];
    }),
  );
}
