import { cp, mkdtemp, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runScript, type ScriptResult, writeTree } from './run-script.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const ownFiles = ['test/frame/run-all.mjs', 'peers/provision/bootstrap.mjs'];

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
}

const unit: Report = { numPassedTests: 40, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0 };
const platform: Report = { numPassedTests: 2, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0 };

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'pando-run-all-'));
  for (const file of ownFiles) await cp(join(checkout, file), join(root, file));
});
afterEach(() => rm(root, { recursive: true }));

/** A vitest that ran, wrote its report to the file that its option names, and ended. */
function reporting(report: Report, exitCode = 0): string {
  return `node report.cjs '${JSON.stringify(report)}' ${exitCode}`;
}

/** A checkout whose scripts only do what a test wants to see; dependencies are installed unless it says otherwise. */
async function runAll(scripts: Readonly<Record<string, string>>, ...parameters: string[]): Promise<ScriptResult> {
  const every = { typecheck: 'true', lint: 'true', imports: 'true', 'dead-code': 'true', build: 'true' };
  const tests = { 'test:unit': reporting(unit), 'test:platform': reporting(platform) };
  await writeTree(root, {
    'package.json': JSON.stringify({ name: 'checkout', version: '1.0.0', scripts: { ...every, ...tests, ...scripts } }),
    'package-lock.json': '{"name":"checkout","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{}}}',
    'node_modules/.package-lock.json': '{}',
    'report.cjs': [
      "const file = process.argv.find((parameter) => parameter.startsWith('--outputFile.json=')).split('=')[1];",
      "require('node:fs').writeFileSync(file, process.argv[2]);",
      'process.exit(Number(process.argv[3]));',
    ].join('\n'),
  });
  return runScript(join(root, 'test/frame/run-all.mjs'), ...parameters);
}

/** The stages that ran, in order. */
function stagesOf({ stdout }: ScriptResult): string[] {
  return [...stdout.matchAll(/^== (\S+)$/gm)].map((match) => match[1] ?? '');
}

function lastLine({ stdout }: ScriptResult): string | undefined {
  return stdout.trimEnd().split('\n').at(-1);
}

describe('npm test', () => {
  test('runs every stage and ends with the tests of both projects added up', async () => {
    const result = await runAll({});
    expect(stagesOf(result)).toEqual([
      'typecheck',
      'lint',
      'imports',
      'dead-code',
      'build',
      'test:unit',
      'test:platform',
    ]);
    expect(lastLine(result)).toBe('42 passed, 0 failed');
    expect(result.exitCode).toBe(0);
  });

  test('--without-platform leaves out real ZFS, and says so', async () => {
    const result = await runAll({ 'test:platform': 'false' }, '--without-platform');
    expect(stagesOf(result)).not.toContain('test:platform');
    expect(result.stdout).toContain('test:platform is left out (--without-platform).\n');
    expect(lastLine(result)).toBe('40 passed, 0 failed');
    expect(result.exitCode).toBe(0);
  });

  test('stops at the first stage that fails and counts it', async () => {
    const result = await runAll({ imports: 'exit 3' });
    expect(stagesOf(result)).toEqual(['typecheck', 'lint', 'imports']);
    expect(lastLine(result)).toBe('0 passed, 1 failed');
    expect(result.exitCode).toBe(1);
  });

  test('counts failed and skipped tests as vitest reported them', async () => {
    const failing = { numPassedTests: 7, numFailedTests: 2, numPendingTests: 3, numTodoTests: 1 };
    const result = await runAll({ 'test:unit': reporting(failing, 1) });
    expect(stagesOf(result).at(-1)).toBe('test:unit');
    expect(lastLine(result)).toBe('7 passed, 2 failed, 4 skipped');
    expect(result.exitCode).toBe(1);
  });

  test('a test run that ends badly without a failing test is a failure all the same', async () => {
    const result = await runAll({ 'test:platform': reporting(platform, 1) });
    expect(lastLine(result)).toBe('42 passed, 1 failed');
    expect(result.exitCode).toBe(1);
  });

  test('refuses an option that it does not know', async () => {
    const result = await runAll({}, '--fast');
    expect(result.problems).toEqual(['"--fast" is no option of npm test; there is --without-platform only.']);
    expect(result.exitCode).toBe(2);
  });

  test('installs the dependencies first when they are older than the lockfile', async () => {
    await runAll({}, '--without-platform');
    const longAgo = new Date(0);
    await utimes(join(root, 'node_modules/.package-lock.json'), longAgo, longAgo);
    const result = await runScript(join(root, 'test/frame/run-all.mjs'), '--without-platform');
    expect(result.stdout).toMatch(/^Installing the dependencies that package-lock\.json names \(npm ci\) …\n/);
    expect(lastLine(result)).toBe('40 passed, 0 failed');
  });
});
