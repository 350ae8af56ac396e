import { expect, it } from 'vitest';
import { fuseMounts } from '../../../src/zfs/cli/mounts.ts';
import { parseMountTable } from '../../../src/zfs/mount-table.ts';

it('what zfs-fuse has mounted is counted once, wherever else it is bound, and no other file systems are', () => {
  const table = [
    '42 27 0:39 / /tank rw,relatime - fuse.zfs tank rw,user_id=0',
    '43 42 0:40 / /tank/a rw,relatime - fuse.zfs tank/a rw,user_id=0',
    '44 27 0:40 / /run/container/rootfs rw,relatime - fuse.zfs tank/a rw,user_id=0',
    '45 27 0:41 / /mnt/ssh rw,relatime - fuse.sshfs nas: rw,user_id=0',
    '46 27 0:42 / /pool rw,relatime - zfs pool rw,xattr',
  ];
  expect(fuseMounts(parseMountTable(table.join('\n')))).toBe(2);
});
