import { expect, it } from 'vitest';
import { parseMountTable } from '../../src/zfs/mount-table.ts';

it('a table of mounts tells device, place and source of each, with what was escaped', () => {
  const text = [
    '36 25 0:31 / /tank/images rw,relatime shared:15 - zfs tank/images rw,xattr,noacl',
    '40 25 0:44 / /mnt/a\\040b rw - fuse tank/with\\040space rw,user_id=0',
    'nonsense',
    '',
  ].join('\n');
  expect(parseMountTable(text)).toEqual([
    { device: '0:31', place: '/tank/images', type: 'zfs', source: 'tank/images' },
    { device: '0:44', place: '/mnt/a b', type: 'fuse', source: 'tank/with space' },
  ]);
});
