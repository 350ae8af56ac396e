/** Fifos and device nodes, made with mkfifo(1) and mknod(1): Node has no interface to them. */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PandoError } from '../../../core/errors.ts';
import { checkNotAborted } from './failures.ts';
import { firstLineOf, runProgram } from './programs.ts';
import type { Device, TarHeader } from './tar-entry.ts';

/** A place to make them in under plain names, because arguments of programs are text. A whiteout's name: no layer brings one. */
const STAGING = '.wh..wh.pando-nodes';
/** How many fifos one process makes: its arguments stay far below ARG_MAX. */
const FIFOS_PER_PROCESS = 1000;

/** Character devices that give nobody anything (Linux admin-guide/devices.txt). */
const HARMLESS: ReadonlySet<string> = new Set([
  '1:3', // null
  '1:5', // zero
  '1:7', // full
  '1:8', // random
  '1:9', // urandom
  '5:0', // tty
  '5:1', // console
  '5:2', // ptmx
]);

/** A fifo, null, or a device. */
export interface SpecialFile {
  /** Where it belongs, absolute. */
  readonly path: Buffer;
  readonly device: Device | null;
}

/** Whether a layer may bring this device. Overlayfs's whiteout, 0:0, is none of them. */
export function isHarmlessDevice(type: TarHeader['type'], { major, minor }: Device): boolean {
  return type === 'character-device' && HARMLESS.has(`${major}:${minor}`);
}

/** Makes all of them, with one process for the fifos and one for each device. Rejects with `PROGRAM_MISSING` or `PROGRAM_FAILED`. */
export async function makeSpecialFiles(
  root: string,
  files: readonly SpecialFile[],
  signal: AbortSignal,
): Promise<void> {
  if (files.length === 0) return;
  const staging = join(root, STAGING);
  await mkdir(staging, { mode: 0o700 });
  try {
    const numbered = files.map((file, index) => ({ ...file, name: String(index) }));
    const fifos = numbered.filter(({ device }) => device === null).map(({ name }) => name);
    for (let at = 0; at < fifos.length; at += FIFOS_PER_PROCESS) {
      await make('mkfifo', ['-m', '600', ...fifos.slice(at, at + FIFOS_PER_PROCESS)], staging, signal);
    }
    for (const { name, device } of numbered) {
      if (device === null) continue;
      await make('mknod', ['-m', '600', name, 'c', String(device.major), String(device.minor)], staging, signal);
    }
    for (const { name, path } of numbered) await rename(join(staging, name), path);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function make(
  program: 'mkfifo' | 'mknod',
  words: readonly string[],
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const complaint = await runProgram({ program, words, directory, signal });
  checkNotAborted(signal);
  if (complaint === null) return;
  const code = /not permitted/.test(complaint) ? 'ZFS_PERMISSION' : 'PROGRAM_FAILED';
  const advice = code === 'ZFS_PERMISSION' ? 'run Pando as root' : `${program} says "${firstLineOf(complaint)}"`;
  throw new PandoError(code, `A fifo or device of the layer could not be made: ${advice}.`, {
    program,
    complaint,
  });
}
