/** Where the files of datasets are on this machine: mounted and unmounted by `zfs` itself, at the place that `mountpoint` says. */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { PandoError } from '../../core/errors.ts';
import type { DatasetName } from '../../core/ids.ts';
import { zfsFailure } from '../failure.ts';
import { type MountEntry, parseMountTable } from '../mount-table.ts';
import type { ZfsCapabilities } from '../zfs.ts';
import type { MountedPlace } from './momentary-mounts.ts';
import type { Runner } from './runner.ts';
import { LETTING_GO_MS } from './unmounted.ts';

type Dialect = ZfsCapabilities['dialect'];

/** What `zfs unmount` says of what is not mounted, in either dialect. */
const NOT_MOUNTED = /not currently mounted|not a mountpoint/;
/** What `zfs mount` says of what somebody has mounted meanwhile. */
const MOUNTED = /already mounted/;

/**
 * zfs-fuse has room for 1,000 file systems (`fuse_listener.h`). One more it takes and unmounts again, and was then seen to stand still; so some room is left for what others mount
 * meanwhile.
 */
const FUSE_MOUNTS_MAX = 950;
const FUSE_TYPE = 'fuse.zfs';

/** How many file systems zfs-fuse has mounted, by a table of mounts; what is bound elsewhere besides counts once. */
export function fuseMounts(table: readonly MountEntry[]): number {
  return new Set(table.flatMap(({ type, device }) => (type === FUSE_TYPE ? [device] : []))).size;
}

/** Rejects with `ZFS_OUT_OF_MOUNTS` where zfs-fuse would not take one more file system. What another machine has mounted is not known here. */
export async function requireRoom(runner: Runner, dialect: Dialect, action: string): Promise<void> {
  if (dialect !== 'zfs-fuse' || runner.commandLine.remoteShell) return;
  if (fuseMounts(await mountTable()) < FUSE_MOUNTS_MAX) return;
  const attempt = { action, command: runner.commandLine.words('zfs', ['mount']) };
  throw zfsFailure('ZFS_OUT_OF_MOUNTS', attempt, { exitCode: null, stderr: '' });
}

/** Empty where there is no such table, as on a system that is no Linux. */
async function mountTable(): Promise<readonly MountEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));
}

/** Rejects with `ZFS_UNSUPPORTED` where files of the dataset are not on this machine. */
export function requireHere(runner: Runner, name: DatasetName): void {
  if (runner.commandLine.remoteShell) refuse(runner, name, `the files of '${name}' are on another machine`);
}

/** Mounts a filesystem unless it is, on whatever machine, and resolves with what its `mountpoint` says. Rejects with `ZFS_UNSUPPORTED` where that is no place. */
export async function ensureMounted(runner: Runner, dialect: Dialect, name: DatasetName): Promise<MountedPlace> {
  const action = `mount ${name}`;
  const words = ['get', '-Hp', '-o', 'property,value', 'mounted,mountpoint', name];
  const lines = await runner.lines({ words, action, names: [name] });
  const values = new Map(lines.map((line) => line.split('\t', 2) as [string, string]));
  const mountpoint = values.get('mountpoint') ?? '';
  if (!mountpoint.startsWith('/')) refuse(runner, name, `its mountpoint is ${mountpoint === '' ? 'none' : mountpoint}`);
  if (values.get('mounted') === 'yes') return { mountpoint, wasMounted: true };
  await requireRoom(runner, dialect, action);
  const passedOver = await runner.run({ words: ['mount', name], action, names: [name], passOver: MOUNTED });
  return { mountpoint, wasMounted: passedOver !== '' };
}

/** Where a mounted filesystem is: at its mountpoint, or else where somebody wanted it with mount(2), as the kernel tells. */
export async function directoryOf(name: DatasetName, { mountpoint, wasMounted }: MountedPlace): Promise<string> {
  if (!wasMounted) return mountpoint;
  const places = (await mountTable()).flatMap(({ source, place }) => (source === name ? [place] : []));
  const [first = mountpoint] = places;
  return places.includes(mountpoint) ? mountpoint : first;
}

/** Unmounts a filesystem if it is mounted: see `Zfs.unmount`. */
export async function unmount(runner: Runner, dialect: Dialect, name: DatasetName): Promise<void> {
  const passedOver = await runner.run({
    words: ['unmount', name],
    action: `unmount ${name}`,
    names: [name],
    passOver: NOT_MOUNTED,
  });
  if (dialect === 'zfs-fuse' && passedOver === '') await delay(LETTING_GO_MS);
}

/** Bytes that a dataset takes, with its snapshots and all below it: see `Zfs.used`. */
export async function used(runner: Runner, name: DatasetName): Promise<number> {
  const words = ['get', '-Hp', '-o', 'value', 'used', name];
  const [line = ''] = await runner.lines({ words, action: `measure ${name}`, names: [name] });
  const bytes = Number(line);
  if (line !== '' && Number.isSafeInteger(bytes)) return bytes;
  throw new PandoError('ZFS_FAILED', `Cannot measure ${name}: "${line}" is no number of bytes.`, { dataset: name });
}

function refuse(runner: Runner, name: DatasetName, detail: string): never {
  const attempt = { action: `mount ${name}`, command: runner.commandLine.words('zfs', ['mount']) };
  throw zfsFailure('ZFS_UNSUPPORTED', attempt, { exitCode: null, stderr: '' }, detail);
}
