import { PLAIN_STREAM, RAW_STREAM } from '../../core/stream-flags.ts';
import { zfsFailure } from '../failure.ts';
import type { ZfsCapabilities } from '../zfs.ts';
import type { ChildEnding, Starter } from './children/child.ts';
import type { CommandLine } from './command-line.ts';
import { failureOf } from './failures.ts';
import { eachLine } from './lines.ts';

/** First release with `snapshots_changed` (OpenZFS 2.2.0). */
const SNAPSHOTS_CHANGED_SINCE = [2, 2] as const;

interface Answer extends ChildEnding {
  readonly stdout: string;
}

/**
 * Finds out which ZFS answers. `zfs version` came with OpenZFS 0.8; zfs-fuse refuses it, and its `zpool upgrade -v` names a pool version
 * instead of feature flags. Rejects with `ZFS_UNAVAILABLE` when nothing answers, `ZFS_UNSUPPORTED` for something else that is old.
 */
export async function probe(commandLine: CommandLine, starter: Starter): Promise<ZfsCapabilities> {
  const ask = (command: readonly string[]): Promise<Answer> => answerTo(command, starter);
  const version = await ask(commandLine.words('zfs', ['version']));
  if (version.exitCode === 0) return openZfsCapabilities(version.stdout);
  const attempt = { action: 'find out what this ZFS can do', command: commandLine.words('zfs', ['version']) };
  if (!/unrecognized command/.test(version.stderr)) {
    const failure = failureOf(attempt, version);
    throw zfsFailure('ZFS_UNAVAILABLE', attempt, version, version.stderr.trim(), {}, { cause: failure });
  }
  const pool = await ask(commandLine.words('zpool', ['upgrade', '-v']));
  const found = /ZFS pool version (\d+)/.exec(pool.stdout);
  if (found === null) throw zfsFailure('ZFS_UNSUPPORTED', attempt, version, 'it is older than OpenZFS 0.8');
  return zfsFuseCapabilities(`zfs-fuse (pool version ${found[1]})`);
}

async function answerTo(command: readonly string[], starter: Starter): Promise<Answer> {
  const child = await starter.start(command, { stdin: 'ignore', stdout: 'pipe' });
  const lines: string[] = [];
  if (child.stdout !== null) await eachLine(child.stdout, (line) => lines.push(line));
  return { ...(await child.ended), stdout: lines.join('\n') };
}

function openZfsCapabilities(answer: string): ZfsCapabilities {
  const version = answer.split('\n')[0]?.trim() ?? '';
  const [, major = '0', minor = '0'] = /^zfs-(\d+)\.(\d+)/.exec(version) ?? [];
  const [sinceMajor, sinceMinor] = SNAPSHOTS_CHANGED_SINCE;
  const number = Number(major);
  return {
    dialect: 'openzfs',
    version,
    receiveProperties: true,
    sendEstimate: true,
    snapshotsChanged: number > sinceMajor || (number === sinceMajor && Number(minor) >= sinceMinor),
    listHolds: true,
    bookmarks: true,
    resumableReceive: true,
    volumes: true,
    diff: true,
    // All of them came with 0.8 at the latest
    streamFlags: RAW_STREAM,
  };
}

function zfsFuseCapabilities(version: string): ZfsCapabilities {
  return {
    dialect: 'zfs-fuse',
    version,
    receiveProperties: false,
    sendEstimate: false,
    snapshotsChanged: false,
    // `zfs holds` is a Python script that Debian's package leaves out
    listHolds: false,
    bookmarks: false,
    resumableReceive: false,
    volumes: false,
    diff: false,
    streamFlags: PLAIN_STREAM,
  };
}
