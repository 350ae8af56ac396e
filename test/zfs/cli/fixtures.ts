import { readFileSync } from 'node:fs';
import type { ChildEnding } from '../../../src/zfs/cli/children/child.ts';

/** A command and what it printed, recorded by fixtures/zfs/record.mjs. */
export interface Recorded extends ChildEnding {
  readonly argv: readonly string[];
  readonly stdout: string;
}

/** The ZFS versions that were recorded. */
export const VERSIONS = ['zfs-fuse-0.7.0', 'openzfs-2.3.2'] as const;
export type Version = (typeof VERSIONS)[number];

/** One recorded command. */
export function recorded(version: Version, name: string): Recorded {
  const path = new URL(`../../../fixtures/zfs/${version}/${name}.json`, import.meta.url);
  return { ...(JSON.parse(readFileSync(path, 'utf8')) as Omit<Recorded, 'started'>), started: true };
}

/** The lines of its standard output. */
export function linesOf({ stdout }: Recorded): string[] {
  return stdout.replace(/\n$/, '').split('\n');
}
