/** What the command line driver makes of commands that do what no ZFS does at will. */
import { describe, expect, it } from 'vitest';
import type { DatasetName, SnapshotName } from '../../../src/core/ids.ts';
import type { SnapshotReference } from '../../../src/zfs/zfs.ts';
import { fakeZfs } from './fake-zfs.ts';

function at(dataset: string, snapshot: string): SnapshotReference {
  return { dataset: dataset as DatasetName, snapshot: snapshot as SnapshotName };
}

describe('Output that makes no sense', () => {
  const row = (name: string): string => `printf '${name}\\tsnapshot\\t7\\t1\\t1\\t-\\t1\\t1\\t0\\n'`;
  const listed = at('tank/a', 's');

  it.each([
    ['a greeting', `echo "Welcome to nas"; ${row('tank/a@s')}`, 'Welcome to nas'],
    ['a row without its end', "printf 'tank/a@s\\tsnap'", 'tank/a@s\tsnap'],
    ['a row that nobody asked for', `${row('tank/a@')}; ${row('tank/a@other')}`, expect.stringContaining('tank/a@\t')],
    ['a flood on one line', "printf '%05000d\\n' 1", expect.stringMatching(/^0{200}…$/)],
  ])('is an error that quotes the line, not a missing snapshot: %s', async (_what, script, line) => {
    const zfs = await fakeZfs(script);
    await expect(zfs.listSnapshots([listed])).rejects.toMatchObject({ code: 'ZFS_FAILED', evidence: { line } });
  });

  it('is not what is told of when the command failed', async () => {
    const zfs = await fakeZfs(`echo "Welcome to nas"; echo "cannot open 'tank/a': permission denied" >&2; exit 1`);
    await expect(zfs.listSnapshots([listed])).rejects.toMatchObject({ code: 'ZFS_PERMISSION' });
  });

  it('does not keep what makes sense from being read', async () => {
    const zfs = await fakeZfs(row('tank/a@s'));
    expect(await zfs.listSnapshots([listed, at('tank/a', 'gone')])).toMatchObject([{ guid: '7', name: 's' }, null]);
  });
});
