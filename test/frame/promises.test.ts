import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runScript, writeTree } from './run-script.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const command = fileURLToPath(new URL('./check-promises.mjs', import.meta.url));

const dropped = `
import { rm } from 'node:fs/promises';
import PQueue from 'p-queue';
export function drop(port: { close(): Promise<void> }, maybe?: () => Promise<void>): void {
  rm('a');
  new PQueue().add(async () => 1);
  port.close();
  maybe?.();
  rm('a').then(() => 1);
}`;

const kept = `
import { rm } from 'node:fs/promises';
export async function keep(handle: (error: unknown) => void): Promise<void> {
  let later: Promise<void>;
  later = rm('a');
  await later;
  void rm('a');
  rm('a').catch(handle);
  rm('a').then(() => {}, handle);
}`;

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'pando-promises-'));
  await symlink(join(checkout, 'node_modules'), join(root, 'node_modules'));
  await writeTree(root, {
    'package.json': '{ "type": "module" }',
    'tsconfig.json': JSON.stringify({ extends: join(checkout, 'tsconfig.json'), include: ['*.ts'] }),
  });
});
afterEach(() => rm(root, { recursive: true }));

test('a promise that a statement drops is found; one that is awaited, kept, handled or voided is not', async () => {
  await writeTree(root, { 'dropped.ts': dropped, 'kept.ts': kept });
  const { exitCode, stdout, problems } = await runScript(command, root);
  expect(problems.map((problem) => /(\w+\.ts:\d+):/.exec(problem)?.[1])).toEqual([
    'dropped.ts:5',
    'dropped.ts:6',
    'dropped.ts:7',
    'dropped.ts:8',
    'dropped.ts:9',
  ]);
  expect(stdout).toBe('2 files, 5 promises that nobody awaits\n');
  expect(exitCode).toBe(1);
});
