import { execFileSync } from 'node:child_process';

/** Processes that this one started and that have not ended. */
export function children(): string[] {
  const listed = execFileSync('ps', ['--ppid', String(process.pid), '-o', 'comm=']).toString();
  return listed.split('\n').filter((name) => name !== '' && name !== 'ps');
}
