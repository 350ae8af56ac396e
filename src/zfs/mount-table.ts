/** What the kernel tells of mounts (proc_pid_mountinfo.5). */
export interface MountEntry {
  /** `major:minor` of the file system. */
  readonly device: string;
  readonly place: string;
  /** Of file system: `zfs`, `fuse.zfs`. */
  readonly type: string;
  /** What was mounted there; of ZFS the name of the dataset. */
  readonly source: string;
}

/** The mounts of a namespace from the text of its `mountinfo`; lines that are none are left out. */
export function parseMountTable(text: string): readonly MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [mount = '', fileSystem = ''] = line.split(' - ');
    const [, , device, , place] = mount.split(' ');
    const [type, source] = fileSystem.split(' ');
    if (device === undefined || place === undefined || type === undefined || source === undefined) return [];
    return [{ device, place: unescaped(place), type, source: unescaped(source) }];
  });
}

/** What stands in octal digits: spaces, tabs, line ends, backslashes. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
